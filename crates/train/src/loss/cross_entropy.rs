//! Cross entropy with label smoothing and class weights.

use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use candle_vision_ops::{CrossEntropyConfig, Targets, cross_entropy};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Loss, Mean};
use crate::Result;
use crate::error::require;
use crate::evaluate::Answers;
use crate::parts::described;

/// Cross entropy with label smoothing and class weights, as PyTorch's `CrossEntropyLoss`.
///
/// Training takes the mean over a batch and has a gradient. Evaluation computes each row by itself in
/// `f64`, so the loss of a data set does not depend on the batch size.
///
/// In a recipe: `loss = { name = "cross_entropy", label_smoothing = 0.1 }`.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_train::loss::{CrossEntropy, Loss};
///
/// let logits = Tensor::new(&[[0f32, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32], &Device::Cpu)?;
/// let loss = CrossEntropy::new().label_smoothing(0.1).loss(&logits, &labels)?;
/// assert!((loss.to_scalar::<f32>()? - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropy {
    /// Fraction of each target that is spread over all classes, `0.0..1.0`.
    #[serde(default)]
    label_smoothing: f64,
    /// Factor of each class's term, if classes are weighted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class_weights: Option<Vec<f64>>,
    /// The weights on the device of the first logits. If they were uploaded in each step, the host would
    /// wait.
    #[serde(skip)]
    uploaded: OnceLock<Tensor>,
}

impl CrossEntropy {
    /// Cross entropy without smoothing and without weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spreads this fraction of each target over all classes. It is in `0.0..1.0`.
    pub fn label_smoothing(self, fraction: f64) -> Self {
        Self { label_smoothing: fraction, ..self }
    }

    /// Multiplies each class's term by a factor. There is one factor per class, and none is negative.
    pub fn class_weights(self, weights: impl Into<Vec<f64>>) -> Self {
        Self { class_weights: Some(weights.into()), uploaded: OnceLock::new(), ..self }
    }

    fn config(&self, device: &Device) -> Result<CrossEntropyConfig> {
        let class_weights = match &self.class_weights {
            None => None,
            Some(weights) => Some(self.weights_on(weights, device)?),
        };
        Ok(CrossEntropyConfig { label_smoothing: self.label_smoothing, class_weights })
    }

    fn weights_on(&self, weights: &[f64], device: &Device) -> Result<Tensor> {
        if let Some(uploaded) = self.uploaded.get().filter(|w| w.device().same_device(device)) {
            return Ok(uploaded.clone());
        }
        let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
        let weights = Tensor::new(weights, device)?;
        // Another thread may have set it first, with the same values.
        let _ = self.uploaded.set(weights.clone());
        Ok(weights)
    }

    /// The loss term and the weight of one row in the mean over a data set.
    fn term(&self, log_probabilities: &[f64], label: usize) -> (f64, f64) {
        let smoothing = self.label_smoothing;
        let weights = self.class_weights.as_ref();
        let weight = |class: usize| weights.map_or(1.0, |weights| weights[class]);
        let share = smoothing / log_probabilities.len() as f64;
        let spread = log_probabilities.iter().enumerate();
        let spread: f64 = spread.map(|(class, log)| -weight(class) * log).sum();
        let hard = -weight(label) * log_probabilities[label];
        let smoothed = if smoothing == 0.0 { 0.0 } else { share * spread };
        ((1.0 - smoothing) * hard + smoothed, weight(label))
    }
}

impl Loss for CrossEntropy {
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        Ok(cross_entropy(logits, Targets::Labels(labels), &self.config(logits.device())?)?)
    }

    fn add_to_mean(&self, answers: &Answers<'_>, mean: &mut Mean) -> Result<()> {
        self.check_classes(answers.log_probabilities.first().map_or(0, Vec::len))?;
        for (row, &label) in answers.log_probabilities.iter().zip(answers.labels) {
            let (loss, weight) = self.term(row, label as usize);
            mean.add(loss, weight);
        }
        Ok(())
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        let fraction = (0.0..1.0).contains(&self.label_smoothing);
        require(fraction, "label_smoothing", self.label_smoothing, "in 0..1, 1 excluded")
    }

    fn check_classes(&self, classes: usize) -> Result<()> {
        let Some(weights) = &self.class_weights else { return Ok(()) };
        let valid = weights.len() == classes
            && weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite())
            && weights.iter().any(|weight| *weight > 0.0);
        let expected = format!("{classes} numbers, one for each class, none negative");
        require(valid, "class_weights", format!("{weights:?}"), &expected)
    }
}

impl From<CrossEntropy> for Description {
    fn from(loss: CrossEntropy) -> Self {
        described("cross_entropy", &loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::log_softmax;

    #[test]
    fn terms_of_rows_add_up_to_the_loss_of_the_batch() -> Result<()> {
        let rows = [[0.3f32, -1.2, 2.0], [1.5, 0.1, -0.4], [0.0, 0.2, 0.1], [-3.0, 2.0, 0.5]];
        let labels = [2u32, 1, 0, 0];
        let logits = Tensor::new(&rows, &Device::Cpu)?;
        for smoothing in [0.0, 0.1] {
            for weights in [None, Some([0.5, 2.0, 1.0])] {
                let plain = CrossEntropy::new().label_smoothing(smoothing);
                let criterion = match weights {
                    None => plain,
                    Some(weights) => plain.class_weights(weights),
                };
                let loss = criterion.loss(&logits, &Tensor::new(&labels, &Device::Cpu)?)?;
                let mut mean = Mean::default();
                for (row, label) in rows.iter().zip(labels) {
                    let (loss, weight) =
                        criterion.term(&log_softmax(&row.map(f64::from)), label as usize);
                    mean.add(loss, weight);
                }
                let difference = mean.value() - f64::from(loss.to_scalar::<f32>()?);
                assert!(difference.abs() < 1e-6, "{smoothing} {weights:?}: {difference}");
            }
        }
        Ok(())
    }

    #[test]
    fn impossible_settings_are_named() {
        let check = |loss: CrossEntropy, named: &str| {
            let error = loss.validate().and_then(|()| loss.check_classes(2)).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
        };
        let new = CrossEntropy::new;
        check(new().label_smoothing(1.0), "`label_smoothing` is 1");
        check(new().label_smoothing(f64::NAN), "`label_smoothing` is NaN");
        check(new().class_weights([1.0]), "`class_weights` is [1.0]; it must be 2 numbers");
        check(new().class_weights([1.0, -1.0]), "`class_weights`");
        check(new().class_weights([0.0, 0.0]), "`class_weights`");
    }
}
