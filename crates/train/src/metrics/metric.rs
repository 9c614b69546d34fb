//! Numbers of a validation pass that a run records, shows and may be judged by.

use std::fmt::Debug;

use candle_vision_registry::Description;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::macro_f1::MacroF1;
use super::top_k::TopK;
use crate::Result;
use crate::evaluate::Answers;
use crate::parts::{PartEntry, PartTable, try_described};

/// A number of a validation pass. Every epoch's record has it; a schedule, an early stop and the choice of the
/// best epoch may go by it. The validation loss and accuracy are measured in any case.
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
    /// What records, events and `monitor` call it.
    fn name(&self) -> String;

    /// A validation pass begins.
    fn reset(&mut self);

    /// Takes in a batch of the pass.
    ///
    /// # Errors
    /// If the answers are such that nothing can be measured.
    fn add(&mut self, answers: &Answers<'_>) -> Result<()>;

    /// The number, when all batches are in. One that is not finite is not recorded.
    fn value(&self) -> f64;

    /// Whether a higher number is better.
    fn higher_is_better(&self) -> bool {
        true
    }

    /// Name and settings. A run with a metric that has none cannot be resumed.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// Checks that it suits a network with so many classes.
    ///
    /// # Errors
    /// If it does not; the error names the setting.
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
            ],
        )
    }
}

impl PartEntry<dyn Metric> {
    /// The entry of a metric whose settings are its fields; mark those that it counts with `#[serde(skip)]`.
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

/// A metric under the name of its entry.
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

    fn describe(&self) -> Option<Description> {
        Some(self.description.clone())
    }

    fn check_classes(&self, classes: usize) -> Result<()> {
        self.metric.check_classes(classes)
    }
}
