//! A network's answers to a whole data set.

use candle_core::{DType, Tensor};
use candle_vision_data::{Batch, DataLoader, Dataset, check_label};
use candle_vision_models::{Model, Pass, Precision, PreparedLayers};
use candle_vision_ops::in_pool;
use serde::{Deserialize, Serialize};

use crate::criterion::Criterion;
use crate::out_of_memory::explained;
use crate::skipping::check_classes;
use crate::unread::{Reading, Unread};
use crate::{Error, Result};

/// A network's answer to one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Index of the image in its data set.
    pub index: usize,
    /// Its class.
    pub label: u32,
    /// The class that the network finds most probable.
    pub predicted: u32,
    /// The probability of that class, `0.0..=1.0`.
    pub probability: f64,
    /// Cross entropy of the image, without smoothing or weights: large where the network was sure
    /// of a wrong class.
    pub loss: f64,
}

/// A network's answers to a data set, and what they come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean loss under the criterion.
    pub loss: f64,
    /// Fraction of images whose class is the most probable one.
    pub accuracy: f64,
    /// One for each image, in the loader's order.
    pub predictions: Vec<Prediction>,
    /// `confusion[label][predicted]`: how many images of a class were taken for which.
    pub confusion: Vec<Vec<usize>>,
}

/// How a network is evaluated; the default is all batches in `f32`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EvaluationConfig {
    /// At most so many batches.
    pub limit: Option<usize>,
    /// Number type of feature maps and products.
    pub precision: Precision,
}

/// Shows every image of a loader to a network, in evaluation mode and without keeping a graph.
///
/// - `progress`: called after each batch with the number of batches done and to do; `false` ends the
///   evaluation, and the result is `None`
///
/// # Errors
/// - [`Error::NotFiniteOutput`] if an output is NaN or infinite: it names the first such sample, since
///   no class can be said to be the most probable one
/// - if an image cannot be read, the network does not take its shape, there is no image, or a
///   label is not below the number of classes; the error names the sample
/// - if a class has lost all its images to `skip_broken`
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use candle_core::Device;
/// use candle_vision_data::transforms::{Compose, Transform};
/// use candle_vision_data::{DataLoader, Insects, InsectsConfig, LoaderConfig, Split};
/// use candle_vision_models::{ModelSpec, build};
/// use candle_vision_train::{Criterion, EvaluationConfig, evaluate};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let insects = Insects::new(Split::Val, InsectsConfig { size: 32, count: 6, seed: 0 })?;
/// let transform = Compose::new(vec![Transform::ToTensor])?;
/// let loader =
///     DataLoader::new(Arc::new(insects), transform, LoaderConfig::default(), Device::Cpu)?;
/// let model = build(&ModelSpec::new("simple_cnn", 2), 0, &Device::Cpu)?;
/// let criterion = Criterion::new(0.0, None, 2, &Device::Cpu)?;
/// let config = EvaluationConfig::default();
/// let evaluation = evaluate(model.as_ref(), &loader, &criterion, &config, |_, _| Ok(true))?;
/// assert_eq!(evaluation.unwrap().predictions.len(), 6);
/// # Ok(())
/// # }
/// ```
pub fn evaluate(
    model: &dyn Model,
    loader: &DataLoader,
    criterion: &Criterion,
    config: &EvaluationConfig,
    progress: impl FnMut(usize, usize) -> Result<bool>,
) -> Result<Option<Evaluation>> {
    let evaluation = evaluate_batches(model, loader, criterion, config, progress);
    explained(evaluation, &model.parameters().device(), loader.config().batch_size)
}

