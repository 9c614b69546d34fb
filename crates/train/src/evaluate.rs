//! Evaluation of a network on a whole data set.

mod round;

use std::fmt;

use candle_core::{DType, Tensor};
use candle_vision_data::{Batch, DataLoader, Dataset, check_label};
use candle_vision_distributed::Communicator;
use candle_vision_models::{EvalPasses, LayerHook, Model, Pass, Precision, PreparedLayers};
use candle_vision_ops::in_pool;
use serde::{Deserialize, Serialize};

use crate::loaders::check_unmixed;
use crate::loss::{
    BinaryCrossEntropy, CrossEntropy, Loss, Mean, TargetKind, check_targets, softplus,
};
use crate::metrics::{ClassScores, Metric, check_metric, class_scores, label_scores};
use crate::out_of_memory::explained;
use crate::ranks::check_evaluated_share;
use crate::skipping::check_classes;
use crate::tta::TestTimeAugmentation;
use crate::unread::{Reading, Unread};
use crate::{Error, Result};
use round::Round;

/// A network's prediction for one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Index of the image in its data set.
    pub index: usize,
    /// Its true class. Of several labels it is the first, and 0 if there is none.
    pub label: u32,
    /// The class that the network finds most probable.
    pub predicted: u32,
    /// The probability of the predicted class, `0.0..=1.0`. If images have several labels, each class has a probability by
    /// itself.
    pub probability: f64,
    /// Cross entropy of the image, without smoothing or weights. It is large if the network was sure of a
    /// wrong class. If images have several labels, it is the mean binary cross entropy of the classes.
    pub loss: f64,
    /// All labels, if images may have several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_sets: Option<LabelSets>,
}

impl Prediction {
    /// Whether the image was classified correctly. Of several labels, all must be predicted and no others.
    pub fn is_right(&self) -> bool {
        match &self.label_sets {
            Some(sets) => sets.labels == sets.predicted,
            None => self.label == self.predicted,
        }
    }

    /// Whether the image has the class that the network finds most probable.
    pub fn names_a_label(&self) -> bool {
        match &self.label_sets {
            Some(sets) => sets.labels.contains(&self.predicted),
            None => self.label == self.predicted,
        }
    }
}

/// The labels of one image that may have several, and those that a network predicts. Both are in the order of the classes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSets {
    /// The labels that the image has.
    pub labels: Vec<u32>,
    /// The labels whose probabilities are over 0.5.
    pub predicted: Vec<u32>,
}

/// A network's predictions for a data set, and their summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Fraction of images that were classified correctly, `0.0..=1.0`. If images have several labels, all of them must be
    /// right ([`ExactMatch`](crate::metrics::ExactMatch)).
    pub accuracy: f64,
    /// One prediction per image, in the loader's order.
    pub predictions: Vec<Prediction>,
    /// `confusion[label][predicted]`: number of images of class `label` that were taken for class
    /// `predicted`. It is empty of counts if images have several labels, because none of them is the one that another was
    /// taken for; [`Evaluation::class_scores`] counts those images.
    pub confusion: Vec<Vec<usize>>,
}

impl Evaluation {
    /// Whether images may have several labels.
    pub fn is_multi_label(&self) -> bool {
        self.predictions.iter().any(|prediction| prediction.label_sets.is_some())
    }

    /// Number of images that were classified correctly ([`Prediction::is_right`]).
    pub fn right(&self) -> usize {
        self.predictions.iter().filter(|prediction| prediction.is_right()).count()
    }

    /// Scores of each class.
    pub fn class_scores(&self) -> Vec<ClassScores> {
        if !self.is_multi_label() {
            return class_scores(&self.confusion);
        }
        let sets = self.predictions.iter().filter_map(|prediction| prediction.label_sets.as_ref());
        label_scores(sets, self.confusion.len())
    }
}

/// A batch of a validation pass: the network's outputs and the labels.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Answers<'a> {
    /// `[batch, classes]`, on the network's device.
    pub logits: &'a Tensor,
    /// `[batch]`, `u32`, on the network's device.
    pub labels_on_device: &'a Tensor,
    /// The logits of each image. All of them are finite.
    pub rows: &'a [Vec<f64>],
    /// The logarithms of the probabilities of each image.
    pub log_probabilities: &'a [Vec<f64>],
    /// The class of each image, below the number of classes. Of several labels it is the first, and 0 if there is none.
    pub labels: &'a [u32],
    /// The labels of each image, if images may have several.
    pub label_sets: Option<&'a [Vec<u32>]>,
    /// The index of each image in its data set.
    pub indices: &'a [usize],
}

