//! Focal loss.

use candle_core::Tensor;
use candle_vision_data::samplers::ClassWeights;
use candle_vision_ops::{add, cross_entropy_sum, log_softmax};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::class_balance::{ClassBalance, check_weights, sum_of_weights, told};
use super::{Loss, Mean, TargetKind};
use crate::Result;
use crate::error::require;
use crate::evaluate::Answers;
use crate::parts::described;

/// Focal loss: cross entropy in which well-classified images count less (Lin et al. 2017, "Focal Loss for Dense Object
/// Detection", equation 5, over a softmax).
///
/// An image whose true class has the probability `p` has the loss `-w (1 - p)^gamma ln p`, where `w` is the weight of
/// its class. The sum is divided by the sum of the weights, unless that is 0, as in [`CrossEntropy`](super::CrossEntropy),
/// which is this loss with `gamma = 0`. torchvision's `sigmoid_focal_loss` is the form for sigmoids.
///
/// Of a mixed image each class's loss counts by its share: `-sum(w q (1 - p)^gamma ln p)` with the shares `q`. As in the
/// cross entropy of class probabilities, the sum over a batch is divided by its size and not by weights.
///
/// In a recipe: `loss = { name = "focal", gamma = 2.0, class_weights = "balanced" }`.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_train::loss::{Focal, Loss};
///
/// let logits = Tensor::new(&[[0f32, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[1u32], &Device::Cpu)?;
/// let loss = Focal::new(2.0).loss(&logits, &labels)?.to_scalar::<f32>()?;
/// assert!((loss - 0.25 * 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Focal {
    /// The exponent, 0 or more.
    #[serde(default = "two")]
    gamma: f64,
    /// Factor of each class's term, the paper's alpha.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class_weights: Option<ClassWeights>,
    #[serde(skip)]
    balance: ClassBalance,
}

fn two() -> f64 {
    2.0
}

impl Focal {
    /// Focal loss with this exponent. The paper uses 2.
    pub fn new(gamma: f64) -> Self {
        Self { gamma, class_weights: None, balance: ClassBalance::default() }
    }

    /// Multiplies the terms of each class by a factor.
    pub fn class_weights(self, weights: ClassWeights) -> Self {
        Self { class_weights: Some(weights), balance: ClassBalance::default(), ..self }
    }

    fn weights(&self) -> Result<Option<Vec<f64>>> {
        self.class_weights.as_ref().map(|weights| self.balance.weights(weights)).transpose()
    }
}

/// A sum of focal terms, and the factors that its gradient follows from.
struct Terms {
    value: Tensor,
    factors: Tensor,
}

impl Focal {
    /// The sum of `-share (1 - p)^gamma ln p` over the elements of `log`, the logarithms of the probabilities `p`.
    fn terms(&self, log: &Tensor, share: &Tensor) -> Result<Terms> {
        let probability = log.exp()?;
        let missing = probability.affine(-1.0, 1.0)?.maximum(0.0)?;
        let focus = (missing.powf(self.gamma)? * share)?;
        let value = (&focus * log)?.sum_all()?.neg()?;
        let odds = ((&probability * log)? / missing.maximum(1e-12)?)?;
        let factors = (focus * odds.affine(-self.gamma, 1.0)?)?;
        Ok(Terms { value, factors })
    }
}

/// `value` with the gradient of focal terms. With the factors c = focus * (1 - gamma p ln p / (1 - p)), that is the gradient
/// of the sum of -c ln p with fixed c. So one op of the cross entropy gives it, and the backward pass stays on the tape.
fn with_gradient(logits: &Tensor, value: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let with_gradient = cross_entropy_sum(logits, factors)?;
    let rest = (value - with_gradient.detach())?;
    Ok(add(&with_gradient, &rest)?)
}

impl Default for Focal {
    fn default() -> Self {
        Self::new(two())
    }
}

