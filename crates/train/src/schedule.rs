//! Learning-rate schedules with PyTorch's values. They are stepped once per epoch. One cycle changes the
//! rate with every training step.
//!
//! Like PyTorch's, they compute each rate from the previous one instead of from the epoch. So a schedule
//! continues from a rate that was set from outside, for example after unfreezing.
//!
//! A [`Schedule`] is a rule without its own state. [`LearningRate`] follows one through a run. It keeps the
//! rate, the epoch and the schedule's memory. A checkpoint saves all of these.

mod constant;
mod cosine;
mod learning_rate;
mod memory;
mod multi_step_lr;
mod one_cycle;
mod plateau;
mod rates;
mod step_lr;
mod warmup;

use std::fmt::Debug;

use candle_vision_registry::Description;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use constant::Constant;
pub use cosine::CosineAnnealingLr;
pub use learning_rate::{LearningRate, ScheduleState};
pub use memory::Memory;
pub use multi_step_lr::MultiStepLr;
pub use one_cycle::{Anneal, OneCycleLr};
pub use plateau::ReduceLrOnPlateau;
pub(crate) use rates::{Rates, RatesState};
pub use step_lr::StepLr;
pub use warmup::Warmup;

use crate::Result;
use crate::monitor::{Measured, Monitor};
use crate::parts::{PartEntry, PartTable, try_described};
use crate::record::EpochRecord;

/// The length of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLength {
    /// Number of epochs of the whole run.
    pub epochs: usize,
    /// Number of training steps per epoch: of batches, unless several make one step.
    pub steps_per_epoch: usize,
}

/// The facts that a schedule gets at the end of an epoch.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct EpochEnd<'a> {
    /// The learning rate of the epoch that has ended.
    pub lr: f64,
    /// Number of epochs done, from 1. After a warm-up it counts from the warm-up's end.
    pub epoch: usize,
    /// Length of the run. After a warm-up it is the length without the warm-up's epochs.
    pub run: RunLength,
    /// The rate that the schedule began with, or the rate that was last set from outside.
    pub base_lr: f64,
    /// The measurements of the epoch.
    pub record: &'a EpochRecord,
    /// Whether lower or higher is better for each metric.
    pub measured: &'a Measured,
}