impl Answers<'_> {
    /// Whether image number `image` of the batch has the label `class`.
    pub fn has_label(&self, image: usize, class: usize) -> bool {
        match self.label_sets {
            Some(sets) => sets[image].iter().any(|&label| label as usize == class),
            None => self.labels[image] as usize == class,
        }
    }
}

/// An evaluation before it runs. [`evaluate`] makes it.
#[must_use = "nothing is evaluated before `run`"]
pub struct Evaluator<'a> {
    model: &'a dyn Model,
    loader: &'a DataLoader,
    loss: Option<&'a dyn Loss>,
    metrics: Option<&'a mut [Box<dyn Metric>]>,
    hooks: Option<&'a mut dyn LayerHook>,
    tta: Option<&'a dyn TestTimeAugmentation>,
    limit: Option<usize>,
    precision: Precision,
    ranks: Option<&'a dyn Communicator>,
}

/// Evaluates a network on every image of a loader, in evaluation mode and without keeping a graph.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use candle_core::Device;
/// use candle_vision_data::transforms::{Compose, ToTensor};
/// use candle_vision_data::{DataLoader, Insects, InsectsConfig, LoaderConfig, Split};
/// use candle_vision_models::{ModelSpec, build};
/// use candle_vision_train::evaluate;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let insects = Insects::new(Split::Val, InsectsConfig::new(6).size(32))?;
/// let transform = Compose::new().with(ToTensor);
/// let loader =
///     DataLoader::new(Arc::new(insects), transform, LoaderConfig::default(), Device::Cpu)?;
/// let model = build(&ModelSpec::new("simple_cnn", 2), 0, &Device::Cpu)?;
/// let evaluation = evaluate(model.as_ref(), &loader).run()?;
/// assert_eq!(evaluation.predictions.len(), 6);
/// # Ok(())
/// # }
/// ```
pub fn evaluate<'a>(model: &'a dyn Model, loader: &'a DataLoader) -> Evaluator<'a> {
    Evaluator {
        model,
        loader,
        loss: None,
        metrics: None,
        hooks: None,
        tta: None,
        limit: None,
        precision: Precision::default(),
        ranks: None,
    }
}

impl fmt::Debug for Evaluator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Evaluator");
        fields.field("loss", &self.loss).field("limit", &self.limit).field("tta", &self.tta);
        fields.field("precision", &self.precision).finish_non_exhaustive()
    }
}

impl<'a> Evaluator<'a> {
    /// The loss to average. By default it is cross entropy without smoothing or weights, or binary cross entropy if images
    /// have several labels.
    pub fn loss(self, loss: &'a dyn Loss) -> Self {
        Self { loss: Some(loss), ..self }
    }

