//! The corners and the middle of an image.

use candle_core::{Result as TensorResult, Tensor, bail};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{TestTimeAugmentation, mirrored, pixels_at};
use crate::Result;
use crate::error::require;
use crate::parts::described;

/// The mean over five parts of an image: its corners and its middle.
///
/// The images must be larger than a part: `resize` to 256 without `center_crop`, for parts of 224.
///
/// In a recipe: `tta = { name = "five_crop", size = 224 }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FiveCrop {
    size: usize,
}

impl FiveCrop {
    /// Parts of this height and width in pixels.
    pub fn new(size: usize) -> Self {
        Self { size }
    }
}

/// The mean over ten parts of an image: its corners, its middle, and the mirror images of these (Krizhevsky et al. 2012,
/// section 4.1).
///
/// In a recipe: `tta = { name = "ten_crop", size = 224 }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenCrop {
    size: usize,
}

impl TenCrop {
    /// Parts of this height and width in pixels.
    pub fn new(size: usize) -> Self {
        Self { size }
    }
}

/// Upper left, upper right, lower left, lower right, middle.
fn parts(images: &Tensor, size: usize) -> TensorResult<Vec<Tensor>> {
    let (_, _, height, width) = images.dims4()?;
    if height < size || width < size {
        bail!("crops of {size}x{size} need larger images than {height}x{width}")
    }
    let (bottom, right) = (height - size, width - size);
    // Halves are rounded to even, as for `center_crop`.
    let middle = |free: usize| (free as f64 / 2.0).round_ties_even() as usize;
    let corners =
        [(0, 0), (0, right), (bottom, 0), (bottom, right), (middle(bottom), middle(right))];
    let place = |first: usize| (first as u32..(first + size) as u32).collect::<Vec<_>>();
    let part = |(top, left): (usize, usize)| pixels_at(images, Some(&place(top)), &place(left));
    corners.into_iter().map(part).collect()
}

impl TestTimeAugmentation for FiveCrop {
    fn views(&self, images: &Tensor) -> TensorResult<Vec<(Tensor, f64)>> {
        Ok(parts(images, self.size)?.into_iter().map(|part| (part, 0.2)).collect())
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        require(self.size > 0, "tta.size", self.size, "at least 1")
    }
}

impl TestTimeAugmentation for TenCrop {
    fn views(&self, images: &Tensor) -> TensorResult<Vec<(Tensor, f64)>> {
        let columns = mirrored(self.size);
        let mut views = Vec::new();
        for part in parts(images, self.size)? {
            let mirror_image = pixels_at(&part, None, &columns)?;
            views.extend([(part, 0.1), (mirror_image, 0.1)]);
        }
        Ok(views)
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        require(self.size > 0, "tta.size", self.size, "at least 1")
    }
}

impl From<FiveCrop> for Description {
    fn from(tta: FiveCrop) -> Self {
        described("five_crop", &tta)
    }
}

impl From<TenCrop> for Description {
    fn from(tta: TenCrop) -> Self {
        described("ten_crop", &tta)
    }
}
