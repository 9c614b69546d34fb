//! The metric monitored: its name, and whether lower or higher is better.

use std::collections::BTreeMap;

use candle_vision_registry::did_you_mean;
use serde::{Deserialize, Serialize};

use crate::metrics::Metric;
use crate::record::EpochRecord;
use crate::{Error, Result};

/// Whether lower or higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Lower is better, as for a loss.
    Min,
    /// Higher is better, as for an accuracy.
    Max,
}

/// A metric of each epoch that is monitored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// Its name: `val_loss`, `val_accuracy`, `train_loss`, `train_accuracy`, or that of a metric.
    pub metric: String,
    /// Whether lower or higher is better.
    pub mode: Mode,
}

impl Monitor {
    /// Monitors the metric of this name.
    pub fn new(metric: impl Into<String>, mode: Mode) -> Self {
        Self { metric: metric.into(), mode }
    }

    /// Its value in an epoch, if it was measured in that epoch.
    pub fn value(&self, record: &EpochRecord) -> Option<f64> {
        record.measured(&self.metric)
    }

    /// Whether `value` is better than `best` by more than `min_delta`.
    pub fn is_better(&self, value: f64, best: f64, min_delta: f64) -> bool {
        match self.mode {
            Mode::Min => -value > -best + min_delta,
            Mode::Max => value > best + min_delta,
        }
    }
}

impl Default for Monitor {
    /// The validation accuracy.
    fn default() -> Self {
        Self::new(VAL_ACCURACY, Mode::Max)
    }
}

pub(crate) const VAL_LOSS: &str = "val_loss";
pub(crate) const VAL_ACCURACY: &str = "val_accuracy";

/// Recipes from before there was `monitor` choose the metric by `mode`.
pub(crate) fn of_old_mode(monitor: Option<String>, mode: Option<Mode>) -> (String, Option<Mode>) {
    match (monitor, mode) {
        (Some(monitor), mode) => (monitor, mode),
        (None, None | Some(Mode::Min)) => (VAL_LOSS.to_owned(), None),
        (None, Some(Mode::Max)) => (VAL_ACCURACY.to_owned(), None),
    }
}

/// The metrics that every run measures.
const ALWAYS: [(&str, Mode); 4] = [
    ("train_loss", Mode::Min),
    ("train_accuracy", Mode::Max),
    (VAL_LOSS, Mode::Min),
    (VAL_ACCURACY, Mode::Max),
];

/// All metrics that a run measures in each epoch, and whether lower or higher is better for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    modes: BTreeMap<String, Mode>,
}

impl Measured {
    /// The metrics that every run measures, and these.
    ///
    /// # Errors
    /// If two metrics have the same name.
    pub fn with(metrics: &[Box<dyn Metric>]) -> Result<Self> {
        let mut modes: BTreeMap<String, Mode> =
            ALWAYS.into_iter().map(|(name, mode)| (name.to_owned(), mode)).collect();
        for metric in metrics {
            let mode = if metric.higher_is_better() { Mode::Max } else { Mode::Min };
            if modes.insert(metric.name(), mode).is_some() {
                let expected = "a list in which every name is there once; give yours another name";
                return Err(Error::setting(
                    "metrics",
                    format!("`{}` twice", metric.name()),
                    expected,
                ));
            }
        }
        Ok(Self { modes })
    }

    /// The metric called `metric`. `setting` is the setting that asks for it, for messages.
    ///
    /// # Errors
    /// If it is not measured. The message suggests similar names.
    pub fn monitor(&self, setting: &str, metric: &str, mode: Option<Mode>) -> Result<Monitor> {
        let Some(&own) = self.modes.get(metric) else {
            let names = || self.modes.keys().map(String::as_str);
            let near = did_you_mean(metric, names());
            let known = names().collect::<Vec<_>>().join(", ");
            let expected = format!(
                "one of {known}{near}; a metric of another name is listed in `metrics` first"
            );
            return Err(Error::setting(setting, metric, expected));
        };
        Ok(Monitor::new(metric, mode.unwrap_or(own)))
    }
}

impl Default for Measured {
    /// The metrics that every run measures.
    fn default() -> Self {
        Self { modes: ALWAYS.map(|(name, mode)| (name.to_owned(), mode)).into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_nobody_measures_is_named_with_near_ones() {
        let measured = Measured::default();
        assert_eq!(
            measured.monitor("monitor", "val_loss", None).unwrap(),
            Monitor::new("val_loss", Mode::Min)
        );
        let error =
            measured.monitor("early_stop.monitor", "val_los", None).unwrap_err().to_string();
        assert!(error.starts_with("`early_stop.monitor` is val_los"), "{error}");
        assert!(error.contains("did you mean `val_loss`"), "{error}");
    }

    #[test]
    fn better_depends_on_the_mode() {
        let loss = Monitor::new("val_loss", Mode::Min);
        assert!(loss.is_better(0.5, 1.0, 0.4) && !loss.is_better(0.5, 1.0, 0.5));
        assert!(Monitor::default().is_better(0.9, 0.5, 0.3));
        assert!(!Monitor::default().is_better(0.5, 0.5, 0.0));
    }
}
