//! Learning rate schedules with PyTorch's values, stepped once an epoch; one cycle moves with every
//! training step.
//!
//! Like PyTorch's they go from one rate to the next instead of computing each from the epoch, so
//! that a rate set from outside (after unfreezing, say) is what the schedule goes on from.

mod config;
mod one_cycle;
mod plateau;

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

pub use config::{Anneal, PlateauMode, ScheduleConfig, ScheduleKind, WarmupConfig};
use one_cycle::OneCycle;
use plateau::{Plateau, PlateauState};

use crate::Result;

/// What a schedule may look at when an epoch is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochMetrics {
    /// Validation loss.
    pub val_loss: f64,
    /// Validation accuracy, a fraction.
    pub val_accuracy: f64,
}

/// A learning rate that changes from epoch to epoch.
///
/// # Example
/// ```
/// use candle_vision_train::schedule::{ScheduleKind, EpochMetrics, Schedule, ScheduleConfig};
///
/// let config = ScheduleConfig::from(ScheduleKind::StepLr { step_size: 2, gamma: 0.1 });
/// let mut schedule = Schedule::new(&config, 1.0, 10, 100)?;
/// let metrics = EpochMetrics { val_loss: 0.7, val_accuracy: 0.5 };
/// let rates = [(); 3].map(|()| {
///     let lr = schedule.lr();
///     schedule.step(metrics);
///     lr
/// });
/// assert_eq!(rates, [1.0, 1.0, 0.1]);
/// # Ok::<(), candle_vision_train::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    decay: Decay,
    warmup: Option<WarmupConfig>,
    state: ScheduleState,
}

/// All of a schedule that changes; saved in checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Epochs done.
    epoch: usize,
    /// The rate of the next epoch.
    lr: f64,
    /// The rate that a warm-up climbs to and a cosine returns to.
    base_lr: f64,
    plateau: PlateauState,
}

/// A checked [`ScheduleKind`] with nothing left open.
#[derive(Debug, Clone)]
enum Decay {
    Constant,
    StepLr { step_size: usize, gamma: f64 },
    CosineAnnealingLr { t_max: usize, eta_min: f64 },
    Plateau(Plateau),
    OneCycle(OneCycle),
}

impl Schedule {
    /// A schedule at its first epoch.
    ///
    /// - `base_lr`: the optimizer's learning rate
    /// - `epochs`: length of the run, for a cosine without its own `t_max` and for one cycle
    /// - `steps_per_epoch`: training batches in each, for one cycle
    ///
    /// # Errors
    /// If a setting is impossible; the error names it.
    pub fn new(
        config: &ScheduleConfig,
        base_lr: f64,
        epochs: usize,
        steps_per_epoch: usize,
    ) -> Result<Self> {
        config.validate(base_lr)?;
        let warmup_epochs = config.warmup.map_or(0, |warmup| warmup.epochs);
        let decay = match config.decay {
            ScheduleKind::Constant {} => Decay::Constant,
            ScheduleKind::StepLr { step_size, gamma } => Decay::StepLr { step_size, gamma },
            ScheduleKind::CosineAnnealingLr { t_max, eta_min } => {
                let rest = epochs.saturating_sub(warmup_epochs).max(1);
                Decay::CosineAnnealingLr { t_max: t_max.unwrap_or(rest), eta_min }
            }
            ScheduleKind::ReduceLrOnPlateau {
                mode,
                factor,
                patience,
                threshold,
                cooldown,
                min_lr,
            } => Decay::Plateau(Plateau { mode, factor, patience, threshold, cooldown, min_lr }),
            ScheduleKind::OneCycleLr {
                pct_start,
                anneal_strategy,
                div_factor,
                final_div_factor,
            } => {
                let total_steps = epochs.saturating_mul(steps_per_epoch);
                Decay::OneCycle(OneCycle {
                    pct_start,
                    anneal_strategy,
                    div_factor,
                    final_div_factor,
                    total_steps,
                })
            }
        };
        let lr = config.warmup.map_or(base_lr, |warmup| warmup.lr(base_lr, 0));
        let state = ScheduleState { epoch: 0, lr, base_lr, plateau: PlateauState::default() };
        Ok(Self { decay, warmup: config.warmup, state })
    }

    /// The rate of the epoch that comes next, or that runs; with one cycle, the highest rate.
    pub fn lr(&self) -> f64 {
        self.state.lr
    }

    /// The rate of a training step, counted from 0 over the whole run: that of the epoch which runs,
    /// but of the step itself with one cycle.
    pub fn lr_of_step(&self, step: usize) -> f64 {
        match &self.decay {
            Decay::OneCycle(cycle) => cycle.lr(self.state.base_lr, step),
            _ => self.state.lr,
        }
    }

    /// Goes on to the next epoch; `metrics` are those of the epoch that is done.
    pub fn step(&mut self, metrics: EpochMetrics) {
        self.state.epoch += 1;
        let epoch = self.state.epoch;
        self.state.lr = match self.warmup {
            Some(warmup) if epoch < warmup.epochs => warmup.lr(self.state.base_lr, epoch),
            // PyTorch's SequentialLR begins the schedule behind the warm-up at its own epoch 0.
            Some(warmup) if epoch == warmup.epochs => self.state.base_lr,
            Some(warmup) => self.next(epoch - warmup.epochs, metrics),
            None => self.next(epoch, metrics),
        };
    }