impl Loss for Focal {
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (batch, classes) = logits.dims2()?;
        let rows = labels.unsqueeze(1)?;
        let log = log_softmax(&logits.detach())?.gather(&rows, 1)?;
        let (dtype, device) = (logits.dtype(), logits.device());
        let weights = match self.weights()? {
            None => log.ones_like()?,
            Some(weights) => {
                let weights = self.balance.on_device(&weights, device)?.to_dtype(dtype)?;
                weights.index_select(labels, 0)?.reshape((batch, 1))?
            }
        };
        let sum = weights.sum_all()?;
        // Where all weights are 0, the sum of 0 is not divided. The host need not wait for that.
        let divisor = (&sum + sum.eq(&sum.zeros_like()?)?.to_dtype(dtype)?)?;
        let share = weights.broadcast_div(&divisor)?;
        let Terms { value, factors } = self.terms(&log, &share)?;
        let numbers = Tensor::arange(0, classes as u32, device)?.unsqueeze(0)?;
        let is_label = rows.broadcast_eq(&numbers)?.to_dtype(dtype)?;
        with_gradient(logits, &value, &is_label.broadcast_mul(&factors)?)
    }

    fn takes(&self, targets: TargetKind) -> bool {
        matches!(targets, TargetKind::Label | TargetKind::Shares)
    }

    fn loss_of_targets(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (batch, _) = logits.dims2()?;
        let share = targets.to_dtype(logits.dtype())?.affine(1.0 / batch as f64, 0.0)?;
        let share = match self.weights()? {
            None => share,
            Some(weights) => {
                let weights = self.balance.on_device(&weights, logits.device())?;
                share.broadcast_mul(&weights.to_dtype(logits.dtype())?)?
            }
        };
        let Terms { value, factors } = self.terms(&log_softmax(&logits.detach())?, &share)?;
        with_gradient(logits, &value, &factors)
    }

    fn divisor(&self, labels: &Tensor) -> Result<Option<f64>> {
        self.weights()?.map(|weights| sum_of_weights(&weights, labels)).transpose()
    }

    fn add_to_mean(&self, answers: &Answers<'_>, mean: &mut Mean) -> Result<()> {
        let weights = self.weights()?;
        for (row, &label) in answers.log_probabilities.iter().zip(answers.labels) {
            let label = label as usize;
            let weight = weights.as_ref().map_or(1.0, |weights| weights[label]);
            let log = row[label];
            mean.add(-weight * (-log.exp_m1()).powf(self.gamma) * log, weight);
        }
        Ok(())
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        let valid = self.gamma >= 0.0 && self.gamma.is_finite();
        require(valid, "gamma", self.gamma, "0 or a positive number")
    }

    fn check_classes(&self, classes: usize) -> Result<()> {
        check_weights(self.class_weights.as_ref(), classes)
    }

    fn needs_class_counts(&self) -> bool {
        self.class_weights == Some(ClassWeights::Balanced)
    }

    fn learn_class_counts(&mut self, counts: &[usize]) {
        self.balance = ClassBalance::of(counts);
    }

    fn about_imbalance(&self) -> Option<String> {
        let focal = format!("the focal loss (gamma {}) counts hard images more", self.gamma);
        let weights = self.weights().ok()?;
        Some(
            weights.map_or_else(|| focal.clone(), |weights| format!("{focal}, {}", told(&weights))),
        )
    }
}

impl From<Focal> for Description {
    fn from(loss: Focal) -> Self {
        described("focal", &loss)
    }
}

/// The mean focal loss must not become NaN where a probability rounds to 1.
#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    #[test]
    fn an_image_that_is_surely_right_has_no_loss_and_no_gradient() -> Result<()> {
        for gamma in [0.0, 0.5, 2.0] {
            let logits = Var::new(&[[80f32, 0.0]], &Device::Cpu)?;
            let labels = Tensor::new(&[0u32], &Device::Cpu)?;
            let loss = Focal::new(gamma).loss(logits.as_tensor(), &labels)?;
            assert!(loss.to_scalar::<f32>()?.abs() < 1e-30);
            let grads = candle_vision_ops::backward(&loss)?;
            let gradient = grads.get(logits.as_tensor()).expect("a gradient");
            let largest = gradient.abs()?.max_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            assert!(largest < 1e-30, "{gamma}: {largest}");
        }
        Ok(())
    }
}
