//! How good a frozen network's features are: a linear layer on them, and their nearest neighbours.

use candle_core::{DType, Device, Tensor};
use candle_vision_data::DataLoader;
use candle_vision_explain::knn_accuracy;
use candle_vision_models::{Hooks, Model, Pass, PreparedLayers};
use candle_vision_train::{LinearProbe, LinearProbeResult};

use crate::{Error, Result};

/// How features are judged.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProbeConfig {
    /// How the linear layer is trained.
    pub linear: LinearProbe,
    /// How many neighbours vote. DINO's 20 by default.
    pub k: usize,
    /// Temperature of the votes, see [`knn_accuracy`]. DINO's 0.07 by default.
    pub temperature: f64,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self { linear: LinearProbe::new(), k: 20, temperature: 0.07 }
    }
}

impl ProbeConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the linear layer is trained.
    pub fn linear(self, linear: LinearProbe) -> Self {
        Self { linear, ..self }
    }

    /// Sets how many neighbours vote.
    pub fn k(self, k: usize) -> Self {
        Self { k, ..self }
    }
}

/// How good features are. Accuracies are fractions in `0.0..=1.0`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Probed {
    /// Features of an image.
    pub features: usize,
    /// Images that the classifiers have seen.
    pub train_images: usize,
    /// Images that they were measured on.
    pub val_images: usize,
    /// The linear layer.
    pub linear: LinearProbeResult,
    /// The accuracy of the nearest neighbours.
    pub knn_accuracy: f64,
}

/// Features of images with their classes.
#[derive(Debug, Clone)]
pub struct LabelledFeatures {
    /// `[images, features]`, `f32`, on the CPU.
    pub features: Tensor,
    /// The class of each image.
    pub labels: Vec<u32>,
}

/// What the network's head gets for all images of a loader, in evaluation. Maps are averaged over their places. For a
/// vision transformer it is the class token. `progress` is called with the number of batches done and of all.
///
/// # Errors
/// If an image cannot be read, or the network names no head or does not take the images.
pub fn head_inputs(
    model: &dyn Model,
    loader: &DataLoader,
    mut progress: impl FnMut(usize, usize),
) -> Result<LabelledFeatures> {
    let head = model.head();
    if head.is_empty() {
        return Err(Error::Explain(Box::new(candle_vision_explain::Error::NoEmbedding)));
    }
    let prepared = PreparedLayers::new();
    let (mut found, mut labels) = (Vec::new(), Vec::new());
    let batches = loader.batches_per_epoch();
    for (i, batch) in loader.epoch(0).enumerate() {
        let batch = batch?;
        let mut seen = None;
        let mut hooks = Hooks::new();
        hooks.on_input(head, |_, input| {
            let input = input.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            seen = Some(match input.rank() {
                4 => input.mean((2, 3))?,
                _ => input.flatten_from(1)?,
            });
            Ok(None)
        });
        let pass = Pass::eval().with_prepared(&prepared);
        model.forward(&batch.images, &mut pass.with_hooks(&mut hooks))?;
        drop(hooks);
        let no_input = || Error::Explain(Box::new(candle_vision_explain::Error::NoEmbedding));
        found.push(seen.ok_or_else(no_input)?);
        labels.extend(batch.labels.to_vec1::<u32>()?);
        progress(i + 1, batches);
    }
    Ok(LabelledFeatures { features: Tensor::cat(&found, 0)?, labels })
}

/// How well a linear layer and the nearest neighbours tell the classes of `val` by its features, from those of `train`.
/// [`head_inputs`] gives features.
///
/// # Errors
/// If the numbers do not fit each other, a setting is impossible, or a feature is not finite.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision::{LabelledFeatures, ProbeConfig, probe};
///
/// let train = Tensor::new(&[[1f32, 0.1], [0.9, 0.2], [0.0, 2.0], [0.1, 1.5]], &Device::Cpu)?;
/// let val = Tensor::new(&[[3f32, 0.0], [0.1, 1.0]], &Device::Cpu)?;
/// let train = LabelledFeatures { features: train, labels: vec![0, 0, 1, 1] };
/// let val = LabelledFeatures { features: val, labels: vec![0, 1] };
/// let probed = probe(&train, &val, &ProbeConfig::new().k(1))?;
/// assert_eq!((probed.knn_accuracy, probed.linear.val_accuracy), (1.0, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn probe(
    train: &LabelledFeatures,
    val: &LabelledFeatures,
    config: &ProbeConfig,
) -> Result<Probed> {
    let (a, b) = (&train.features, &val.features);
    let knn = knn_accuracy(a, &train.labels, b, &val.labels, config.k, config.temperature);
    Ok(Probed {
        features: a.dims().last().copied().unwrap_or(0),
        train_images: train.labels.len(),
        val_images: val.labels.len(),
        linear: config.linear.run((a, &train.labels), (b, &val.labels))?,
        knn_accuracy: knn?,
    })
}
