//! What a network is trained to make small.

use candle_core::{Device, Tensor};
use candle_vision_ops::{CrossEntropyConfig, Targets, cross_entropy};

use crate::Result;
use crate::error::require;

/// Cross entropy with label smoothing and class weights, as PyTorch's `CrossEntropyLoss`.
///
/// Training takes the mean over a batch with a gradient; evaluation takes single rows in `f64`, so
/// that the loss of a data set does not depend on how it is cut into batches.
#[derive(Debug, Clone)]
pub struct Criterion {
    config: CrossEntropyConfig,
    weights: Option<Vec<f64>>,
}

/// One row's part of a mean loss: the means are sums of terms over sums of weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub(crate) loss: f64,
    pub(crate) weight: f64,
}

impl Criterion {
    /// - `label_smoothing`: fraction of each target that is spread over all classes
    /// - `class_weights`: a factor for each of `classes`
    ///
    /// # Errors
    /// If a value is impossible, or there is not one weight for each class.
    pub fn new(
        label_smoothing: f64,
        class_weights: Option<&[f64]>,
        classes: usize,
        device: &Device,
    ) -> Result<Self> {
        let fraction = (0.0..1.0).contains(&label_smoothing);
        require(fraction, "label_smoothing", label_smoothing, "in 0..1, 1 excluded")?;
        if let Some(weights) = class_weights {
            let valid = weights.len() == classes
                && weights.iter().all(|weight| *weight >= 0.0 && weight.is_finite())
                && weights.iter().any(|weight| *weight > 0.0);
            let expected = format!("{classes} numbers, one for each class, none negative");
            require(valid, "class_weights", format!("{weights:?}"), &expected)?;
        }
        let weights = class_weights.map(<[f64]>::to_vec);
        let class_weights = match &weights {
            Some(weights) => {
                let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
                Some(Tensor::new(weights, device)?)
            }
            None => None,
        };
        Ok(Self { config: CrossEntropyConfig { label_smoothing, class_weights }, weights })
    }

    /// The mean loss of a batch, a scalar that gradients flow from.
    ///
    /// # Shapes
    /// - `logits`: `[batch, classes]`; `labels`: `[batch]`, `u32`
    ///
    /// # Errors
    /// If a shape differs, or a label is not below `classes`.
    pub fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        Ok(cross_entropy(logits, Targets::Labels(labels), &self.config)?)
    }

    /// The part of one row in the mean over a data set.
    pub(crate) fn term(&self, log_probabilities: &[f64], label: usize) -> Term {
        let smoothing = self.config.label_smoothing;
        let weight = |class: usize| self.weights.as_ref().map_or(1.0, |weights| weights[class]);
        let share = smoothing / log_probabilities.len() as f64;
        let spread = log_probabilities.iter().enumerate();
        let spread: f64 = spread.map(|(class, log)| -weight(class) * log).sum();
        let hard = -weight(label) * log_probabilities[label];
        let smoothed = if smoothing == 0.0 { 0.0 } else { share * spread };
        Term { loss: (1.0 - smoothing) * hard + smoothed, weight: weight(label) }
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
                let weights = weights.as_ref().map(<[f64; 3]>::as_slice);
                let criterion = Criterion::new(smoothing, weights, 3, &Device::Cpu)?;
                let loss = criterion.loss(&logits, &Tensor::new(&labels, &Device::Cpu)?)?;
                let terms = rows.iter().zip(labels).map(|(row, label)| {
                    criterion.term(&log_softmax(&row.map(f64::from)), label as usize)
                });
                let (sum, weight) =
                    terms.fold((0.0, 0.0), |(a, b), term| (a + term.loss, b + term.weight));
                let difference = sum / weight - f64::from(loss.to_scalar::<f32>()?);
                assert!(difference.abs() < 1e-6, "{smoothing} {weights:?}: {difference}");
            }
        }
        Ok(())
    }

    #[test]
    fn impossible_settings_are_named() {
        let check = |smoothing, weights: Option<&[f64]>, named: &str| {
            let error = Criterion::new(smoothing, weights, 2, &Device::Cpu).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
        };
        check(1.0, None, "`label_smoothing` is 1");
        check(f64::NAN, None, "`label_smoothing` is NaN");
        check(0.0, Some(&[1.0]), "`class_weights` is [1.0]; it must be 2 numbers");
        check(0.0, Some(&[1.0, -1.0]), "`class_weights`");
        check(0.0, Some(&[0.0, 0.0]), "`class_weights`");
    }
}
