//! The loss that training minimises: the trait, and the losses that recipes can name.

mod binary_cross_entropy;
mod class_balance;
mod cross_entropy;
mod focal;
mod target_kind;

use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::{DType, Device, Tensor};
use candle_vision_data::DataLoader;
use candle_vision_registry::Description;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use binary_cross_entropy::BinaryCrossEntropy;
pub(crate) use binary_cross_entropy::softplus;
pub use cross_entropy::CrossEntropy;
pub use focal::Focal;
pub use target_kind::TargetKind;

use crate::evaluate::Answers;
use crate::parts::{PartEntry, PartTable, try_described};
use crate::{Error, Result};

/// The loss that training minimises, computed from the logits and the labels.
///
/// A loss that needs more than these is a [`TrainStep`](crate::TrainStep).
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_train::Result;
/// use candle_vision_train::loss::Loss;
///
/// /// The mean of the probabilities that go to wrong classes.
/// #[derive(Debug)]
/// struct MeanError;
///
/// impl Loss for MeanError {
///     fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
///         let probabilities = candle_vision_ops::softmax(logits)?;
///         let right = probabilities.gather(&labels.unsqueeze(1)?, 1)?;
///         Ok((1.0 - right.mean_all()?)?)
///     }
/// }
///
/// let logits = Tensor::new(&[[0f32, 0.0], [9.0, 9.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1], &Device::Cpu)?;
/// assert_eq!(MeanError.loss(&logits, &labels)?.to_scalar::<f32>()?, 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Loss: Debug + Send + Sync {
    /// The mean loss of a batch: a scalar that allows a backward pass.
    ///
    /// # Shapes
    /// - `logits`: `[batch, classes]`; `labels`: `[batch]`, `u32`
    ///
    /// # Errors
    /// If a shape differs, or a label is not below `classes`.
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor>;

    /// Whether it takes such targets. By default it takes one label for each image and nothing else. A loss that takes
    /// others has [`Loss::loss_of_targets`]. A trainer asks this before the first step.
    fn takes(&self, targets: TargetKind) -> bool {
        targets == TargetKind::Label
    }

    /// The mean loss of a batch with a target for each class: of mixed images, or of images with several labels. No
    /// gradient flows into the targets.
    ///
    /// # Shapes
    /// - `logits`: `[batch, classes]`; `targets`: the same, in `0.0..=1.0`, `f32` from a loader
    ///
    /// # Errors
    /// [`Error::Targets`] by default. Otherwise if a shape differs.
    fn loss_of_targets(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let _ = (logits, targets);
        Err(Error::targets(self.describe(), "a number for each class"))
    }

    /// What [`Loss::loss`] divides the sum over a batch by, if that is not the number of images. The parts of a step, which are the
    /// batches of several processes or of [accumulation](crate::TrainerConfig::accumulate), count by it, so that they train what
    /// one large batch trains. A sum with a divisor of 0 is not divided.
    ///
    /// # Errors
    /// If the labels cannot be read.
    fn divisor(&self, labels: &Tensor) -> Result<Option<f64>> {
        let _ = labels;
        Ok(None)
    }

    /// Adds a batch of an evaluation to the mean over a data set. By default a batch has its number of
    /// images as its weight. A loss with another weighting overrides this function.
    ///
    /// # Errors
    /// As [`Loss::loss`].
    fn add_to_mean(&self, answers: &Answers<'_>, mean: &mut Mean) -> Result<()> {
        let loss = self.loss(answers.logits, answers.labels_on_device)?;
        let loss = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let images = answers.labels.len() as f64;
        mean.add(loss * images, images);
        Ok(())
    }

    /// Name and settings. A run with a loss without a description cannot be resumed.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// Checks what can be checked without a network.
    ///
    /// # Errors
    /// If a setting is impossible. The error names it.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Checks that the loss suits a network with `classes` classes.
    ///
    /// # Errors
    /// If it does not. The error names the setting.
    fn check_classes(&self, classes: usize) -> Result<()> {
        let _ = classes;
        Ok(())
    }

    /// Whether it needs [`Loss::learn_class_counts`]. Counting may mean reading every image.
    fn needs_class_counts(&self) -> bool {
        false
    }

    /// Learns how many training images each class has. Whoever builds a loss that
    /// [needs this](Loss::needs_class_counts) calls it before the first batch; [`with_counts_of`] does it.
    fn learn_class_counts(&mut self, counts: &[usize]) {
        let _ = counts;
    }

    /// What the loss does about classes of different size, in words, if it does something.
    fn about_imbalance(&self) -> Option<String> {
        None
    }

    /// The tensors that change during training, by name, if the loss has any.
    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    /// Restores what [`Loss::state`] returned.
    ///
    /// # Errors
    /// If a tensor is missing or does not fit.
    fn load_state(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        no_state(state)
    }
}

/// The loss, after it has learned how many images of each class `train` has, if it needs that.
pub fn with_counts_of(mut loss: Box<dyn Loss>, train: &DataLoader) -> Box<dyn Loss> {
    if loss.needs_class_counts() {
        loss.learn_class_counts(&train.population().class_counts());
    }
    loss
}