    /// Goes on from another rate, as when a frozen backbone is released. In a warm-up it is the rate
    /// that is climbed to.
    pub fn set_lr(&mut self, lr: f64) {
        self.state.base_lr = lr;
        self.state.lr = match self.warmup {
            Some(warmup) if self.state.epoch < warmup.epochs => warmup.lr(lr, self.state.epoch),
            _ => lr,
        };
    }

    /// What to save for a resumed run.
    pub fn state(&self) -> &ScheduleState {
        &self.state
    }

    /// Takes back what [`Schedule::state`] gave.
    pub fn load_state(&mut self, state: ScheduleState) {
        self.state = state;
    }

    /// The rate of the decay's epoch `epoch` (from 1), given that of the one before.
    fn next(&mut self, epoch: usize, metrics: EpochMetrics) -> f64 {
        let lr = self.state.lr;
        match &self.decay {
            Decay::Constant | Decay::OneCycle(_) => lr,
            Decay::StepLr { step_size, gamma } => {
                if epoch.is_multiple_of(*step_size) {
                    lr * gamma
                } else {
                    lr
                }
            }
            &Decay::CosineAnnealingLr { t_max, eta_min } => {
                next_on_cosine(lr, self.state.base_lr, epoch, t_max, eta_min)
            }
            Decay::Plateau(plateau) => plateau.next(lr, metrics, &mut self.state.plateau),
        }
    }
}

/// PyTorch's recursion; past `t_max` it climbs again.
fn next_on_cosine(lr: f64, base_lr: f64, epoch: usize, t_max: usize, eta_min: f64) -> f64 {
    let height = |epoch: usize| 1.0 + (PI * epoch as f64 / t_max as f64).cos();
    // After the lowest point the ratio below would divide by zero.
    if epoch > t_max && (epoch - 1 - t_max).is_multiple_of(2 * t_max) {
        return lr + (base_lr - eta_min) * height(t_max - 1) / 2.0;
    }
    height(epoch) / height(epoch - 1) * (lr - eta_min) + eta_min
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: EpochMetrics = EpochMetrics { val_loss: 1.0, val_accuracy: 0.5 };

    fn rates(mut schedule: Schedule, count: usize) -> Vec<f64> {
        let next = |_| {
            let lr = schedule.lr();
            schedule.step(METRICS);
            lr
        };
        (0..count).map(next).collect()
    }

    #[track_caller]
    fn assert_close(rates: &[f64], expected: &[f64]) {
        assert_eq!(rates.len(), expected.len());
        for (a, b) in rates.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{rates:?}, expected {expected:?}");
        }
    }

    #[test]
    fn a_cosine_without_length_ends_with_the_run() {
        let decay = ScheduleKind::CosineAnnealingLr { t_max: None, eta_min: 0.0 };
        let warmup = Some(WarmupConfig { epochs: 2, start_factor: 0.5 });
        let config = ScheduleConfig { decay, warmup };
        let schedule = Schedule::new(&config, 0.1, 6, 1).unwrap();
        let cosine = |epoch: f64| 0.05 * (1.0 + (PI * epoch / 4.0).cos());
        let expected = [0.05, 0.075, 0.1, cosine(1.0), cosine(2.0), cosine(3.0), 0.0];
        assert_close(&rates(schedule, 7), &expected);
    }

    #[test]
    fn a_rate_from_outside_is_gone_on_from() {
        let decay = ScheduleKind::StepLr { step_size: 2, gamma: 0.1 };
        let mut schedule = Schedule::new(&decay.into(), 0.1, 10, 1).unwrap();
        schedule.step(METRICS);
        schedule.set_lr(0.05);
        assert_close(&rates(schedule, 4), &[0.05, 0.005, 0.005, 0.0005]);
    }

    #[test]
    fn a_rate_set_in_a_warm_up_is_climbed_to() {
        let warmup = Some(WarmupConfig { epochs: 4, start_factor: 0.2 });
        let config = ScheduleConfig { decay: ScheduleKind::default(), warmup };
        let mut schedule = Schedule::new(&config, 1.0, 10, 1).unwrap();
        schedule.step(METRICS);
        schedule.set_lr(0.1);
        assert_close(&rates(schedule, 5), &[0.04, 0.06, 0.08, 0.1, 0.1]);
    }

    #[test]
    fn a_cosine_of_one_epoch_falls_and_climbs() {
        let decay = ScheduleKind::CosineAnnealingLr { t_max: Some(1), eta_min: 0.0 };
        let schedule = Schedule::new(&decay.into(), 0.1, 10, 1).unwrap();
        assert_close(&rates(schedule, 5), &[0.1, 0.0, 0.1, 0.0, 0.1]);
    }

    #[test]
    fn saved_state_goes_on_bit_for_bit() {
        let decay = ScheduleKind::CosineAnnealingLr { t_max: Some(7), eta_min: 1e-5 };
        let config = ScheduleConfig::from(decay);
        let mut whole = Schedule::new(&config, 0.1, 10, 1).unwrap();
        (0..5).for_each(|_| whole.step(METRICS));
        let saved = serde_json::to_string(whole.state()).unwrap();
        let mut resumed = Schedule::new(&config, 0.1, 10, 1).unwrap();
        resumed.load_state(serde_json::from_str(&saved).unwrap());
        assert_eq!(rates(whole, 20), rates(resumed, 20));
    }
}
