//! Cross entropy with label smoothing, class weights and logit adjustment.

use std::borrow::Cow;

use candle_core::{Device, Tensor};
use candle_vision_data::samplers::ClassWeights;
use candle_vision_ops::{CrossEntropyConfig, Targets, add, cross_entropy};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::class_balance::{ClassBalance, check_weights, sum_of_weights, told};
use super::{Loss, Mean, TargetKind};
use crate::Result;
use crate::error::require;
use crate::evaluate::{Answers, log_softmax};
use crate::parts::described;

/// Cross entropy with label smoothing and class weights, as PyTorch's `CrossEntropyLoss`.
///
/// Mixed images have a share of several classes, and their loss is that of PyTorch's class probabilities. Label smoothing
/// and logit adjustment apply to them as well.
///
/// Training takes the mean over a batch and has a gradient. A batch whose images all have classes of weight 0 has a sum of
/// weights of 0, by which PyTorch divides and gets NaN. Here its sum is not divided: without label smoothing it is 0, and so is
/// the gradient. Evaluation computes each row by itself in
/// `f64`, so the loss of a data set does not depend on the batch size.
///
/// [`CrossEntropy::balanced`] and [`CrossEntropy::logit_adjustment`] are for data sets whose classes differ in size. They
/// need the number of training images of each class, which a trainer gives them
/// ([`Loss::learn_class_counts`]).
///
/// In a recipe: `loss = { name = "cross_entropy", label_smoothing = 0.1 }`, `class_weights = "balanced"` or
/// `logit_adjustment = 1.0`.
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
    class_weights: Option<ClassWeights>,
    /// Factor of the logarithms of the class shares that are added to the logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logit_adjustment: Option<f64>,
    /// For the weights.
    #[serde(skip)]
    balance: ClassBalance,
    /// For the adjustment.
    #[serde(skip)]
    shares: ClassBalance,
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
        self.weighted(ClassWeights::List(weights.into()))
    }

    /// Weights classes so that all count the same, as
    /// [`balanced_weights`](candle_vision_data::samplers::balanced_weights).
    pub fn balanced(self) -> Self {
        self.weighted(ClassWeights::Balanced)
    }

    /// Sets the weights of the classes.
    pub(crate) fn weighted(self, weights: ClassWeights) -> Self {
        Self { class_weights: Some(weights), balance: ClassBalance::default(), ..self }
    }

    /// Adds `tau` times the logarithm of each class's share of the training images to its logit, in the loss alone
    /// (Menon et al. 2021, "Long-tail learning via logit adjustment", equation 10; they use 1). The network then
    /// learns logits that fit classes of equal size. Accuracy and predictions use these logits as they are, and the
    /// validation loss is the adjusted one, as in training.
    pub fn logit_adjustment(self, tau: f64) -> Self {
        Self { logit_adjustment: Some(tau), ..self }
    }

    fn weights(&self) -> Result<Option<Vec<f64>>> {
        self.class_weights.as_ref().map(|weights| self.balance.weights(weights)).transpose()
    }

    fn config(&self, device: &Device) -> Result<CrossEntropyConfig> {
        let weights = self.weights()?;
        let on_device = |weights: &Vec<f64>| self.balance.on_device(weights, device);
        let class_weights = weights.as_ref().map(on_device).transpose()?;
        Ok(CrossEntropyConfig { label_smoothing: self.label_smoothing, class_weights })
    }

    /// The logits that the loss is computed from.
    fn adjusted<'a>(&self, logits: &'a Tensor) -> Result<Cow<'a, Tensor>> {
        let Some(tau) = self.logit_adjustment else { return Ok(Cow::Borrowed(logits)) };
        let shift = self.shares.on_device(&self.shares.adjustment(tau)?, logits.device())?;
        let shift = shift.to_dtype(logits.dtype())?.broadcast_as(logits.shape())?;
        Ok(Cow::Owned(add(logits, &shift)?))
    }

    /// The loss term and the weight of one row in the mean over a data set.
    fn term(&self, log_probabilities: &[f64], label: usize, weights: Option<&[f64]>) -> (f64, f64) {
        let smoothing = self.label_smoothing;
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
        let config = self.config(logits.device())?;
        Ok(cross_entropy(&*self.adjusted(logits)?, Targets::Labels(labels), &config)?)
    }

    fn takes(&self, targets: TargetKind) -> bool {
        matches!(targets, TargetKind::Label | TargetKind::Shares)
    }

    /// As PyTorch's loss of class probabilities: each term has the weight of its class, and the sum is divided by the
    /// batch size and not by weights.
    fn loss_of_targets(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let config = self.config(logits.device())?;
        let targets = targets.to_dtype(logits.dtype())?;
        Ok(cross_entropy(&*self.adjusted(logits)?, Targets::Probabilities(&targets), &config)?)
    }

    fn divisor(&self, labels: &Tensor) -> Result<Option<f64>> {
        self.weights()?.map(|weights| sum_of_weights(&weights, labels)).transpose()
    }

    fn add_to_mean(&self, answers: &Answers<'_>, mean: &mut Mean) -> Result<()> {
        self.check_classes(answers.log_probabilities.first().map_or(0, Vec::len))?;
        let weights = self.weights()?;
        let adjustment =
            self.logit_adjustment.map(|tau| self.shares.adjustment(tau)).transpose()?;
        for (row, &label) in answers.log_probabilities.iter().zip(answers.labels) {
            let row = match &adjustment {
                None => Cow::Borrowed(row),
                Some(added) => {
                    let row: Vec<f64> = row.iter().zip(added).map(|(log, a)| log + a).collect();
                    Cow::Owned(log_softmax(&row))
                }
            };
            let (loss, weight) = self.term(&row, label as usize, weights.as_deref());
            mean.add(loss, weight);
        }
        Ok(())
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        let fraction = (0.0..1.0).contains(&self.label_smoothing);
        require(fraction, "label_smoothing", self.label_smoothing, "in 0..1, 1 excluded")?;
        let tau = self.logit_adjustment.unwrap_or_default();
        require(tau >= 0.0 && tau.is_finite(), "logit_adjustment", tau, "0 or a positive number")
    }

    fn check_classes(&self, classes: usize) -> Result<()> {
        check_weights(self.class_weights.as_ref(), classes)
    }

    fn needs_class_counts(&self) -> bool {
        self.class_weights == Some(ClassWeights::Balanced) || self.logit_adjustment.is_some()
    }

    fn learn_class_counts(&mut self, counts: &[usize]) {
        (self.balance, self.shares) = (ClassBalance::of(counts), ClassBalance::of(counts));
    }

    fn about_imbalance(&self) -> Option<String> {
        let weights = self.weights().ok()?.map(|weights| told(&weights));
        let tau = self.logit_adjustment.filter(|tau| *tau > 0.0);
        let tau = tau.map(|tau| format!("the loss adjusts logits by class shares (tau {tau})"));
        let told: Vec<String> = weights.into_iter().chain(tau).collect();
        (!told.is_empty()).then(|| told.join(", "))
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
                let weights = weights.as_ref().map(<[f64; 3]>::as_slice);
                let loss = criterion.loss(&logits, &Tensor::new(&labels, &Device::Cpu)?)?;
                let mut mean = Mean::default();
                for (row, label) in rows.iter().zip(labels) {
                    let (loss, weight) =
                        criterion.term(&log_softmax(&row.map(f64::from)), label as usize, weights);
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
        check(new().logit_adjustment(-1.0), "`logit_adjustment` is -1");
    }
}
