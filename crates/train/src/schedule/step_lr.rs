//! A rate that falls every few epochs.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{EpochEnd, Memory, Schedule};
use crate::Result;
use crate::error::require;
use crate::parts::described;

/// Multiplies the rate by `gamma` every `step_size` epochs, as PyTorch's `StepLR`.
///
/// In a recipe: `schedule = { name = "step_lr", step_size = 7 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLr {
    /// Number of epochs between two changes.
    step_size: usize,
    /// Factor of a change.
    #[serde(default = "default_gamma")]
    gamma: f64,
}

pub(super) fn default_gamma() -> f64 {
    0.1
}

impl StepLr {
    /// Multiplies the rate by `gamma` every `step_size` epochs.
    pub fn new(step_size: usize, gamma: f64) -> Self {
        Self { step_size, gamma }
    }
}

impl Schedule for StepLr {
    fn next(&self, end: &EpochEnd<'_>, _: &mut Memory) -> Result<f64> {
        Ok(if end.epoch.is_multiple_of(self.step_size) { end.lr * self.gamma } else { end.lr })
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self, _: f64) -> Result<()> {
        require(self.step_size > 0, "schedule.step_size", self.step_size, "at least 1")?;
        require_gamma(self.gamma)
    }
}

pub(super) fn require_gamma(gamma: f64) -> Result<()> {
    require(gamma > 0.0 && gamma.is_finite(), "schedule.gamma", gamma, "a positive number")
}

impl From<StepLr> for Description {
    fn from(schedule: StepLr) -> Self {
        described("step_lr", &schedule)
    }
}
