//! Mean average precision.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::Metric;
use crate::Result;
use crate::evaluate::Answers;
use crate::loss::TargetKind;
use crate::parts::described;

/// The mean of the classes' average precisions, `0.0..=1.0`, for images of several labels. The average precision of a class
/// is that of scikit-learn's `average_precision_score`: the mean of the precision at each image that has the label, when
/// images are sorted by their logit. Classes that no image has do not count.
///
/// In a recipe: `metrics = [{ name = "mean_average_precision" }]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanAveragePrecision {
    /// For each class the logit of each image, and whether the image has the label.
    #[serde(skip)]
    classes: Vec<Vec<(f32, bool)>>,
}

impl MeanAveragePrecision {
    /// The metric before the first batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The average precision of each class, `0.0..=1.0`. `None` for a class that no image has.
    pub fn of_classes(&self) -> Vec<Option<f64>> {
        self.classes.iter().map(|answers| average_precision(answers)).collect()
    }
}

impl Metric for MeanAveragePrecision {
    fn name(&self) -> String {
        "mean_average_precision".to_owned()
    }

    fn reset(&mut self) {
        self.classes.clear();
    }

    fn add(&mut self, answers: &Answers<'_>) -> Result<()> {
        for (image, row) in answers.rows.iter().enumerate() {
            self.classes.resize(row.len(), Vec::new());
            for (class, (of_class, &logit)) in self.classes.iter_mut().zip(row).enumerate() {
                of_class.push((logit as f32, answers.has_label(image, class)));
            }
        }
        Ok(())
    }

    fn value(&self) -> f64 {
        let known: Vec<f64> = self.of_classes().into_iter().flatten().collect();
        known.iter().sum::<f64>() / known.len() as f64
    }

    fn takes(&self, _targets: TargetKind) -> bool {
        true
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }
}

fn average_precision(answers: &[(f32, bool)]) -> Option<f64> {
    let positives = answers.iter().filter(|(_, is_there)| *is_there).count();
    if positives == 0 {
        return None;
    }
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut sum, mut seen, mut found) = (0.0, 0, 0);
    // Images of equal logits have no order among them, so they count together.
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let there = equal.iter().filter(|(_, is_there)| *is_there).count();
        (seen, found) = (seen + equal.len(), found + there);
        sum += there as f64 * found as f64 / seen as f64;
    }
    Some(sum / positives as f64)
}

impl From<MeanAveragePrecision> for Description {
    fn from(metric: MeanAveragePrecision) -> Self {
        described("mean_average_precision", &metric)
    }
}
