//! The image and its mirror image.

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{TestTimeAugmentation, mirrored, pixels_at};
use crate::parts::described;

/// The mean over an image and its mirror image, left to right.
///
/// In a recipe: `tta = { name = "mirror" }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Mirror {}

impl Mirror {
    /// Both views with the same weight.
    pub fn new() -> Self {
        Self {}
    }
}

impl TestTimeAugmentation for Mirror {
    fn views(&self, images: &Tensor) -> TensorResult<Vec<(Tensor, f64)>> {
        let columns = mirrored(images.dim(3)?);
        Ok(vec![(images.clone(), 0.5), (pixels_at(images, None, &columns)?, 0.5)])
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }
}

impl From<Mirror> for Description {
    fn from(tta: Mirror) -> Self {
        described("mirror", &tta)
    }
}
