//! A linear warm-up before another schedule.

use candle_vision_registry::{Description, SettingsError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EpochEnd, Memory, RunLength, Schedule};
use crate::Result;
use crate::error::require;
use crate::monitor::{Measured, Monitor};

/// Raises the rate linearly from `start_factor` times the rate to the full rate, and then follows another
/// schedule. It equals PyTorch's `LinearLR` before that schedule in `SequentialLR`.
///
/// In a recipe every schedule takes it:
/// `schedule = { name = "cosine_annealing_lr", warmup = { epochs = 5 } }`.
///
/// # Example
/// ```
/// use candle_vision_train::schedule::{CosineAnnealingLr, Schedule};
///
/// let schedule = CosineAnnealingLr::new().warmup(5).start_factor(0.01);
/// assert_eq!(schedule.begin(0.1, 0), 0.001);
/// ```
#[derive(Debug)]
pub struct Warmup {
    climb: Climb,
    then: Box<dyn Schedule>,
}

/// The warm-up's settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Climb {
    /// Number of epochs of the warm-up.
    epochs: usize,
    /// Share of the rate in the first epoch, above 0 and at most 1.
    #[serde(default = "default_start_factor")]
    start_factor: f64,
}

fn default_start_factor() -> f64 {
    1.0 / 3.0
}

impl Climb {
    fn lr(self, base_lr: f64, epoch: usize) -> f64 {
        let climbed = epoch as f64 / self.epochs as f64;
        base_lr * (self.start_factor + (1.0 - self.start_factor) * climbed)
    }
}

impl Warmup {
    /// A warm-up of `epochs` epochs from a third of the rate, as in PyTorch, and then `schedule`.
    pub fn new(epochs: usize, schedule: impl Schedule + 'static) -> Self {
        let climb = Climb { epochs, start_factor: default_start_factor() };
        Self { climb, then: Box::new(schedule) }
    }

    /// Share of the rate in the first epoch, above 0 and at most 1.
    pub fn start_factor(mut self, start_factor: f64) -> Self {
        self.climb.start_factor = start_factor;
        self
    }

    /// The setting `warmup` of a description.
    pub(super) fn read(settings: Value, then: Box<dyn Schedule>) -> Result<Self> {
        let climb = serde_json::from_value(settings)
            .map_err(|error| SettingsError::new("warmup", error.to_string()))?;
        Ok(Self { climb, then })
    }
}

impl Schedule for Warmup {
    fn next(&self, end: &EpochEnd<'_>, memory: &mut Memory) -> Result<f64> {
        let Climb { epochs, .. } = self.climb;
        if end.epoch < epochs {
            return Ok(self.climb.lr(end.base_lr, end.epoch));
        }
        // PyTorch's SequentialLR starts the schedule after the warm-up at that schedule's epoch 0.
        if end.epoch == epochs {
            return Ok(self.then.begin(end.base_lr, 0));
        }
        let run = RunLength { epochs: end.run.epochs.saturating_sub(epochs), ..end.run };
        self.then.next(&EpochEnd { epoch: end.epoch - epochs, run, ..*end }, memory)
    }

    fn describe(&self) -> Option<Description> {
        let climb = serde_json::to_value(self.climb).expect("it is two numbers");
        Some(self.then.describe()?.with("warmup", climb))
    }

    fn begin(&self, base_lr: f64, epoch: usize) -> f64 {
        match epoch.checked_sub(self.climb.epochs) {
            None => self.climb.lr(base_lr, epoch),
            Some(epoch) => self.then.begin(base_lr, epoch),
        }
    }

    fn depends_on_length(&self) -> bool {
        self.then.depends_on_length()
    }

    fn monitor(&self, measured: &Measured) -> Result<Option<Monitor>> {
        self.then.monitor(measured)
    }

    fn validate(&self, base_lr: f64) -> Result<()> {
        let Climb { epochs, start_factor } = self.climb;
        require(epochs > 0, "schedule.warmup.epochs", epochs, "at least 1")?;
        let share = start_factor > 0.0 && start_factor <= 1.0;
        let expected = "above 0 and at most 1";
        require(share, "schedule.warmup.start_factor", start_factor, expected)?;
        let run = RunLength { epochs: 1, steps_per_epoch: 1 };
        let has_steps = self.then.lr_of_step(base_lr, 0, run).is_some();
        let expected = "left out: a schedule that moves with every step has its own climb";
        require(!has_steps, "schedule.warmup.epochs", epochs, expected)?;
        self.then.validate(base_lr)
    }
}

/// The schedule after the warm-up must have a description.
impl From<Warmup> for Description {
    fn from(schedule: Warmup) -> Self {
        schedule.describe().unwrap_or_else(crate::parts::undescribed)
    }
}