    /// Metrics to measure. They hold their values afterwards.
    pub fn metrics(self, metrics: &'a mut [Box<dyn Metric>]) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Shows the layers' outputs to hooks, which may change them.
    pub fn with_hooks(self, hooks: &'a mut dyn LayerHook) -> Self {
        Self { hooks: Some(hooks), ..self }
    }

    /// Averages the logits over views of each image. By default the network sees each image once, as it is. Hooks see
    /// every view.
    pub fn tta(self, tta: impl Into<Option<&'a dyn TestTimeAugmentation>>) -> Self {
        Self { tta: tta.into(), ..self }
    }

    /// Largest number of batches. By default all batches are read.
    pub fn limit(self, batches: impl Into<Option<usize>>) -> Self {
        Self { limit: batches.into(), ..self }
    }

    /// Number type of feature maps and matrix products. `f32` by default.
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Lets several processes evaluate together. Each has a loader with its
    /// [share of whole batches](candle_vision_data::Share::Batches). All of them get the whole result, which is that of one
    /// process.
    pub fn ranks(self, ranks: impl Into<Option<&'a dyn Communicator>>) -> Self {
        Self { ranks: ranks.into().filter(|ranks| ranks.size() > 1), ..self }
    }

    /// Evaluates the network.
    ///
    /// # Errors
    /// - [`Error::NotFiniteOutput`] if an output is NaN or infinite, because no class is the most probable
    ///   one then; the error names the first such sample
    /// - if an image cannot be read, the network does not accept its shape, there is no image, or a label
    ///   is not below the number of classes; the error names the sample
    /// - if a class has lost all its images to `skip_broken`
    /// - if the loss or a metric does not take the labels of these images, or the loader mixes images
    /// - if the loader gives a share of the images that is not this process's among those of [`Evaluator::ranks`]
    pub fn run(self) -> Result<Evaluation> {
        let evaluation = self.run_while(|_, _| Ok(true))?;
        Ok(evaluation.expect("nobody has stopped it"))
    }

    /// Like [`Evaluator::run`], for as long as `progress` returns `true`. It is called after each batch
    /// with the number of batches done and the total number. The result is `None` if it stopped the
    /// evaluation.
    ///
    /// # Errors
    /// As [`Evaluator::run`], and the errors of `progress`.
    pub fn run_while(
        self,
        progress: impl FnMut(usize, usize) -> Result<bool>,
    ) -> Result<Option<Evaluation>> {
        let (model, batch_size) = (self.model, self.loader.config().batch_size);
        explained(self.batches(progress), &model.parameters().device(), batch_size)
    }

    fn batches(
        self,
        mut progress: impl FnMut(usize, usize) -> Result<bool>,
    ) -> Result<Option<Evaluation>> {
        let Self { model, loader, precision, tta, mut hooks, .. } = self;
        let (one_label, several) = (CrossEntropy::new(), BinaryCrossEntropy::new());
        let plain: &dyn Loss =
            if loader.dataset().is_multi_label() { &several } else { &one_label };
        let loss = self.loss.unwrap_or(plain);
        let metrics = self.metrics.unwrap_or_default();
        check_unmixed(loader)?;
        check_evaluated_share(self.ranks, loader)?;
        check_targets(loss, TargetKind::of(loader))?;
        metrics.iter().try_for_each(|metric| check_metric(&**metric, TargetKind::of(loader)))?;
        metrics.iter_mut().for_each(|metric| metric.reset());
        let batches = self.limit.unwrap_or(usize::MAX).min(loader.batches_of_all());
        let own = Round::batches_of(self.ranks, batches);
        let mut progress = |done| progress(done, batches);
        let mut answers = Reader::new(loader.dataset().as_ref(), model.spec().num_classes);
        let passes = EvalPasses::new(model).precision(precision);
        let prepared = PreparedLayers::new();
        let mut unread = Unread::new(Reading::of(&model.parameters().device()));
        let mut rounds = self.ranks.map(|ranks| Round {
            ranks,
            batches,
            done: 0,
            device: model.parameters().device(),
        });
        for batch in loader.epoch(0).take(own) {
            let Batch { images, labels, indices, .. } = batch?;
            let mut forward = |images: &Tensor| match &mut hooks {
                None => in_pool(|| passes.forward(images)),
                // The forward pass may use another thread of the pool, which a hook need not allow.
                Some(hooks) => {
                    let pass = Pass::eval().precision(precision).with_prepared(&prepared);
                    model.forward(images, &mut pass.with_hooks(*hooks))
                }
            };
            let logits = match tta {
                None => forward(&images)?,
                Some(tta) => tta.logits(&images, &mut forward)?,
            };
            let shown = Shown { logits, labels, indices };
            match &mut rounds {
                None => unread.push(shown),
                Some(round) => round.meet(Some(shown))?.into_iter().for_each(|s| unread.push(s)),
            }
            if unread.is_due() && !answers.read(&mut unread, loss, metrics, &mut progress)? {
                return Ok(None);
            }
        }
        // Ranks without a batch in the last round meet the others as well.
        if let Some(round) = &mut rounds {
            while !round.is_over() {
                round.meet(None)?.into_iter().for_each(|shown| unread.push(shown));
            }
        }
        if !answers.read(&mut unread, loss, metrics, &mut progress)? {
            return Ok(None);
        }
        check_classes(loader)?;
        answers.finish().map(Some)
    }
}

/// A batch that the network has processed.
struct Shown {
    logits: Tensor,
    labels: Tensor,
    indices: Vec<usize>,
}

struct Reader<'a> {
    /// The data set, for the names of the samples.
    dataset: &'a dyn Dataset,
    /// Batches read.
    batches: usize,
    predictions: Vec<Prediction>,
    confusion: Vec<Vec<usize>>,
    /// Number of images that were classified correctly.
    right: usize,
    loss: Mean,
}

impl<'a> Reader<'a> {
    fn new(dataset: &'a dyn Dataset, classes: usize) -> Self {
        let confusion = vec![vec![0; classes]; classes];
        let (predictions, loss) = (Vec::new(), Mean::default());
        Self { dataset, batches: 0, predictions, confusion, right: 0, loss }
    }

