//! Top-k accuracy.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Metric, rank};
use crate::error::require;
use crate::evaluate::Answers;
use crate::loss::Mean;
use crate::parts::described;
use crate::{Error, Result};

/// Fraction of images whose class is among the `k` most probable, `0.0..=1.0`. Its name is `top_5` for
/// `k = 5`.
///
/// In a recipe: `metrics = [{ name = "top_k", k = 5 }]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    k: usize,
    #[serde(skip)]
    seen: Mean,
}

impl TopK {
    /// - `k`: at least 1 and at most the number of classes
    pub fn new(k: usize) -> Self {
        Self { k, seen: Mean::default() }
    }
}

impl Metric for TopK {
    fn name(&self) -> String {
        format!("top_{}", self.k)
    }

    fn reset(&mut self) {
        self.seen = Mean::default();
    }

    fn add(&mut self, answers: &Answers<'_>) -> Result<()> {
        for (row, &label) in answers.rows.iter().zip(answers.labels) {
            let rank = rank(row, label as usize).ok_or_else(|| {
                let expected = format!("below the number of classes {}", row.len());
                Error::setting("label", label, expected)
            })?;
            self.seen.add(f64::from(u8::from(rank < self.k)), 1.0);
        }
        Ok(())
    }

    fn value(&self) -> f64 {
        self.seen.value()
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn check_classes(&self, classes: usize) -> Result<()> {
        let valid = (1..=classes).contains(&self.k);
        require(
            valid,
            "metrics.k",
            self.k,
            &format!("at least 1 and at most {classes}, the classes"),
        )
    }
}

impl From<TopK> for Description {
    fn from(metric: TopK) -> Self {
        described("top_k", &metric)
    }
}
