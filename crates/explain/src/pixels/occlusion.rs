//! Occlusion (Zeiler and Fergus 2014, <https://arxiv.org/abs/1311.2901>).

use candle_core::Tensor;
use candle_vision_models::Model;

use super::{Attributions, Inquiry};
use crate::{Error, Method, Result, Target};

impl Method {
    /// What the score loses when a patch is covered (Zeiler and Fergus 2014); slow.
    pub const OCCLUSION: Self = Self::pixels(
        "occlusion",
        "what the score loses when a patch is covered (Zeiler and Fergus 2014); slow",
        |model, images, target| occlusion(model, images, target, &Occlusion::default())?.maps(),
    );
}

/// How many covered images go through the network in one pass.
const CHUNK: usize = 16;

/// The patch that [`occlusion`] moves over each image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Occlusion {
    /// Side of the patch in pixels. By default an eighth of the image's shorter side, rounded up.
    pub window: Option<usize>,
    /// Distance from one position to the next, in pixels. By default half a patch, rounded up.
    pub stride: Option<usize>,
    /// The value of a covered pixel. 0 is the mean colour of normalised images.
    pub fill: f64,
}

impl Default for Occlusion {
    fn default() -> Self {
        Self { window: None, stride: None, fill: 0.0 }
    }
}

/// What the score loses when a patch covers a pixel, averaged over the positions of the patch that cover it.
/// The method needs no gradient, but one forward pass for each position.
///
/// # Shapes
/// - `images`: `[batch, channels, height, width]`, preprocessed as in training
/// - the returned values are `[batch, 1, height, width]`
///
/// # Errors
/// Those of [`saliency`](crate::saliency). Also if the patch or its stride is 0 or larger than the image's
/// shorter side.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{Occlusion, Target, occlusion};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let patch = Occlusion { window: Some(16), stride: Some(8), fill: 0.0 };
/// let lost = occlusion(model.as_ref(), &images, &Target::Predicted, &patch)?;
/// assert_eq!(lost.values.dims(), [1, 1, 32, 32]);
/// # Ok(())
/// # }
/// ```
pub fn occlusion(
    model: &dyn Model,
    images: &Tensor,
    target: &Target,
    patch: &Occlusion,
) -> Result<Attributions> {
    let inquiry = Inquiry::new(model, images, target)?;
    let (batch, _, height, width) = images.dims4()?;
    let patch = Patch::new(patch, height, width)?;
    let places = patch.places(height, width);
    let mut values = Vec::with_capacity(batch * height * width);
    for index in 0..batch {
        values.extend(lost_by_pixel(&inquiry, index, &patch, &places)?);
    }
    let values = Tensor::from_vec(values, (batch, 1, height, width), images.device())?;
    Ok(inquiry.attributions(values, true))
}

struct Patch {
    window: usize,
    stride: usize,
    fill: f64,
}

impl Patch {
    fn new(options: &Occlusion, height: usize, width: usize) -> Result<Self> {
        let side = height.min(width);
        let window = options.window.unwrap_or(side.div_ceil(8));
        let stride = options.stride.unwrap_or(window.div_ceil(2));
        let range = "at least 1 pixel and at most the image's shorter side";
        for (setting, value) in [("window", window), ("stride", stride)] {
            if value == 0 || value > side {
                return Err(Error::Setting { setting, range, found: value.to_string() });
            }
        }
        Ok(Self { window, stride, fill: options.fill })
    }

    /// The upper left corners of the patch. The last patch of each row and column ends at the edge of the
    /// image.
    fn places(&self, height: usize, width: usize) -> Vec<[usize; 2]> {
        let along = |side: usize| {
            let last = side - self.window;
            (0..last).step_by(self.stride).chain([last]).collect::<Vec<_>>()
        };
        let columns = along(width);
        along(height).into_iter().flat_map(|y| columns.iter().map(move |x| [y, *x])).collect()
    }

    /// The mask of the patch at this place: 1 under the patch, 0 elsewhere.
    fn cover(&self, [top, left]: [usize; 2], height: usize, width: usize) -> Vec<f32> {
        let inside = |at: usize, start: usize| (start..start + self.window).contains(&at);
        let pixel = |i: usize| inside(i / width, top) && inside(i % width, left);
        (0..height * width).map(|i| f32::from(u8::from(pixel(i)))).collect()
    }
}

fn lost_by_pixel(
    inquiry: &Inquiry<'_>,
    index: usize,
    patch: &Patch,
    places: &[[usize; 2]],
) -> Result<Vec<f32>> {
    let image = inquiry.images.narrow(0, index, 1)?;
    let (_, _, height, width) = image.dims4()?;
    let response = inquiry.question.run_unhooked(&image)?;
    let whole = inquiry.asked.variant_scores(index, &response)?[0];
    let (mut lost, mut times) = (vec![0f64; height * width], vec![0f64; height * width]);
    for places in places.chunks(CHUNK) {
        let covers: Vec<f32> =
            places.iter().flat_map(|place| patch.cover(*place, height, width)).collect();
        let mask = Tensor::from_slice(&covers, (places.len(), 1, height, width), image.device())?;
        let mask = mask.to_dtype(image.dtype())?;
        // `fill` where the mask is 1, the image elsewhere.
        let change = image.affine(-1.0, patch.fill)?;
        let covered = image.broadcast_add(&mask.broadcast_mul(&change)?)?;
        let response = inquiry.question.run_unhooked(&covered)?;
        let scores = inquiry.asked.variant_scores(index, &response)?;
        for (cover, score) in covers.chunks(height * width).zip(scores) {
            for (pixel, covered) in cover.iter().enumerate().filter(|(_, covered)| **covered > 0.0)
            {
                lost[pixel] += f64::from(*covered) * (whole - score);
                times[pixel] += 1.0;
            }
        }
    }
    // A stride larger than the window leaves pixels that no patch has covered. Nothing is known of them, and
    // they become 0.
    Ok(lost.iter().zip(&times).map(|(lost, times)| (lost / times.max(1.0)) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_reach_the_last_row_and_column() -> Result<()> {
        let patch = Patch::new(&Occlusion { window: Some(3), ..Occlusion::default() }, 7, 4)?;
        assert_eq!(patch.stride, 2);
        let places = patch.places(7, 4);
        assert_eq!(places, [[0, 0], [0, 1], [2, 0], [2, 1], [4, 0], [4, 1]]);
        let cover = patch.cover([4, 1], 7, 4);
        assert_eq!(cover.iter().sum::<f32>(), 9.0);
        assert_eq!(cover[27], 1.0);
        Ok(())
    }
}
