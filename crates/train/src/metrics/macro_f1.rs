//! The mean of the classes' F1 scores.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Metric, class_scores};
use crate::Result;
use crate::evaluate::{Answers, largest};
use crate::parts::described;

/// The mean of the classes' F1 scores, `0.0..=1.0`. Every class has the same weight, however many images it
/// has. Classes that have no images and are never predicted do not count.
///
/// In a recipe: `metrics = [{ name = "macro_f1" }]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacroF1 {
    #[serde(skip)]
    confusion: Vec<Vec<usize>>,
}

impl MacroF1 {
    /// The metric before the first batch.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Metric for MacroF1 {
    fn name(&self) -> String {
        "macro_f1".to_owned()
    }

    fn reset(&mut self) {
        self.confusion.clear();
    }

    fn add(&mut self, answers: &Answers<'_>) -> Result<()> {
        for (row, &label) in answers.rows.iter().zip(answers.labels) {
            self.confusion.resize(row.len(), vec![0; row.len()]);
            self.confusion[label as usize][largest(row)] += 1;
        }
        Ok(())
    }

    fn value(&self) -> f64 {
        let scores: Vec<f64> =
            class_scores(&self.confusion).iter().filter_map(|scores| scores.f1).collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }
}

impl From<MacroF1> for Description {
    fn from(metric: MacroF1) -> Self {
        described("macro_f1", &metric)
    }
}
