//! Exact match for images of several labels.

use candle_core::{DType, Tensor};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::Metric;
use crate::Result;
use crate::evaluate::Answers;
use crate::loss::{Mean, TargetKind};
use crate::parts::described;

/// Fraction of images whose labels are all predicted, and no others, `0.0..=1.0`. A label is predicted if its probability
/// is over 0.5. It is scikit-learn's `accuracy_score` for several labels, and the accuracy of a run on such images.
///
/// In a recipe: `metrics = [{ name = "exact_match" }]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExactMatch {
    #[serde(skip)]
    seen: Mean,
}

impl ExactMatch {
    /// The metric before the first batch.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Metric for ExactMatch {
    fn name(&self) -> String {
        "exact_match".to_owned()
    }

    fn reset(&mut self) {
        self.seen = Mean::default();
    }

    fn add(&mut self, answers: &Answers<'_>) -> Result<()> {
        for image in 0..answers.rows.len() {
            self.seen.add(f64::from(u8::from(is_exact(answers, image))), 1.0);
        }
        Ok(())
    }

    fn value(&self) -> f64 {
        self.seen.value()
    }

    fn takes(&self, _targets: TargetKind) -> bool {
        true
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }
}

/// Whether exactly the labels of an image have probabilities over 0.5.
fn is_exact(answers: &Answers<'_>, image: usize) -> bool {
    let mut row = answers.rows[image].iter().enumerate();
    row.all(|(class, logit)| (*logit > 0.0) == answers.has_label(image, class))
}

/// Number of rows in which exactly the targets of 0.5 and more have positive logits.
pub(crate) fn count_exact(logits: &Tensor, targets: &Tensor) -> Result<usize> {
    let rows = logits.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let targets = targets.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let is_exact = |(row, targets): &(&Vec<f64>, &Vec<f64>)| {
        row.iter().zip(*targets).all(|(logit, target)| (*logit > 0.0) == (*target >= 0.5))
    };
    Ok(rows.iter().zip(&targets).filter(is_exact).count())
}

impl From<ExactMatch> for Description {
    fn from(metric: ExactMatch) -> Self {
        described("exact_match", &metric)
    }
}
