//! The image and its mirror image, also moved a little.

use candle_core::{Result as TensorResult, Tensor, bail};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Mirror, TestTimeAugmentation, mirrored, pixels_at};
use crate::Result;
use crate::error::require;
use crate::parts::described;

/// The mean over six views: an image and its mirror image with a weight of 1/4 each, and both seen from a little further
/// to the upper left and to the lower right with a weight of 1/8 each. What lies outside the image is its reflection.
///
/// It is the evaluation of the CIFAR-10 speed records (Jordan 2024, <https://arxiv.org/abs/2404.00498>, section 3.5).
///
/// In a recipe: `tta = { name = "mirror_shift", pixels = 1 }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MirrorShift {
    pixels: usize,
}

impl MirrorShift {
    /// Views that are moved by one pixel.
    pub fn new() -> Self {
        Self { pixels: 1 }
    }

    /// Sets by how many pixels the views are moved.
    pub fn pixels(self, pixels: usize) -> Self {
        Self { pixels }
    }
}

impl Default for MirrorShift {
    fn default() -> Self {
        Self::new()
    }
}

impl TestTimeAugmentation for MirrorShift {
    fn views(&self, images: &Tensor) -> TensorResult<Vec<(Tensor, f64)>> {
        let (_, _, height, width) = images.dims4()?;
        if self.pixels >= height.min(width) {
            let by = self.pixels;
            bail!("a shift by {by} pixels needs larger images than {height}x{width}")
        }
        let mut views = Mirror::new().views(images)?;
        views.iter_mut().for_each(|(_, weight)| *weight /= 2.0);
        for by in [-(self.pixels as i64), self.pixels as i64] {
            let (rows, columns) = (moved(height, by), moved(width, by));
            let view = pixels_at(images, Some(&rows), &columns)?;
            let mirror_image = pixels_at(&view, None, &mirrored(width))?;
            views.extend([(view, 0.125), (mirror_image, 0.125)]);
        }
        Ok(views)
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        require(self.pixels > 0, "tta.pixels", self.pixels, "at least 1")
    }
}

impl From<MirrorShift> for Description {
    fn from(tta: MirrorShift) -> Self {
        described("mirror_shift", &tta)
    }
}

/// The places of an axis of `size` pixels that is looked at from `by` pixels further on. Places beyond an end are
/// reflected at the pixel there, which is not repeated.
fn moved(size: usize, by: i64) -> Vec<u32> {
    let last = size as i64 - 1;
    let reflected = |place: i64| last - (last - place.abs()).abs();
    (0..=last).map(|place| reflected(place + by) as u32).collect()
}
