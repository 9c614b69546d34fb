//! A rate that falls when a metric stops improving.

use serde::{Deserialize, Serialize};

use super::{EpochMetrics, PlateauMode};

/// A smaller change of the rate than this is left out, as in PyTorch.
const SMALLEST_CHANGE: f64 = 1e-8;

/// The settings of PyTorch's `ReduceLROnPlateau` with a relative threshold.
#[derive(Debug, Clone)]
pub(super) struct Plateau {
    pub(super) mode: PlateauMode,
    pub(super) factor: f64,
    pub(super) patience: usize,
    pub(super) threshold: f64,
    pub(super) cooldown: usize,
    pub(super) min_lr: f64,
}

/// What it has seen so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PlateauState {
    best: Option<f64>,
    bad_epochs: usize,
    cooldown_left: usize,
}

impl Plateau {
    pub(super) fn next(&self, lr: f64, metrics: EpochMetrics, state: &mut PlateauState) -> f64 {
        let metric = self.mode.metric(metrics);
        if state.best.is_none_or(|best| self.is_better(metric, best)) {
            state.best = Some(metric);
            state.bad_epochs = 0;
        } else {
            state.bad_epochs += 1;
        }
        if state.cooldown_left > 0 {
            state.cooldown_left -= 1;
            state.bad_epochs = 0;
        }
        if state.bad_epochs <= self.patience {
            return lr;
        }
        state.bad_epochs = 0;
        state.cooldown_left = self.cooldown;
        let reduced = (lr * self.factor).max(self.min_lr);
        if lr - reduced > SMALLEST_CHANGE { reduced } else { lr }
    }

    fn is_better(&self, metric: f64, best: f64) -> bool {
        match self.mode {
            PlateauMode::Min => metric < best * (1.0 - self.threshold),
            PlateauMode::Max => metric > best * (1.0 + self.threshold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(plateau: &Plateau, losses: &[f64]) -> Vec<f64> {
        let mut state = PlateauState::default();
        let mut lr = 1.0;
        let next = |&val_loss: &f64| {
            lr = plateau.next(lr, EpochMetrics { val_loss, val_accuracy: 0.0 }, &mut state);
            lr
        };
        losses.iter().map(next).collect()
    }

    const PLATEAU: Plateau = Plateau {
        mode: PlateauMode::Min,
        factor: 0.5,
        patience: 0,
        threshold: 1e-4,
        cooldown: 0,
        min_lr: 0.0,
    };

    #[test]
    fn a_cooldown_counts_no_bad_epochs() {
        let plateau = Plateau { cooldown: 2, ..PLATEAU };
        let expected = [1.0, 0.5, 0.5, 0.5, 0.25, 0.25];
        assert_eq!(rates(&plateau, &[1.0; 6]), expected);
    }

    #[test]
    fn the_rate_stops_at_its_floor() {
        let plateau = Plateau { min_lr: 0.3, ..PLATEAU };
        assert_eq!(rates(&plateau, &[1.0; 4]), [1.0, 0.5, 0.3, 0.3]);
    }

    #[test]
    fn an_improvement_below_the_threshold_is_none() {
        assert_eq!(rates(&PLATEAU, &[1.0, 0.99995, 0.9]), [1.0, 0.5, 0.5]);
    }
}
