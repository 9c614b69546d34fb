//! The learning rates of a run whose groups of parameters need not all learn to its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{LearningRate, RunLength, Schedule, ScheduleState};
use crate::Result;
use crate::monitor::Measured;
use crate::optim::Optimizer;
use crate::record::EpochRecord;

/// The learning rate of a run, and that of each length of the groups that learn in the run's first epochs alone.
///
/// Such a group has the rates of a run of its length, and 0 after it.
#[derive(Debug, Clone)]
pub(crate) struct Rates {
    of_run: LearningRate,
    /// By the number of epochs.
    limited: BTreeMap<usize, Limited>,
}

#[derive(Debug, Clone)]
struct Limited {
    lr: LearningRate,
    /// Number of epochs and of steps in which the group learns. A run may be shorter than the group's epochs.
    run: RunLength,
}

impl Limited {
    fn lr_of_step(&self, step: usize) -> f64 {
        let steps = self.run.epochs.saturating_mul(self.run.steps_per_epoch);
        if step < steps { self.lr.lr_of_step(step) } else { 0.0 }
    }
}

/// Everything in it that changes, as a checkpoint saves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RatesState {
    #[serde(rename = "schedule")]
    of_run: ScheduleState,
    #[serde(default, rename = "schedules_of_groups", skip_serializing_if = "Vec::is_empty")]
    limited: Vec<(usize, ScheduleState)>,
}

impl Rates {
    /// `schedule` at its first epoch.
    ///
    /// - `limits`: the numbers of epochs of the groups that have one
    ///
    /// # Errors
    /// If a setting is impossible.
    pub(crate) fn new(
        schedule: &Arc<dyn Schedule>,
        base_lr: f64,
        run: RunLength,
        limits: impl IntoIterator<Item = usize>,
    ) -> Result<Self> {
        let of_length = |run| LearningRate::new(Arc::clone(schedule), base_lr, run);
        let limited = limits.into_iter().map(|epochs| {
            let run = RunLength { epochs: epochs.min(run.epochs), ..run };
            Ok((epochs, Limited { lr: of_length(run)?, run }))
        });
        Ok(Self { limited: limited.collect::<Result<_>>()?, of_run: of_length(run)? })
    }

    /// The run's rate of a training step, counted from 0 over the whole run.
    pub(crate) fn lr_of_step(&self, step: usize) -> f64 {
        self.of_run.lr_of_step(step)
    }

    /// Gives an optimizer the rates of a training step. Returns the run's.
    pub(crate) fn set(&self, optimizer: &mut dyn Optimizer, step: usize) -> f64 {
        let lr = self.lr_of_step(step);
        optimizer.set_lr(lr);
        for (&epochs, limited) in &self.limited {
            optimizer.set_lr_of_epochs(epochs, limited.lr_of_step(step));
        }
        lr
    }

    /// Moves on to the next epoch.
    ///
    /// # Errors
    /// If the schedule fails.
    pub(crate) fn step(&mut self, record: &EpochRecord, measured: &Measured) -> Result<()> {
        self.of_run.step(record, measured)?;
        let learning =
            self.limited.values_mut().filter(|limited| record.epoch <= limited.run.epochs);
        for limited in learning {
            limited.lr.step(record, measured)?;
        }
        Ok(())
    }

    /// Continues from another rate.
    pub(crate) fn set_lr(&mut self, lr: f64) {
        self.of_run.set_lr(lr);
        self.limited.values_mut().for_each(|limited| limited.lr.set_lr(lr));
    }

    pub(crate) fn state(&self) -> RatesState {
        let limited = self.limited.iter().map(|(&epochs, of)| (epochs, of.lr.state().clone()));
        RatesState { limited: limited.collect(), of_run: self.of_run.state().clone() }
    }

    pub(crate) fn load_state(&mut self, state: RatesState) {
        self.of_run.load_state(state.of_run);
        for (epochs, state) in state.limited {
            if let Some(limited) = self.limited.get_mut(&epochs) {
                limited.lr.load_state(state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Sgd, UpdateRule as _};
    use crate::schedule::{OneCycleLr, StepLr};

    const RUN: RunLength = RunLength { epochs: 4, steps_per_epoch: 2 };

    fn falling() -> Arc<dyn Schedule> {
        let line =
            OneCycleLr::new().pct_start(0.0).anneal_strategy(crate::schedule::Anneal::Linear);
        Arc::new(line.div_factor(1.0).final_div_factor(1e12))
    }

    #[track_caller]
    fn assert_near(found: &[f64], expected: &[f64]) {
        let is_near =
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-9);
        assert!(is_near && found.len() == expected.len(), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn a_group_has_the_rates_of_a_run_of_its_length_and_none_after_it() {
        let rates = Rates::new(&falling(), 3.0, RUN, [2, 9]).unwrap();
        let of = |epochs: usize| {
            let of_step = |step| rates.limited[&epochs].lr_of_step(step);
            (0..8).map(of_step).collect::<Vec<_>>()
        };
        assert_near(&of(2), &[3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        // The run is over before the group is.
        let of_run: Vec<f64> = (0..8).map(|step| rates.lr_of_step(step)).collect();
        assert_near(&of(9), &of_run);
        assert_near(&of_run[..2], &[3.0, 3.0 * 6.0 / 7.0]);
    }

    #[test]
    fn rates_of_epochs_go_on_from_their_state() {
        let halving: Arc<dyn Schedule> = Arc::new(StepLr::new(1, 0.5));
        let new = || Rates::new(&halving, 1.0, RUN, [3]).unwrap();
        let (mut rates, mut seen) = (new(), Vec::new());
        for epoch in 1..=4 {
            let mut resumed = new();
            let state = serde_json::to_string(&rates.state()).unwrap();
            resumed.load_state(serde_json::from_str(&state).unwrap());
            seen.push(resumed.limited[&3].lr_of_step(2 * (epoch - 1)));
            assert_eq!(resumed.lr_of_step(0), rates.lr_of_step(0));
            rates.step(&EpochRecord::new(epoch), &Measured::default()).unwrap();
        }
        assert_eq!(seen, [1.0, 0.5, 0.25, 0.0]);
        // A run without such groups is saved as it always was.
        let plain = Rates::new(&halving, 1.0, RUN, []).unwrap().state();
        let json = serde_json::to_value(&plain).unwrap();
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), ["schedule"]);
    }

    #[test]
    fn an_optimizer_without_such_groups_has_the_rate_of_the_run() {
        let mut optimizer = Sgd::new(1.0).optimizer(Vec::new()).unwrap();
        let rates = Rates::new(&falling(), 3.0, RUN, [2]).unwrap();
        assert_eq!(rates.set(&mut optimizer, 7), optimizer.lr());
    }
}
