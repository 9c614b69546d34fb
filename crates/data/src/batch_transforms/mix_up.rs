//! MixUp.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::mix::{channels_first, channels_last, check_alpha, mixed};
use super::{BatchTransform, BatchTransformEntry, BatchValues, describe};
use crate::error::Result;
use crate::random::{self, Generator};

const NAME: &str = "mixup";

pub(super) fn entry() -> BatchTransformEntry {
    BatchTransformEntry::of::<MixUp>(NAME, "blends each image with another of its batch")
}

/// Blends each image with the one before it in its batch, and their targets alike (Zhang et al. 2018, "mixup: Beyond
/// Empirical Risk Minimization").
///
/// The share of the image itself is a number of the beta distribution with both parameters `alpha`, one for the whole
/// batch. 1, the default, makes every share as likely. Below 1, most images stay almost alone.
///
/// In a recipe: `batch_transforms = [{ op = "mixup", alpha = 0.2 }]`.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_data::batch_transforms::{BatchTransform, BatchValues, MixUp};
/// use candle_vision_data::random;
///
/// let images = Tensor::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu)?;
/// let targets = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let mix_up = MixUp::new(0.2);
/// let share = mix_up.draw(&mut random::generator(0));
/// let mixed = mix_up.apply(BatchValues { images, targets }, &mut random::generator(0))?;
/// assert_eq!(mixed.targets.to_vec2::<f32>()?[1], [(1.0 - share) as f32, share as f32]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixUp {
    alpha: f64,
}

impl MixUp {
    /// Shares from the beta distribution with both parameters `alpha`.
    pub fn new(alpha: f64) -> Self {
        Self { alpha }
    }

    /// The share of each image in its mixture, `0.0..=1.0`.
    pub fn draw(&self, rng: &mut Generator) -> f64 {
        random::beta(rng, self.alpha, self.alpha)
    }
}

impl Default for MixUp {
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl BatchTransform for MixUp {
    fn apply(&self, batch: BatchValues, rng: &mut Generator) -> Result<BatchValues> {
        if batch.targets.dim(0)? < 2 {
            return Ok(batch);
        }
        let share = self.draw(rng);
        let images = mixed(&channels_last(&batch.images)?, share)?;
        Ok(BatchValues { images: channels_first(&images)?, targets: mixed(&batch.targets, share)? })
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn validate(&self) -> Result<()> {
        check_alpha(NAME, self.alpha)
    }
}
