//! A rate that falls when a metric stops improving.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::cosine::require_lowest;
use super::step_lr::default_gamma;
use super::{EpochEnd, Memory, Schedule};
use crate::Result;
use crate::error::require;
use crate::monitor::{Measured, Mode, Monitor, VAL_LOSS, of_old_mode};
use crate::parts::described;

/// A smaller change of the rate than this is not made, as in PyTorch.
const SMALLEST_CHANGE: f64 = 1e-8;

/// Multiplies the rate by `factor` when a metric has not improved for more than `patience` epochs, as
/// PyTorch's `ReduceLROnPlateau` with a relative threshold.
///
/// In a recipe: `schedule = { name = "reduce_lr_on_plateau", monitor = "val_accuracy" }`. Recipes from
/// before there was `monitor` have `mode = "min"` for the validation loss and `mode = "max"` for the
/// validation accuracy. These recipes can still be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Read")]
pub struct ReduceLrOnPlateau {
    monitor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    factor: f64,
    patience: usize,
    threshold: f64,
    cooldown: usize,
    min_lr: f64,
}

/// The form in recipes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    monitor: Option<String>,
    mode: Option<Mode>,
    #[serde(default = "default_gamma")]
    factor: f64,
    #[serde(default = "default_patience")]
    patience: usize,
    #[serde(default = "default_threshold")]
    threshold: f64,
    #[serde(default)]
    cooldown: usize,
    #[serde(default)]
    min_lr: f64,
}

fn default_patience() -> usize {
    10
}

fn default_threshold() -> f64 {
    1e-4
}

impl From<Read> for ReduceLrOnPlateau {
    fn from(read: Read) -> Self {
        let Read { monitor, mode, factor, patience, threshold, cooldown, min_lr } = read;
        let (monitor, mode) = of_old_mode(monitor, mode);
        Self { monitor, mode, factor, patience, threshold, cooldown, min_lr }
    }
}

impl Default for ReduceLrOnPlateau {
    fn default() -> Self {
        Self::new()
    }
}

impl ReduceLrOnPlateau {
    /// PyTorch's defaults. It monitors the validation loss.
    pub fn new() -> Self {
        Self {
            monitor: VAL_LOSS.to_owned(),
            mode: None,
            factor: default_gamma(),
            patience: default_patience(),
            threshold: default_threshold(),
            cooldown: 0,
            min_lr: 0.0,
        }
    }

    /// The metric monitored. `val_loss` by default.
    pub fn monitor(self, metric: impl Into<String>) -> Self {
        Self { monitor: metric.into(), ..self }
    }

    /// Whether lower or higher is better. By default the metric itself decides.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// Factor of a change, above 0 and below 1. 0.1 by default.
    pub fn factor(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// Number of epochs without improvement to wait for. 10 by default.
    pub fn patience(self, epochs: usize) -> Self {
        Self { patience: epochs, ..self }
    }

    /// Share of the best value by which a better value must differ. 1e-4 by default.
    pub fn threshold(self, threshold: f64) -> Self {
        Self { threshold, ..self }
    }

    /// Number of epochs after a change in which epochs without improvement do not count. 0 by default.
    pub fn cooldown(self, epochs: usize) -> Self {
        Self { cooldown: epochs, ..self }
    }

    /// Lowest rate. 0 by default.
    pub fn min_lr(self, min_lr: f64) -> Self {
        Self { min_lr, ..self }
    }

    fn after(&self, lr: f64, metric: f64, mode: Mode, state: &mut Seen) -> f64 {
        if state.best.is_none_or(|best| self.is_better(metric, best, mode)) {
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

    fn is_better(&self, metric: f64, best: f64, mode: Mode) -> bool {
        match mode {
            Mode::Min => metric < best * (1.0 - self.threshold),
            Mode::Max => metric > best * (1.0 + self.threshold),
        }
    }
}

/// What the schedule has seen so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    best: Option<f64>,
    bad_epochs: usize,
    cooldown_left: usize,
}

impl Schedule for ReduceLrOnPlateau {
    fn next(&self, end: &EpochEnd<'_>, memory: &mut Memory) -> Result<f64> {
        let monitor = end.measured.monitor("schedule.monitor", &self.monitor, self.mode)?;
        // A metric that is not finite says nothing about an improvement.
        let Some(metric) = monitor.value(end.record) else { return Ok(end.lr) };
        let mut seen: Seen = memory.read()?;
        let lr = self.after(end.lr, metric, monitor.mode, &mut seen);
        memory.write(&seen)?;
        Ok(lr)
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn monitor(&self, measured: &Measured) -> Result<Option<Monitor>> {
        measured.monitor("schedule.monitor", &self.monitor, self.mode).map(Some)
    }

    fn validate(&self, base_lr: f64) -> Result<()> {
        let Self { factor, threshold, min_lr, .. } = *self;
        let falls = factor > 0.0 && factor < 1.0;
        require(falls, "schedule.factor", factor, "above 0 and below 1")?;
        let positive = threshold >= 0.0 && threshold.is_finite();
        require(positive, "schedule.threshold", threshold, "0 or a positive number")?;
        require_lowest("schedule.min_lr", min_lr, base_lr)
    }
}

impl From<ReduceLrOnPlateau> for Description {
    fn from(schedule: ReduceLrOnPlateau) -> Self {
        described("reduce_lr_on_plateau", &schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(plateau: &ReduceLrOnPlateau, losses: &[f64]) -> Vec<f64> {
        let mut state = Seen::default();
        let mut lr = 1.0;
        let next = |&val_loss: &f64| {
            lr = plateau.after(lr, val_loss, Mode::Min, &mut state);
            lr
        };
        losses.iter().map(next).collect()
    }

    fn plateau() -> ReduceLrOnPlateau {
        ReduceLrOnPlateau::new().factor(0.5).patience(0)
    }

    #[test]
    fn a_cooldown_counts_no_bad_epochs() {
        let expected = [1.0, 0.5, 0.5, 0.5, 0.25, 0.25];
        assert_eq!(rates(&plateau().cooldown(2), &[1.0; 6]), expected);
    }

    #[test]
    fn the_rate_stops_at_its_floor() {
        assert_eq!(rates(&plateau().min_lr(0.3), &[1.0; 4]), [1.0, 0.5, 0.3, 0.3]);
    }

    #[test]
    fn an_improvement_below_the_threshold_is_none() {
        assert_eq!(rates(&plateau(), &[1.0, 0.99995, 0.9]), [1.0, 0.5, 0.5]);
    }

    #[test]
    fn the_old_mode_names_the_metric() {
        let read = |text: &str| toml::from_str::<ReduceLrOnPlateau>(text).unwrap();
        assert_eq!(read(""), ReduceLrOnPlateau::new());
        assert_eq!(read("mode = 'min'"), ReduceLrOnPlateau::new());
        assert_eq!(read("mode = 'max'"), ReduceLrOnPlateau::new().monitor("val_accuracy"));
        let both = ReduceLrOnPlateau::new().monitor("regret").mode(Mode::Min);
        assert_eq!(read("monitor = 'regret'\nmode = 'min'"), both);
    }
}