    /// Waits for the batches and adds them up one by one, for as long as `progress` returns `true`. Returns
    /// whether all of them were read.
    fn read(
        &mut self,
        unread: &mut Unread<Shown>,
        loss: &dyn Loss,
        metrics: &mut [Box<dyn Metric>],
        mut progress: impl FnMut(usize) -> Result<bool>,
    ) -> Result<bool> {
        for shown in unread.take() {
            self.add(&shown, loss, metrics)?;
            self.batches += 1;
            if !progress(self.batches)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add(
        &mut self,
        shown: &Shown,
        loss: &dyn Loss,
        metrics: &mut [Box<dyn Metric>],
    ) -> Result<()> {
        let rows = shown.logits.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let labels = shown.labels.to_vec1::<u32>()?;
        for ((row, &label), &index) in rows.iter().zip(&labels).zip(&shown.indices) {
            self.check(row, label, index)?;
        }
        let label_sets = self.label_sets(&shown.indices)?;
        let log_probabilities: Vec<Vec<f64>> = rows.iter().map(|row| log_softmax(row)).collect();
        let answers = Answers {
            logits: &shown.logits,
            labels_on_device: &shown.labels,
            rows: &rows,
            log_probabilities: &log_probabilities,
            labels: &labels,
            label_sets: label_sets.as_deref(),
            indices: &shown.indices,
        };
        loss.add_to_mean(&answers, &mut self.loss)?;
        metrics.iter_mut().try_for_each(|metric| metric.add(&answers))?;
        let logs = rows.iter().zip(&log_probabilities);
        for (image, ((row, logs), &label)) in logs.zip(&labels).enumerate() {
            let (index, predicted) = (shown.indices[image], largest(row));
            let (probability, loss, label_sets) = if label_sets.is_some() {
                let has = |class: usize| answers.has_label(image, class);
                let term =
                    |class: usize| softplus(if has(class) { -row[class] } else { row[class] });
                let loss = (0..row.len()).map(term).sum::<f64>() / row.len() as f64;
                let all = || 0..row.len() as u32;
                let sets = LabelSets {
                    labels: all().filter(|&class| has(class as usize)).collect(),
                    predicted: all().filter(|&class| row[class as usize] > 0.0).collect(),
                };
                ((-softplus(-row[predicted])).exp(), loss, Some(sets))
            } else {
                self.confusion[label as usize][predicted] += 1;
                (logs[predicted].exp(), -logs[label as usize], None)
            };
            let predicted = predicted as u32;
            let prediction = Prediction { index, label, predicted, probability, loss, label_sets };
            self.right += usize::from(prediction.is_right());
            self.predictions.push(prediction);
        }
        Ok(())
    }

    /// The labels of samples, if they may have several.
    fn label_sets(&self, indices: &[usize]) -> Result<Option<Vec<Vec<u32>>>> {
        if !self.dataset.is_multi_label() {
            return Ok(None);
        }
        let checked = |&index: &usize| {
            let labels = self.dataset.label_set(index);
            let check =
                |label: &u32| check_label(self.dataset, index, *label, self.confusion.len());
            labels.iter().try_for_each(check)?;
            Ok(labels)
        };
        indices.iter().map(checked).collect::<Result<_>>().map(Some)
    }

    fn check(&self, row: &[f64], label: u32, index: usize) -> Result<()> {
        let classes = self.confusion.len();
        if row.len() != classes {
            return Err(Error::ClassCount { outputs: row.len(), classes });
        }
        check_label(self.dataset, index, label, classes)?;
        let Some(&value) = row.iter().find(|value| !value.is_finite()) else { return Ok(()) };
        Err(Error::NotFiniteOutput { index, name: self.dataset.name(index), value })
    }

    fn finish(self) -> Result<Evaluation> {
        if self.predictions.is_empty() {
            return Err(Error::NoBatches { split: "validation" });
        }
        let accuracy = self.right as f64 / self.predictions.len() as f64;
        let loss = self.loss.value();
        let (predictions, confusion) = (self.predictions, self.confusion);
        Ok(Evaluation { loss, accuracy, predictions, confusion })
    }
}

/// The index of the largest value. Ties go to the first. All values are finite.
pub(crate) fn largest(row: &[f64]) -> usize {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).reduce(better).unwrap_or(0)
}

pub(crate) fn log_softmax(row: &[f64]) -> Vec<f64> {
    // Without subtracting the largest value, `exp` overflows.
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
    row.iter().map(|x| x - largest - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_survives_large_logits() {
        let log_probabilities = log_softmax(&[1000.0, 1000.0]);
        assert!(log_probabilities.iter().all(|log| (log + 2f64.ln()).abs() < 1e-12));
        assert!(log_softmax(&[f64::NAN, 0.0]).iter().all(|log| log.is_nan()));
    }

    #[test]
    fn the_first_of_equal_logits_is_predicted() {
        assert_eq!(largest(&[0.0, 1.0, 1.0]), 1);
        assert_eq!(largest(&[-3.0, -2.0, -5.0]), 1);
    }
}
