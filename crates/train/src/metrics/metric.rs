//! Metrics of a validation pass, which a run records, shows and can monitor.

use std::fmt::Debug;

use candle_vision_registry::Description;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::exact_match::ExactMatch;
use super::macro_f1::MacroF1;
use super::mean_average_precision::MeanAveragePrecision;
use super::multi_label_f1::MultiLabelF1;
use super::top_k::TopK;
use crate::evaluate::Answers;
use crate::loss::TargetKind;
use crate::parts::{PartEntry, PartTable, try_described};
use crate::{Error, Result};

/// A metric of a validation pass. It is part of every epoch's record. A schedule, early stopping and the
/// choice of the best epoch can monitor it. The validation loss and accuracy are always measured.
///
/// # Example
/// How sure the network is, on average:
/// ```
/// use candle_vision_train::metrics::Metric;
/// use candle_vision_train::{Answers, Mean, Result};
///
/// #[derive(Debug, Default)]
/// struct Confidence(Mean);
///
/// impl Metric for Confidence {
///     fn name(&self) -> String { "confidence".to_owned() }
///     fn reset(&mut self) { *self = Self::default(); }
///     fn add(&mut self, answers: &Answers<'_>) -> Result<()> {
///         for row in answers.log_probabilities {
///             let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
///             self.0.add(largest.exp(), 1.0);
///         }
///         Ok(())
///     }
///     fn value(&self) -> f64 { self.0.value() }
/// }
/// ```
pub trait Metric: Debug {
    /// Its name in records, in events and in `monitor`.
    fn name(&self) -> String;

    /// Starts a new validation pass.
    fn reset(&mut self);

    /// Adds a batch of the pass.
    ///
    /// # Errors
    /// If nothing can be measured on these answers.
    fn add(&mut self, answers: &Answers<'_>) -> Result<()>;

    /// The value after all batches. A value that is not finite is not recorded.
    fn value(&self) -> f64;

    /// Whether a higher number is better.
    fn higher_is_better(&self) -> bool {
        true
    }

    /// Whether it can be measured on images with such targets. By default on those with one label each.
    fn takes(&self, targets: TargetKind) -> bool {
        targets == TargetKind::Label
    }

    /// Name and settings. A run with a metric without a description cannot be resumed.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// Checks that the metric suits a network with `classes` classes.
    ///
    /// # Errors
    /// If it does not. The error names the setting.
    fn check_classes(&self, classes: usize) -> Result<()> {
        let _ = classes;
        Ok(())
    }
}

/// The metrics that recipes can name.
pub type Metrics = PartTable<dyn Metric>;

/// A row of [`Metrics`].
pub type MetricEntry = PartEntry<dyn Metric>;

impl PartTable<dyn Metric> {
    /// The built-in metrics.
    pub fn standard() -> Self {
        Self::of(
            "metric",
            [
                MetricEntry::of::<TopK>(
                    "top_k",
                    "images whose class is among the `k` most probable",
                ),
                MetricEntry::of::<MacroF1>("macro_f1", "the mean of the classes' F1 scores"),
                MetricEntry::of::<MeanAveragePrecision>(
                    "mean_average_precision",
                    "several labels: the mean of the classes' average precisions",
                ),
                MetricEntry::of::<MultiLabelF1>(
                    "multi_label_f1",
                    "several labels: F1 score at a probability of 0.5, `average` over classes",
                ),
                MetricEntry::of::<ExactMatch>(
                    "exact_match",
                    "several labels: images whose labels are all right at a probability of 0.5",
                ),
            ],
        )
    }
}

/// Checks before training that a metric takes the targets of the validation images.
pub(crate) fn check_metric(metric: &dyn Metric, targets: TargetKind) -> Result<()> {
    if metric.takes(targets) {
        return Ok(());
    }
    let part = format!("the metric `{}`", metric.name());
    Err(Error::Targets { part, targets: targets.to_string() })
}

impl PartEntry<dyn Metric> {
    /// The entry of a metric. The fields of its struct are its settings. Mark its counters with
    /// `#[serde(skip)]`.
    pub fn of<M>(name: &'static str, summary: &str) -> Self
    where
        M: Metric + Serialize + DeserializeOwned + 'static,
    {
        Self::new(name, summary, move |description| {
            let metric: M = description.settings()?;
            let description = try_described(name, &metric)?;
            Ok(Box::new(Described { metric, description }))
        })
    }
}

/// A metric with the name of its entry.
#[derive(Debug)]
struct Described<M> {
    metric: M,
    description: Description,
}

impl<M: Metric> Metric for Described<M> {
    fn name(&self) -> String {
        self.metric.name()
    }

    fn reset(&mut self) {
        self.metric.reset();
    }

    fn add(&mut self, answers: &Answers<'_>) -> Result<()> {
        self.metric.add(answers)
    }

    fn value(&self) -> f64 {
        self.metric.value()
    }

    fn higher_is_better(&self) -> bool {
        self.metric.higher_is_better()
    }

    fn takes(&self, targets: TargetKind) -> bool {
        self.metric.takes(targets)
    }

    fn describe(&self) -> Option<Description> {
        Some(self.description.clone())
    }

    fn check_classes(&self, classes: usize) -> Result<()> {
        self.metric.check_classes(classes)
    }
}