/// Checks before training that an image counts. The loss of all of them would be 0, and the network would learn nothing.
pub(crate) fn check_counts(loss: &dyn Loss, train: &DataLoader) -> Result<()> {
    let divisor = |classes: &[u32]| loss.divisor(&Tensor::new(classes, &Device::Cpu)?);
    // Finding the classes may mean reading every label.
    if divisor(&[0])?.is_none() {
        return Ok(());
    }
    let counts = train.population().class_counts();
    let present = counts.iter().zip(0..).filter(|(count, _)| **count > 0).map(|(_, class)| class);
    let present: Vec<u32> = present.collect();
    if divisor(&present)? != Some(0.0) {
        return Ok(());
    }
    let found = "0 for each class that the training data have";
    Err(Error::setting("class_weights", found, "more than 0 for at least one of them"))
}

/// Checks before training that a loss takes the targets it will get.
pub(crate) fn check_targets(loss: &dyn Loss, targets: TargetKind) -> Result<()> {
    if loss.takes(targets) {
        return Ok(());
    }
    Err(Error::targets(loss.describe(), targets))
}

/// Returns an error if a state was saved. For parts without a state.
pub(crate) fn no_state(state: &BTreeMap<String, Tensor>) -> Result<()> {
    match state.keys().next() {
        None => Ok(()),
        Some(name) => {
            let problem = "belongs to a part that has no state here".to_owned();
            Err(Error::SavedState { name: name.clone(), problem })
        }
    }
}

/// A mean over a data set that is computed batch by batch: a sum of terms divided by a sum of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    /// Adds terms whose sum is `sum` and whose weights add up to `weight`.
    pub fn add(&mut self, sum: f64, weight: f64) {
        self.sum += sum;
        self.weight += weight;
    }

    /// The mean. If the sum of weights is 0, it is the sum of terms: all images may be of a class with
    /// weight 0.
    pub fn value(&self) -> f64 {
        self.sum / divided_by(self.weight)
    }

    /// The sum of terms and the sum of weights.
    pub(crate) fn sums(&self) -> (f64, f64) {
        (self.sum, self.weight)
    }
}

/// What a sum of terms with this sum of weights is divided by.
pub(crate) fn divided_by(weight: f64) -> f64 {
    if weight == 0.0 { 1.0 } else { weight }
}

/// The losses that recipes can name.
pub type Losses = PartTable<dyn Loss>;

/// A row of [`Losses`].
pub type LossEntry = PartEntry<dyn Loss>;

impl PartTable<dyn Loss> {
    /// The built-in losses.
    pub fn standard() -> Self {
        let entry = LossEntry::of::<CrossEntropy>;
        Self::of(
            "loss",
            [
                entry(
                    "cross_entropy",
                    "cross entropy, with label smoothing, class weights and logit adjustment",
                ),
                LossEntry::of::<Focal>(
                    "focal",
                    "focal loss: well-classified images count less; with class weights",
                ),
                LossEntry::of::<BinaryCrossEntropy>(
                    "binary_cross_entropy",
                    "binary cross entropy of each class, for images with several labels",
                ),
            ],
        )
    }
}

impl PartEntry<dyn Loss> {
    /// The entry of a loss. The fields of its struct are its settings.
    pub fn of<L>(name: &'static str, summary: &str) -> Self
    where
        L: Loss + Serialize + DeserializeOwned + 'static,
    {
        Self::new(name, summary, move |description| {
            let loss: L = description.settings()?;
            loss.validate()?;
            let description = try_described(name, &loss)?;
            Ok(Box::new(Described { loss, description }))
        })
    }
}

/// A loss with the name of its entry.
#[derive(Debug)]
struct Described<L> {
    loss: L,
    description: Description,
}

impl<L: Loss> Loss for Described<L> {
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.loss.loss(logits, labels)
    }

    fn takes(&self, targets: TargetKind) -> bool {
        self.loss.takes(targets)
    }

    fn loss_of_targets(&self, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
        if !self.takes(TargetKind::Shares) && !self.takes(TargetKind::SeveralLabels) {
            return Err(Error::targets(self.describe(), "a number for each class"));
        }
        self.loss.loss_of_targets(logits, targets)
    }

    fn divisor(&self, labels: &Tensor) -> Result<Option<f64>> {
        self.loss.divisor(labels)
    }

    fn add_to_mean(&self, answers: &Answers<'_>, mean: &mut Mean) -> Result<()> {
        self.loss.add_to_mean(answers, mean)
    }

    fn describe(&self) -> Option<Description> {
        Some(self.description.clone())
    }

    fn check_classes(&self, classes: usize) -> Result<()> {
        self.loss.check_classes(classes)
    }

    fn needs_class_counts(&self) -> bool {
        self.loss.needs_class_counts()
    }

    fn learn_class_counts(&mut self, counts: &[usize]) {
        self.loss.learn_class_counts(counts);
    }

    fn about_imbalance(&self) -> Option<String> {
        self.loss.about_imbalance()
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.loss.state()
    }

    fn load_state(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.loss.load_state(state)
    }
}
