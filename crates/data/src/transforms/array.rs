//! Converts 8-bit pixels to the values for a network. One table does both `to_tensor` and `normalize`.

mod quotients;

use candle_core::{Device, Tensor};
use quotients::Quotients;

use super::Normalize;
use crate::error::{Error, Result};
use crate::image::Image;

/// The values of one transformed image, ready for a network: f32, channels last.
///
/// After [`ToTensor`](super::ToTensor) alone the values are in `0.0..=1.0`. [`Normalize`] shifts and scales
/// them. [`Compose::undo_normalize`](super::Compose::undo_normalize) turns them back into an image.
///
/// ```
/// use candle_core::Device;
/// use candle_vision_data::Image;
/// use candle_vision_data::transforms::{Compose, ToTensor};
///
/// let array = Compose::new().with(ToTensor).eval(&Image::new(2, 1, 3, vec![0, 0, 255, 255, 0, 0])?)?;
/// assert_eq!(array.shape(), [1, 2, 3]);
/// assert_eq!(array.values(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
/// assert_eq!(array.to_batch(&Device::Cpu)?.dims(), [1, 3, 1, 2]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
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

    /// One image of a batch.
    ///
    /// - `images`: `[batch, channels, height, width]`, f32
    ///
    /// # Errors
    /// If the batch has another shape or type, or no such image.
    pub fn of_batch(images: &Tensor, image: usize) -> Result<Self> {
        let (_, channels, height, width) = images.dims4()?;
        let values = images.get(image)?.permute((1, 2, 0))?.flatten_all()?.to_vec1()?;
        Ok(Self::new([height, width, channels], values))
    }

    /// The shape, `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// All values, `[height, width, channels]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// A batch that contains only this image.
    ///
    /// # Shapes
    /// Returns `[1, channels, height, width]`, a permuted view of channels-last memory.
    ///
    /// # Errors
    /// If the device has not enough memory.
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

/// The result for each 8-bit value, for one or for three channels.
pub(super) struct ValueTable {
    tables: Vec<[f32; 256]>,
    /// The same results, computed several at a time, if that gives the same bits.
    quotients: Option<Quotients>,
}

impl ValueTable {
    /// The table for the steps after the last image transform: `to_tensor` and any `normalize`.
    pub(super) fn new<'a>(
        steps: impl Iterator<Item = &'a Normalize>,
        channels: usize,
    ) -> Result<Self> {
        let mut settings = Vec::new();
        let scaled: [f32; 256] = std::array::from_fn(|value| value as f32 / 255.0);
        let mut tables = vec![scaled; channels];
        for step in steps {
            for (channel, table) in tables.iter_mut().enumerate() {
                let (mean, std) = step.of_channel(channel, channels)?;
                let (mean, std) = (mean as f32, std as f32);
                settings.push((mean, std));
                table.iter_mut().for_each(|value| *value = (*value - mean) / std);
            }
        }
        let quotients = Quotients::of(&settings, &tables);
        Ok(Self { tables, quotients })
    }

    /// Appends the values of `image`, channels last.
    pub(super) fn append(&self, image: &Image, values: &mut Vec<f32>) {
        if let Some(quotients) = &self.quotients {
            return quotients.append(image.pixels(), values);
        }
        match self.tables.as_slice() {
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

/// The scale and the shift of each channel for 8-bit pixels. They combine `to_tensor` and every `normalize`
/// among `steps`.
pub(super) fn scale_and_shift<'a>(
    steps: impl Iterator<Item = &'a Normalize> + Clone,
    channels: usize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (mut scales, mut shifts) = (Vec::new(), Vec::new());
    for channel in 0..channels {
        // The computation is in f64, so that there is only one rounding at the end.
        let (mut scale, mut shift) = (1.0 / 255.0, 0.0);
        for step in steps.clone() {
            let (mean, std) = step.of_channel(channel, channels)?;
            scale /= std;
            shift = (shift - mean) / std;
        }
        scales.push(scale as f32);
        shifts.push(shift as f32);
    }
    Ok((scales, shifts))
}

/// Stacks named arrays to one batch, `[arrays, channels, height, width]`.
pub(super) fn stack(arrays: &[(String, Array)], device: &Device) -> Result<Tensor> {
    let Some((first, array)) = arrays.first() else {
        return Err(Error::InvalidSetting { setting: "paths", reason: "are none".to_owned() });
    };
    let [height, width, channels] = array.shape();
    if let Some((name, other)) = arrays.iter().find(|(_, other)| other.shape() != array.shape()) {
        return Err(Error::mixed_shapes((first, array.shape()), (name, other.shape())));
    }
    let values: Vec<f32> = arrays.iter().flat_map(|(_, array)| array.values()).copied().collect();
    let shape = (arrays.len(), height, width, channels);
    Ok(Tensor::from_vec(values, shape, device)?.permute((0, 3, 1, 2))?)
}
