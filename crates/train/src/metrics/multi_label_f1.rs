//! F1 score for images of several labels.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::Metric;
use crate::Result;
use crate::error::require;
use crate::evaluate::Answers;
use crate::loss::TargetKind;
use crate::parts::described;

/// F1 score for images of several labels, `0.0..=1.0`. A label is predicted if its probability is over `threshold`.
///
/// In a recipe: `metrics = [{ name = "multi_label_f1", average = "macro", threshold = 0.5 }]`. With `"micro"` it is called
/// `multi_label_micro_f1` in records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiLabelF1 {
    average: Average,
    threshold: f64,
    #[serde(skip)]
    classes: Vec<Counts>,
}

/// How the scores of classes become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Average {
    /// Their mean. Classes that no image has and that are never predicted do not count.
    #[default]
    Macro,
    /// The score of all decisions together, so that frequent labels count more.
    Micro,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counts {
    /// Number of images that have the label and are said to have it.
    right: usize,
    /// Number of images that have the label, and of those that are said to have it.
    sides: usize,
}

impl MultiLabelF1 {
    /// The mean score of classes at a probability of 0.5.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the scores of classes become one.
    pub fn average(self, average: Average) -> Self {
        Self { average, ..self }
    }

    /// Sets the probability over which a label counts as predicted, between 0 and 1.
    pub fn threshold(self, threshold: f64) -> Self {
        Self { threshold, ..self }
    }
}

impl Default for MultiLabelF1 {
    fn default() -> Self {
        Self { average: Average::Macro, threshold: 0.5, classes: Vec::new() }
    }
}

impl Metric for MultiLabelF1 {
    fn name(&self) -> String {
        match self.average {
            Average::Macro => "multi_label_f1".to_owned(),
            Average::Micro => "multi_label_micro_f1".to_owned(),
        }
    }

    fn reset(&mut self) {
        self.classes.clear();
    }

    fn add(&mut self, answers: &Answers<'_>) -> Result<()> {
        let logit_at = (self.threshold / (1.0 - self.threshold)).ln();
        for (image, row) in answers.rows.iter().enumerate() {
            self.classes.resize(row.len(), Counts::default());
            for (class, (counts, &logit)) in self.classes.iter_mut().zip(row).enumerate() {
                let (is_there, is_said) = (answers.has_label(image, class), logit > logit_at);
                counts.right += usize::from(is_there && is_said);
                counts.sides += usize::from(is_there) + usize::from(is_said);
            }
        }
        Ok(())
    }

    fn value(&self) -> f64 {
        let f1 = |counts: &Counts| 2.0 * counts.right as f64 / counts.sides as f64;
        match self.average {
            Average::Macro => {
                let known = || self.classes.iter().filter(|counts| counts.sides > 0);
                known().map(f1).sum::<f64>() / known().count() as f64
            }
            Average::Micro => {
                let add = |all: Counts, one: &Counts| Counts {
                    right: all.right + one.right,
                    sides: all.sides + one.sides,
                };
                f1(&self.classes.iter().fold(Counts::default(), add))
            }
        }
    }

    fn takes(&self, _targets: TargetKind) -> bool {
        true
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn check_classes(&self, _classes: usize) -> Result<()> {
        let valid = self.threshold > 0.0 && self.threshold < 1.0;
        require(valid, "metrics.threshold", self.threshold, "a probability between 0 and 1")
    }
}

impl From<MultiLabelF1> for Description {
    fn from(metric: MultiLabelF1) -> Self {
        described("multi_label_f1", &metric)
    }
}
