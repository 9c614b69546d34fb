//! A rate that falls along half a cosine.

use std::f64::consts::PI;

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{EpochEnd, Memory, Schedule};
use crate::Result;
use crate::error::require;
use crate::parts::described;

/// Lowers the rate along half a cosine to `eta_min` in `t_max` epochs. It rises again after that, as in
/// PyTorch's `CosineAnnealingLR`.
///
/// In a recipe: `schedule = { name = "cosine_annealing_lr" }`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosineAnnealingLr {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t_max: Option<usize>,
    #[serde(default)]
    eta_min: f64,
}

impl CosineAnnealingLr {
    /// Lowers the rate to 0 within the epochs of the run, not counting those of a warm-up.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of epochs from the highest to the lowest rate.
    pub fn t_max(self, epochs: usize) -> Self {
        Self { t_max: Some(epochs), ..self }
    }

    /// Lowest rate. 0 by default.
    pub fn eta_min(self, eta_min: f64) -> Self {
        Self { eta_min, ..self }
    }
}

impl Schedule for CosineAnnealingLr {
    fn next(&self, end: &EpochEnd<'_>, _: &mut Memory) -> Result<f64> {
        let t_max = self.t_max.unwrap_or(end.run.epochs.max(1));
        Ok(next_on_cosine(end.lr, end.base_lr, end.epoch, t_max, self.eta_min))
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn depends_on_length(&self) -> bool {
        self.t_max.is_none()
    }

    fn validate(&self, base_lr: f64) -> Result<()> {
        require(self.t_max != Some(0), "schedule.t_max", 0, "at least 1")?;
        require_lowest("schedule.eta_min", self.eta_min, base_lr)
    }
}

pub(super) fn require_lowest(setting: &str, lr: f64, base_lr: f64) -> Result<()> {
    let expected = format!("at least 0 and at most the learning rate {base_lr}");
    require((0.0..=base_lr).contains(&lr), setting, lr, &expected)
}

/// PyTorch's recursion. The rate rises again past `t_max`.
fn next_on_cosine(lr: f64, base_lr: f64, epoch: usize, t_max: usize, eta_min: f64) -> f64 {
    let height = |epoch: usize| 1.0 + (PI * epoch as f64 / t_max as f64).cos();
    // After the lowest point the ratio below would divide by zero.
    if epoch > t_max && (epoch - 1 - t_max).is_multiple_of(2 * t_max) {
        return lr + (base_lr - eta_min) * height(t_max - 1) / 2.0;
    }
    height(epoch) / height(epoch - 1) * (lr - eta_min) + eta_min
}

impl From<CosineAnnealingLr> for Description {
    fn from(schedule: CosineAnnealingLr) -> Self {
        described("cosine_annealing_lr", &schedule)
    }
}