/// A rule for the learning rate.
///
/// # Example
/// A rate that falls with the square root of the epoch:
/// ```
/// use candle_vision_train::Result;
/// use candle_vision_train::schedule::{EpochEnd, Memory, Schedule};
///
/// #[derive(Debug)]
/// struct InverseRoot;
///
/// impl Schedule for InverseRoot {
///     fn next(&self, end: &EpochEnd<'_>, _: &mut Memory) -> Result<f64> {
///         Ok(end.base_lr / (1.0 + end.epoch as f64).sqrt())
///     }
/// }
/// ```
pub trait Schedule: Debug + Send + Sync {
    /// The learning rate of the next epoch. `memory` holds what the schedule wrote there at the end of an
    /// earlier epoch. A checkpoint saves it.
    ///
    /// # Errors
    /// If the memory belongs to another schedule.
    fn next(&self, end: &EpochEnd<'_>, memory: &mut Memory) -> Result<f64>;

    /// Name and settings. A run with a schedule without a description cannot be resumed.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// The rate of epoch `epoch`, from 0, if the schedule begins there with `base_lr`.
    fn begin(&self, base_lr: f64, epoch: usize) -> f64 {
        let _ = epoch;
        base_lr
    }

    /// The rate of a training step, counted from 0 over the whole run, for a schedule that changes with
    /// every step. With `None` all steps of an epoch have the epoch's rate.
    fn lr_of_step(&self, base_lr: f64, step: usize, run: RunLength) -> Option<f64> {
        let _ = (base_lr, step, run);
        None
    }

    /// Whether the rates depend on the run's number of epochs. This holds for one cycle, and for a cosine
    /// without its own `t_max`. If such a run is resumed with another number of epochs, its schedule is
    /// stretched: from there on it has the rates of a run of the new length.
    fn depends_on_length(&self) -> bool {
        false
    }

    /// The metric that the schedule monitors, if it monitors one.
    ///
    /// # Errors
    /// If the run does not measure this metric.
    fn monitor(&self, measured: &Measured) -> Result<Option<Monitor>> {
        let _ = measured;
        Ok(None)
    }

    /// Checks every setting for a run that begins with `base_lr`.
    ///
    /// # Errors
    /// If a setting is impossible. The error names it.
    fn validate(&self, base_lr: f64) -> Result<()> {
        let _ = base_lr;
        Ok(())
    }

    /// This schedule after a linear warm-up of `epochs` epochs.
    fn warmup(self, epochs: usize) -> Warmup
    where
        Self: Sized + 'static,
    {
        Warmup::new(epochs, self)
    }
}

/// The learning-rate schedules that recipes can name.
pub type Schedules = PartTable<dyn Schedule>;

/// A row of [`Schedules`].
pub type ScheduleEntry = PartEntry<dyn Schedule>;

impl PartTable<dyn Schedule> {
    /// The built-in schedules.
    pub fn standard() -> Self {
        let (cosine, cycle) = ("half a cosine, and up again", "up and down once, step by step");
        Self::of(
            "schedule",
            [
                ScheduleEntry::of::<Constant>("constant", "the optimizer's rate throughout"),
                ScheduleEntry::of::<StepLr>("step_lr", "times `gamma` every `step_size` epochs"),
                ScheduleEntry::of::<MultiStepLr>("multi_step_lr", "times `gamma` at given epochs"),
                ScheduleEntry::of::<CosineAnnealingLr>("cosine_annealing_lr", cosine),
                ScheduleEntry::of::<ReduceLrOnPlateau>(
                    "reduce_lr_on_plateau",
                    "times `factor` when a metric stops improving",
                ),
                ScheduleEntry::of::<OneCycleLr>("one_cycle_lr", cycle),
            ],
        )
    }
}

impl PartEntry<dyn Schedule> {
    /// The entry of a schedule. The fields of its struct are its settings. In a recipe it also takes
    /// `warmup`.
    pub fn of<S>(name: &'static str, summary: &str) -> Self
    where
        S: Schedule + Serialize + DeserializeOwned + 'static,
    {
        Self::new(name, summary, move |description| {
            let mut own = description.clone();
            let warmup = own.settings.remove("warmup");
            let schedule: S = own.settings()?;
            let description = try_described(name, &schedule)?;
            let schedule = Box::new(Described { schedule, description });
            match warmup {
                None => Ok(schedule),
                Some(settings) => Ok(Box::new(Warmup::read(settings, schedule)?)),
            }
        })
    }
}

/// A schedule with the name of its entry.
#[derive(Debug)]
struct Described<S> {
    schedule: S,
    description: Description,
}

impl<S: Schedule> Schedule for Described<S> {
    fn next(&self, end: &EpochEnd<'_>, memory: &mut Memory) -> Result<f64> {
        self.schedule.next(end, memory)
    }

    fn describe(&self) -> Option<Description> {
        Some(self.description.clone())
    }

    fn begin(&self, base_lr: f64, epoch: usize) -> f64 {
        self.schedule.begin(base_lr, epoch)
    }

    fn lr_of_step(&self, base_lr: f64, step: usize, run: RunLength) -> Option<f64> {
        self.schedule.lr_of_step(base_lr, step, run)
    }

    fn depends_on_length(&self) -> bool {
        self.schedule.depends_on_length()
    }

    fn monitor(&self, measured: &Measured) -> Result<Option<Monitor>> {
        self.schedule.monitor(measured)
    }

    fn validate(&self, base_lr: f64) -> Result<()> {
        self.schedule.validate(base_lr)
    }
}

#[cfg(test)]
mod tests;
