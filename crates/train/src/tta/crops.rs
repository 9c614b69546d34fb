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
/// The images must be larger than a part: `resize` to `[256, 256]` without `center_crop`, for parts of 224. Without a size,
/// a part has 7/8 of the shorter side, as 224 of 256.
///
/// In a recipe: `tta = { name = "five_crop", size = 224 }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FiveCrop {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
}

impl FiveCrop {
    /// Parts of this height and width in pixels.
    pub fn new(size: usize) -> Self {
        Self { size: Some(size) }
    }
}

/// The mean over ten parts of an image: its corners, its middle, and the mirror images of these (Krizhevsky et al. 2012,
/// section 4.1).
///
/// In a recipe: `tta = { name = "ten_crop", size = 224 }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenCrop {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
}

impl TenCrop {
    /// Parts of this height and width in pixels.
    pub fn new(size: usize) -> Self {
        Self { size: Some(size) }
    }
}

/// The side of a part of images of `[height, width]`.
fn side(size: Option<usize>, [height, width]: [usize; 2]) -> usize {
    size.unwrap_or((height.min(width) * 7 / 8).max(1))
}

/// Upper left, upper right, lower left, lower right, middle.
fn parts(images: &Tensor, size: Option<usize>) -> TensorResult<Vec<Tensor>> {
    let (_, _, height, width) = images.dims4()?;
    let size = side(size, [height, width]);
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

    fn view_size(&self, images: [usize; 2]) -> [usize; 2] {
        [side(self.size, images); 2]
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        let size = self.size.unwrap_or(1);
        require(size > 0, "tta.size", size, "at least 1")
    }
}

impl TestTimeAugmentation for TenCrop {
    fn views(&self, images: &Tensor) -> TensorResult<Vec<(Tensor, f64)>> {
        let mut views = Vec::new();
        for part in parts(images, self.size)? {
            let columns = mirrored(part.dim(3)?);
            let mirror_image = pixels_at(&part, None, &columns)?;
            views.extend([(part, 0.1), (mirror_image, 0.1)]);
        }
        Ok(views)
    }

    fn view_size(&self, images: [usize; 2]) -> [usize; 2] {
        [side(self.size, images); 2]
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        let size = self.size.unwrap_or(1);
        require(size > 0, "tta.size", size, "at least 1")
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
