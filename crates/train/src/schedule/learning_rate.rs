//! Follows a schedule through a run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{EpochEnd, Memory, RunLength, Schedule};
use crate::Result;
use crate::monitor::Measured;
use crate::record::EpochRecord;

/// The learning rate of a run: a schedule and its position.
///
/// # Example
/// ```
/// use candle_vision_train::schedule::{LearningRate, RunLength, StepLr};
/// use candle_vision_train::{EpochRecord, Measured};
///
/// let run = RunLength { epochs: 10, steps_per_epoch: 100 };
/// let mut lr = LearningRate::new(std::sync::Arc::new(StepLr::new(2, 0.1)), 1.0, run)?;
/// let mut rates = Vec::new();
/// for epoch in 1..=3 {
///     rates.push(lr.lr());
///     lr.step(&EpochRecord::new(epoch), &Measured::default())?;
/// }
/// assert_eq!(rates, [1.0, 1.0, 0.1]);
/// # Ok::<(), candle_vision_train::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LearningRate {
    schedule: Arc<dyn Schedule>,
    run: RunLength,
    state: ScheduleState,
}

/// Everything in it that changes. A checkpoint saves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Number of epochs done.
    epoch: usize,
    /// The rate of the next epoch.
    lr: f64,
    /// The peak of a warm-up, and the rate that a cosine returns to.
    base_lr: f64,
    /// The schedule's memory. Older checkpoints name it after the only schedule that had one.
    #[serde(default, alias = "plateau")]
    memory: Memory,
}

impl LearningRate {
    /// `schedule` at its first epoch.
    ///
    /// - `base_lr`: the optimizer's learning rate
    ///
    /// # Errors
    /// If a setting is impossible. The error names it.
    pub fn new(schedule: Arc<dyn Schedule>, base_lr: f64, run: RunLength) -> Result<Self> {
        schedule.validate(base_lr)?;
        let lr = schedule.begin(base_lr, 0);
        let state = ScheduleState { epoch: 0, lr, base_lr, memory: Memory::default() };
        Ok(Self { schedule, run, state })
    }

    /// The rate of the current epoch, or of the next one between epochs. With one cycle it is the highest
    /// rate.
    pub fn lr(&self) -> f64 {
        self.state.lr
    }

    /// The rate of a training step, counted from 0 over the whole run. It is the rate of the current epoch,
    /// except with one cycle, which has a rate for each step.
    pub fn lr_of_step(&self, step: usize) -> f64 {
        self.schedule.lr_of_step(self.state.base_lr, step, self.run).unwrap_or(self.state.lr)
    }

    /// Moves on to the next epoch. `record` is that of the epoch that has ended.
    ///
    /// # Errors
    /// If the schedule fails.
    pub fn step(&mut self, record: &EpochRecord, measured: &Measured) -> Result<()> {
        let ScheduleState { epoch, lr, base_lr, memory } = &mut self.state;
        *epoch += 1;
        let (run, lr_done, base_lr) = (self.run, *lr, *base_lr);
        let end = EpochEnd { lr: lr_done, epoch: *epoch, run, base_lr, record, measured };
        *lr = self.schedule.next(&end, memory)?;
        Ok(())
    }

    /// Continues from another rate, for example when a frozen backbone is released. During a warm-up this
    /// is the warm-up's peak.
    pub fn set_lr(&mut self, lr: f64) {
        self.state.base_lr = lr;
        self.state.lr = self.schedule.begin(lr, self.state.epoch);
    }

    /// The state to save for a resumed run.
    pub fn state(&self) -> &ScheduleState {
        &self.state
    }

    /// Restores what [`LearningRate::state`] returned.
    pub fn load_state(&mut self, state: ScheduleState) {
        self.state = state;
    }
}