fn evaluate_batches(
    model: &dyn Model,
    loader: &DataLoader,
    criterion: &Criterion,
    config: &EvaluationConfig,
    mut progress: impl FnMut(usize, usize) -> Result<bool>,
) -> Result<Option<Evaluation>> {
    let batches = config.limit.unwrap_or(usize::MAX).min(loader.batches_per_epoch());
    let mut progress = |done| progress(done, batches);
    let mut answers = Answers::new(loader.dataset().as_ref(), model.spec().num_classes);
    let prepared = PreparedLayers::new();
    let pass = || Pass::eval().precision(config.precision).with_prepared(&prepared);
    let mut unread = Unread::new(Reading::of(&model.parameters().device()));
    for batch in loader.epoch(0).take(batches) {
        let Batch { images, labels, indices } = batch?;
        let logits = in_pool(|| model.forward(&images, &mut pass()))?;
        unread.push(Shown { logits, labels, indices });
        if unread.is_due() && !answers.read(&mut unread, criterion, &mut progress)? {
            return Ok(None);
        }
    }
    if !answers.read(&mut unread, criterion, &mut progress)? {
        return Ok(None);
    }
    check_classes(loader)?;
    answers.finish().map(Some)
}

/// A batch that was shown to the network.
struct Shown {
    logits: Tensor,
    labels: Tensor,
    indices: Vec<usize>,
}

struct Answers<'a> {
    /// What the samples are called.
    dataset: &'a dyn Dataset,
    /// Batches read.
    batches: usize,
    predictions: Vec<Prediction>,
    confusion: Vec<Vec<usize>>,
    loss: f64,
    weight: f64,
}

impl<'a> Answers<'a> {
    fn new(dataset: &'a dyn Dataset, classes: usize) -> Self {
        let confusion = vec![vec![0; classes]; classes];
        Self { dataset, batches: 0, predictions: Vec::new(), confusion, loss: 0.0, weight: 0.0 }
    }

    /// Waits for the batches and counts them one by one, for as long as `progress` wants more; returns
    /// whether it did to the end.
    fn read(
        &mut self,
        unread: &mut Unread<Shown>,
        criterion: &Criterion,
        mut progress: impl FnMut(usize) -> Result<bool>,
    ) -> Result<bool> {
        for shown in unread.take() {
            self.add(&shown, criterion)?;
            self.batches += 1;
            if !progress(self.batches)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add(&mut self, shown: &Shown, criterion: &Criterion) -> Result<()> {
        let rows = shown.logits.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let labels = shown.labels.to_vec1::<u32>()?;
        for ((row, label), &index) in rows.iter().zip(labels).zip(&shown.indices) {
            let classes = self.confusion.len();
            if row.len() != classes {
                return Err(Error::ClassCount { outputs: row.len(), classes });
            }
            check_label(self.dataset, index, label, classes)?;
            if let Some(&value) = row.iter().find(|value| !value.is_finite()) {
                return Err(Error::NotFiniteOutput {
                    index,
                    name: self.dataset.name(index),
                    value,
                });
            }
            let log_probabilities = log_softmax(row);
            let predicted = largest(row);
            let term = criterion.term(&log_probabilities, label as usize);
            self.loss += term.loss;
            self.weight += term.weight;
            self.confusion[label as usize][predicted] += 1;
            self.predictions.push(Prediction {
                index,
                label,
                predicted: predicted as u32,
                probability: log_probabilities[predicted].exp(),
                loss: -log_probabilities[label as usize],
            });
        }
        Ok(())
    }

    fn finish(self) -> Result<Evaluation> {
        if self.predictions.is_empty() {
            return Err(Error::NoBatches { split: "validation" });
        }
        let right = (0..self.confusion.len()).map(|class| self.confusion[class][class]);
        let accuracy = right.sum::<usize>() as f64 / self.predictions.len() as f64;
        // Every image may be of a class with weight 0.
        let loss = if self.weight > 0.0 { self.loss / self.weight } else { self.loss };
        let (predictions, confusion) = (self.predictions, self.confusion);
        Ok(Evaluation { loss, accuracy, predictions, confusion })
    }
}

/// The first of the largest values, which are finite.
fn largest(row: &[f64]) -> usize {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).reduce(better).unwrap_or(0)
}

pub(crate) fn log_softmax(row: &[f64]) -> Vec<f64> {
    // Without the largest taken off, `exp` overflows.
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
