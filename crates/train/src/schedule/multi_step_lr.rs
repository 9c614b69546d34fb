//! A rate that falls at given epochs.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::step_lr::{default_gamma, require_gamma};
use super::{EpochEnd, Memory, Schedule};
use crate::Result;
use crate::parts::described;

/// Multiplies the rate by `gamma` after each number of epochs in `milestones`, as PyTorch's `MultiStepLR`.
/// A milestone that is listed twice counts twice.
///
/// In a recipe: `schedule = { name = "multi_step_lr", milestones = [30, 60] }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiStepLr {
    milestones: Vec<usize>,
    #[serde(default = "default_gamma")]
    gamma: f64,
}

impl MultiStepLr {
    /// Multiplies the rate by `gamma` after each number of epochs in `milestones`.
    pub fn new(milestones: impl Into<Vec<usize>>, gamma: f64) -> Self {
        Self { milestones: milestones.into(), gamma }
    }
}

impl Schedule for MultiStepLr {
    fn next(&self, end: &EpochEnd<'_>, _: &mut Memory) -> Result<f64> {
        let times = self.milestones.iter().filter(|&&epoch| epoch == end.epoch).count();
        Ok(end.lr * self.gamma.powi(times as i32))
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self, _: f64) -> Result<()> {
        require_gamma(self.gamma)
    }
}

impl From<MultiStepLr> for Description {
    fn from(schedule: MultiStepLr) -> Self {
        described("multi_step_lr", &schedule)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::monitor::Measured;
    use crate::record::EpochRecord;
    use crate::schedule::{LearningRate, RunLength};

    // opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    // s = torch.optim.lr_scheduler.MultiStepLR(opt, milestones=[3, 5, 5, 8], gamma=0.5)
    // for e in range(10):
    //     print(opt.param_groups[0]["lr"]); opt.step(); s.step()
    #[test]
    fn rates_are_pytorchs() {
        let expected = [0.1, 0.1, 0.1, 0.05, 0.05, 0.0125, 0.0125, 0.0125, 0.00625, 0.00625];
        let schedule = Arc::new(MultiStepLr::new([3, 5, 5, 8], 0.5));
        let run = RunLength { epochs: 10, steps_per_epoch: 1 };
        let mut lr = LearningRate::new(schedule, 0.1, run).unwrap();
        for (epoch, expected) in expected.into_iter().enumerate() {
            assert!((lr.lr() - expected).abs() < 1e-12, "{epoch}: {}", lr.lr());
            lr.step(&EpochRecord::new(epoch + 1), &Measured::default()).unwrap();
        }
    }
}
