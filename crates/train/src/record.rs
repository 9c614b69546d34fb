//! The measurements of a run.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::monitor::Monitor;

/// The result of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Mean loss over the training images, measured during training.
    pub train_loss: f64,
    /// Fraction of the training images that were classified correctly, `0.0..=1.0`, measured during
    /// training. It is NaN if the training step gives no logits.
    #[serde(default = "unknown", deserialize_with = "number_or_null")]
    pub train_accuracy: f64,
    /// Mean loss over the validation images, in evaluation mode after the epoch.
    pub val_loss: f64,
    /// Fraction of the validation images that were classified correctly, `0.0..=1.0`.
    pub val_accuracy: f64,
    /// Learning rate of the epoch. If each step has its own rate, it is that of the last step.
    pub lr: f64,
    /// Wall time of the epoch in seconds, including validation.
    pub seconds: f64,
    /// Training images per second, without validation.
    pub images_per_second: f64,
    /// The most memory that was in use until the end of the epoch, in bytes, as [`peak_memory`](crate::peak_memory)
    /// tells it. A resumed run counts anew. `None` where the system does not say, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// The share of the epoch's training steps in which a process waited for the others, `0.0..=1.0`: the mean over all processes.
    /// Where a run went on within an epoch, it is that of the steps since. `None` for one process, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<f64>,
    /// Metrics of the validation by name, besides loss and accuracy. A metric with a value that is not
    /// finite is missing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

fn unknown() -> f64 {
    f64::NAN
}

/// JSON has no NaN, so it is written as `null`.
fn number_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl EpochRecord {
    /// A record without measurements: all numbers are zero. Set the fields when they are known.
    pub fn new(epoch: usize) -> Self {
        Self {
            epoch,
            train_loss: 0.0,
            train_accuracy: 0.0,
            val_loss: 0.0,
            val_accuracy: 0.0,
            lr: 0.0,
            seconds: 0.0,
            images_per_second: 0.0,
            peak_memory: None,
            waiting: None,
            metrics: BTreeMap::new(),
        }
    }

    /// The metric called `name`, as in [`Monitor::metric`].
    pub fn measured(&self, name: &str) -> Option<f64> {
        match name {
            "train_loss" => Some(self.train_loss),
            "train_accuracy" => Some(self.train_accuracy),
            "val_loss" => Some(self.val_loss),
            "val_accuracy" => Some(self.val_accuracy),
            _ => self.metrics.get(name).copied(),
        }
    }
}

/// The result of one training batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Number of the step in the whole run, from 1.
    pub step: usize,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Mean loss of the batch before the step.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
}

/// Everything a run has measured so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Every finished epoch, in order.
    pub epochs: Vec<EpochRecord>,
    /// Every training batch, in order.
    pub batches: Vec<BatchRecord>,
}

impl History {
    /// The epoch with the highest validation accuracy. Ties go to the earliest epoch.
    pub fn best(&self) -> Option<&EpochRecord> {
        self.best_by(&Monitor::default())
    }

    /// The best epoch by this metric, among those that have it. Ties go to the earliest epoch.
    pub fn best_by(&self, monitor: &Monitor) -> Option<&EpochRecord> {
        let mut best: Option<(f64, &EpochRecord)> = None;
        for epoch in &self.epochs {
            let Some(value) = monitor.value(epoch) else { continue };
            if best.is_none_or(|(best, _)| monitor.is_better(value, best, 0.0)) {
                best = Some((value, epoch));
            }
        }
        best.map(|(_, epoch)| epoch)
    }

    /// The names of what was measured beside loss and accuracy, in any epoch.
    pub fn metric_names(&self) -> BTreeSet<&str> {
        self.epochs.iter().flat_map(|epoch| epoch.metrics.keys()).map(String::as_str).collect()
    }

    /// The most memory that any epoch recorded, in bytes.
    pub fn peak_memory(&self) -> Option<u64> {
        self.epochs.iter().filter_map(|epoch| epoch.peak_memory).max()
    }

    /// Whether any epoch recorded how long processes waited for each other.
    pub fn has_waiting(&self) -> bool {
        self.epochs.iter().any(|epoch| epoch.waiting.is_some())
    }

    /// Mean wall time of an epoch in seconds, including validation. `None` without an epoch.
    pub fn seconds_per_epoch(&self) -> Option<f64> {
        let total: f64 = self.epochs.iter().map(|epoch| epoch.seconds).sum();
        (!self.epochs.is_empty()).then(|| total / self.epochs.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(accuracies: &[f64]) -> History {
        let record = |(i, &val_accuracy): (usize, &f64)| EpochRecord {
            val_accuracy,
            ..EpochRecord::new(i + 1)
        };
        History { epochs: accuracies.iter().enumerate().map(record).collect(), batches: Vec::new() }
    }

    #[test]
    fn the_earliest_of_equal_epochs_is_best() {
        let best = |accuracies| history(accuracies).best().map(|record| record.epoch);
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[0.0]), Some(1));
        assert_eq!(best(&[0.5, 0.9, 0.7, 0.9]), Some(2));
    }

    #[test]
    fn what_epochs_cost_is_summed_up() {
        let mut run = history(&[0.5, 0.9, 0.7]);
        for (epoch, (seconds, peak)) in
            run.epochs.iter_mut().zip([(1.0, None), (2.0, Some(7)), (3.0, Some(5))])
        {
            (epoch.seconds, epoch.peak_memory) = (seconds, peak);
        }
        assert_eq!((run.seconds_per_epoch(), run.peak_memory()), (Some(2.0), Some(7)));
        let none = History::default();
        assert_eq!((none.seconds_per_epoch(), none.peak_memory()), (None, None));
    }

    #[test]
    fn a_record_from_before_there_were_metrics_is_read() {
        let json = r#"{"epoch":1,"train_loss":0.5,"train_accuracy":null,"val_loss":0.25,
            "val_accuracy":1.0,"lr":0.001,"seconds":2.0,"images_per_second":100.0}"#;
        let record: EpochRecord = serde_json::from_str(json).unwrap();
        assert!(record.metrics.is_empty() && record.train_accuracy.is_nan());
        assert_eq!((record.peak_memory, record.waiting), (None, None));
        let written = serde_json::to_string(&record).unwrap();
        let is_new = ["metrics", "memory", "waiting"].iter().any(|name| written.contains(name));
        assert!(!is_new, "{written}");
    }
}
