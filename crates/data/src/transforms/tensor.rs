//! From 8-bit pixels to the numbers a network takes: `to_tensor` and `normalize` as one table.

use candle_core::{Device, Tensor};

use super::Transform;
use crate::error::{Error, Result};
use crate::image::Image;

/// The values of one transformed image, channels last.
#[derive(Clone, PartialEq)]
pub struct Array {
    height: usize,
    width: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Array {
    pub(super) fn new([height, width, channels]: [usize; 3], values: Vec<f32>) -> Self {
        debug_assert_eq!(values.len(), height * width * channels);
        Self { height, width, channels, values }
    }

    /// `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// All values, `[height, width, channels]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// A batch of this one image.
    ///
    /// # Shapes
    /// Returns `[1, channels, height, width]`, a permuted view of channels-last memory.
    ///
    /// # Errors
    /// If the device has no room for it.
    pub fn to_batch(&self, device: &Device) -> Result<Tensor> {
        let shape = (1, self.height, self.width, self.channels);
        Ok(Tensor::from_vec(self.values.clone(), shape, device)?.permute((0, 3, 1, 2))?)
    }
}

impl std::fmt::Debug for Array {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Array({}x{}x{})", self.height, self.width, self.channels)
    }
}

/// What each 8-bit value becomes, for one or for three channels.
pub(super) struct ValueTable(Vec<[f32; 256]>);

impl ValueTable {
    /// The steps after the last image transform: `to_tensor` and any `normalize`.
    pub(super) fn new(steps: &[Transform], channels: usize) -> Result<Self> {
        let scaled: [f32; 256] = std::array::from_fn(|value| value as f32 / 255.0);
        let mut tables = vec![scaled; channels];
        for step in steps {
            let Transform::Normalize { mean, std } = step else {
                continue;
            };
            for (channel, table) in tables.iter_mut().enumerate() {
                let mean = of_channel(mean, channel, channels)? as f32;
                let std = of_channel(std, channel, channels)? as f32;
                table.iter_mut().for_each(|value| *value = (*value - mean) / std);
            }
        }
        Ok(Self(tables))
    }

    /// Appends the values of `image`, channels last.
    pub(super) fn append(&self, image: &Image, values: &mut Vec<f32>) {
        match self.0.as_slice() {
            [red, green, blue] => {
                let (pixels, _) = image.pixels().as_chunks::<3>();
                values.extend(pixels.iter().flat_map(|&[r, g, b]| {
                    [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]]
                }));
            }
            tables => {
                let grey = &tables[0];
                values.extend(image.pixels().iter().map(|&value| grey[usize::from(value)]));
            }
        }
    }
}

/// The scale and the shift of each channel that `to_tensor` and the `normalize` among `steps` come to,
/// for 8-bit pixels.
pub(super) fn scale_and_shift(
    steps: &[Transform],
    channels: usize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (mut scales, mut shifts) = (Vec::new(), Vec::new());
    for channel in 0..channels {
        // In f64: rounded once, at the end.
        let (mut scale, mut shift) = (1.0 / 255.0, 0.0);
        for step in steps {
            let Transform::Normalize { mean, std } = step else { continue };
            let std = of_channel(std, channel, channels)?;
            scale /= std;
            shift = (shift - of_channel(mean, channel, channels)?) / std;
        }
        scales.push(scale as f32);
        shifts.push(shift as f32);
    }
    Ok((scales, shifts))
}

pub(super) fn of_channel(values: &[f64], channel: usize, channels: usize) -> Result<f64> {
    match values {
        [one] => Ok(*one),
        values if values.len() == channels => Ok(values[channel]),
        values => {
            let reason = format!("{} numbers for an image of {channels} channels", values.len());
            Err(Error::transform("normalize", reason))
        }
    }
}
