//! Binary cross entropy for images with several labels.

use candle_core::Tensor;
use candle_vision_ops::binary_cross_entropy;
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::class_balance::ClassBalance;
use super::{Loss, Mean, TargetKind};
use crate::Result;
use crate::error::require;
use crate::evaluate::Answers;
use crate::parts::described;

/// Binary cross entropy of every class, as PyTorch's `BCEWithLogitsLoss`: each class is a question of its own, and the loss
/// is the mean over images and classes.
///
/// It is the loss for images of several labels. Of images with one label it asks for each class whether the image
/// belongs to it, and it takes mixed images too (Wightman et al. 2021, "ResNet strikes back", train so).
///
/// In a recipe: `loss = { name = "binary_cross_entropy", pos_weight = [2.0, 1.0] }`.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_train::loss::{BinaryCrossEntropy, Loss};
///
/// let logits = Tensor::new(&[[0f32, 0.0]], &Device::Cpu)?;
/// let both = Tensor::new(&[[1f32, 1.0]], &Device::Cpu)?;
/// let loss = BinaryCrossEntropy::new().loss_of_targets(&logits, &both)?;
/// assert_eq!(loss.to_scalar::<f32>()?, 2f32.ln());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinaryCrossEntropy {
    /// Factor of each class's terms where the label is there, or one factor for all classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pos_weight: Option<Vec<f64>>,
    /// For the weights on a device.
    #[serde(skip)]
    uploaded: ClassBalance,
}

impl BinaryCrossEntropy {
    /// The loss without weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// Multiplies the terms of a class by its factor where the label is there. There is one factor for each class, or a
    /// single one for all. More than 1 counters labels that are rare.
    pub fn pos_weight(self, weights: impl Into<Vec<f64>>) -> Self {
        Self { pos_weight: Some(weights.into()), uploaded: ClassBalance::default() }
    }

    /// The weight of each of so many classes.
    fn weights(&self, classes: usize) -> Option<Vec<f64>> {
        match self.pos_weight.as_deref()? {
            [one] => Some(vec![*one; classes]),
            weights => Some(weights.to_vec()),
        }
    }
}

impl Loss for BinaryCrossEntropy {
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (_, classes) = logits.dims2()?;
        let numbers = Tensor::arange(0, classes as u32, logits.device())?.unsqueeze(0)?;
        let one_hot = labels.unsqueeze(1)?.broadcast_eq(&numbers)?;
        self.loss_of_targets(logits, &one_hot)
    }

    fn takes(&self, _targets: TargetKind) -> bool {
        true
    }

    fn loss_of_targets(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (_, classes) = logits.dims2()?;
        let targets = targets.to_dtype(logits.dtype())?;
        let weights = self.weights(classes);
        let on_device = |weights: &Vec<f64>| self.uploaded.on_device(weights, logits.device());
        let weights = weights.as_ref().map(on_device).transpose()?;
        Ok(binary_cross_entropy(logits, &targets, weights.as_ref())?)
    }

    fn add_to_mean(&self, answers: &Answers<'_>, mean: &mut Mean) -> Result<()> {
        for (image, row) in answers.rows.iter().enumerate() {
            self.check_classes(row.len())?;
            let weights = self.weights(row.len());
            let term = |(class, &logit): (usize, &f64)| match answers.has_label(image, class) {
                true => weights.as_ref().map_or(1.0, |weights| weights[class]) * softplus(-logit),
                false => softplus(logit),
            };
            mean.add(row.iter().enumerate().map(term).sum(), row.len() as f64);
        }
        Ok(())
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn about_imbalance(&self) -> Option<String> {
        let weights = self.pos_weight.as_ref()?;
        let low = weights.iter().copied().reduce(f64::min)?;
        let high = weights.iter().copied().reduce(f64::max)?;
        Some(format!("the loss weights labels that are there by {low:.3} to {high:.3}"))
    }

    fn check_classes(&self, classes: usize) -> Result<()> {
        let Some(weights) = &self.pos_weight else { return Ok(()) };
        let valid = (weights.len() == classes || weights.len() == 1)
            && weights.iter().all(|weight| *weight > 0.0 && weight.is_finite());
        let expected =
            format!("{classes} numbers, one for each class, or a single one, all above 0");
        require(valid, "pos_weight", format!("{weights:?}"), &expected)
    }
}

/// `ln(1 + exp(x))`, for which `exp` cannot overflow.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

impl From<BinaryCrossEntropy> for Description {
    fn from(loss: BinaryCrossEntropy) -> Self {
        let mut description = described("binary_cross_entropy", &loss);
        description.settings.retain(|_, value| !value.is_null());
        description
    }
}
