//! A linear classifier on features that a network has made before: how much a frozen backbone knows.

use std::f64::consts::PI;

use candle_core::{DType, Device, Tensor};
use candle_vision_models::{Init, Parameter, Parameters};
use candle_vision_ops::{CrossEntropyConfig, Generator, Targets, backward, cross_entropy, linear};
use rand::SeedableRng;
use rand::seq::SliceRandom;

use crate::error::require;
use crate::optim::{Optimizer, ParamGroup, PerParameter, Sgd};
use crate::{Error, Result};

/// What is added to the variance of a feature, as batch norm does.
const EPS: f64 = 1e-6;

/// How a linear probe is trained: one linear layer on features that do not change, with SGD, momentum 0.9 and a cosine
/// schedule.
///
/// The features are computed once, without augmentation, and each is brought to mean 0 and variance 1 of the training
/// images, as MAE's probe does with a batch norm without parameters (He et al. 2021, <https://arxiv.org/abs/2111.06377>,
/// appendix A.1). The layer begins with zeros. The accuracy is that after the last epoch: no epoch is chosen on the
/// validation images.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_train::LinearProbe;
///
/// let train = Tensor::new(&[[1f32, 5.0], [2.0, 5.0], [-1.0, 5.0], [-2.0, 5.0]], &Device::Cpu)?;
/// let val = Tensor::new(&[[3f32, 5.0], [-3.0, 5.0]], &Device::Cpu)?;
/// let probe = LinearProbe::new().epochs(20);
/// let result = probe.run((&train, &[0, 0, 1, 1]), (&val, &[0, 1]))?;
/// assert_eq!((result.train_accuracy, result.val_accuracy), (1.0, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LinearProbe {
    /// Passes over the training features. 100 by default.
    pub epochs: usize,
    /// Features in a batch. 256 by default.
    pub batch_size: usize,
    /// The learning rate of the first epoch. 0.1 by default.
    pub lr: f64,
    /// Factor of the weights that is added to their gradient. 0 by default.
    pub weight_decay: f64,
    /// The seed of the order of the features. 0 by default.
    pub seed: u64,
}

/// What a [`LinearProbe`] gives. Accuracies are fractions in `0.0..=1.0`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LinearProbeResult {
    /// On the features that it was trained on.
    pub train_accuracy: f64,
    /// On the others.
    pub val_accuracy: f64,
}

impl Default for LinearProbe {
    fn default() -> Self {
        Self { epochs: 100, batch_size: 256, lr: 0.1, weight_decay: 0.0, seed: 0 }
    }
}

impl LinearProbe {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of passes over the training features.
    pub fn epochs(self, epochs: usize) -> Self {
        Self { epochs, ..self }
    }

    /// Sets the number of features in a batch.
    pub fn batch_size(self, batch_size: usize) -> Self {
        Self { batch_size, ..self }
    }

    /// Sets the learning rate of the first epoch.
    pub fn lr(self, lr: f64) -> Self {
        Self { lr, ..self }
    }

    /// Sets the weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Sets the seed of the order of the features.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Trains the layer on the features `train` and measures it on `val`: each the features, and one class for each row.
    ///
    /// # Shapes
    /// - features: `[images, features]`, of any float type, on the CPU
    ///
    /// # Errors
    /// If there are no images, the numbers of images, labels and features do not fit, a feature is not finite, or a
    /// setting is impossible.
    pub fn run(
        &self,
        train: (&Tensor, &[u32]),
        val: (&Tensor, &[u32]),
    ) -> Result<LinearProbeResult> {
        require(self.epochs > 0, "epochs", self.epochs, "at least 1")?;
        require(self.batch_size > 0, "batch_size", self.batch_size, "at least 1")?;
        let is_rate = self.lr > 0.0 && self.lr.is_finite();
        require(is_rate, "lr", self.lr, "a positive number, such as 0.1")?;
        let [(images, labels), (val_images, val_labels)] = [checked(train)?, checked(val)?];
        let (count, width) = images.dims2()?;
        let fits = val_images.dim(1)? == width;
        require(
            fits,
            "features",
            format!("{width} and {}", val_images.dim(1)?),
            "as many of each image",
        )?;
        let (mean, deviation) = moments(&images)?;
        let standard =
            |x: &Tensor| x.broadcast_sub(&mean).and_then(|x| x.broadcast_div(&deviation));
        let (images, val_images) = (standard(&images)?, standard(&val_images)?);

        let classes = 1 + labels.iter().chain(val_labels).max().map_or(0, |&class| class as usize);
        let parameters = Parameters::new();
        let vb = parameters.builder(self.seed, DType::F32, &Device::Cpu);
        let weight = vb.weight("weight", &[classes, width], Init::Constant(0.0))?;
        let bias = vb.weight("bias", &[classes], Init::Constant(0.0))?;
        let sgd = Sgd::new(self.lr).momentum(0.9).weight_decay(self.weight_decay);
        let mut optimizer = PerParameter::new(sgd)?;
        optimizer.add(vec![ParamGroup::new(parameters.trainable())])?;
        let mut order: Vec<u32> = (0..count as u32).collect();
        let mut generator = Generator::seed_from_u64(self.seed);
        for epoch in 0..self.epochs {
            let done = epoch as f64 / self.epochs as f64;
            optimizer.set_lr(0.5 * self.lr * (1.0 + (PI * done).cos()));
            order.shuffle(&mut generator);
            for rows in order.chunks(self.batch_size) {
                let of_rows: Vec<u32> = rows.iter().map(|&row| labels[row as usize]).collect();
                let rows = Tensor::new(rows, &Device::Cpu)?;
                let targets = Tensor::new(of_rows.as_slice(), &Device::Cpu)?;
                let logits = logits(&images.index_select(&rows, 0)?, &weight, &bias)?;
                let config = CrossEntropyConfig::default();
                let loss = cross_entropy(&logits, Targets::Labels(&targets), &config)?;
                optimizer.step(&backward(&loss)?)?;
            }
        }
        let accuracy = |x: &Tensor, labels: &[u32]| -> Result<f64> {
            let predicted = logits(x, &weight, &bias)?.argmax(1)?.to_vec1::<u32>()?;
            let right = predicted.iter().zip(labels).filter(|(a, b)| a == b).count();
            Ok(right as f64 / labels.len() as f64)
        };
        Ok(LinearProbeResult {
            train_accuracy: accuracy(&images, labels)?,
            val_accuracy: accuracy(&val_images, val_labels)?,
        })
    }
}

fn logits(x: &Tensor, weight: &Parameter, bias: &Parameter) -> candle_core::Result<Tensor> {
    linear(x, weight.var(), Some(bias.var()))
}

/// The features in `f32`, and their labels.
fn checked<'a>((features, labels): (&Tensor, &'a [u32])) -> Result<(Tensor, &'a [u32])> {
    let features = features.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let (count, _) = features.dims2()?;
    let fits = count == labels.len() && count > 0;
    require(fits, "labels", labels.len(), "one for each image, and at least one image")?;
    let sum = features.abs()?.max_all()?.to_scalar::<f32>()?;
    if !sum.is_finite() {
        return Err(Error::setting(
            "features",
            sum,
            "finite: the network's weights may be damaged",
        ));
    }
    Ok((features, labels))
}

/// Mean and deviation of each feature, `[1, features]`.
fn moments(x: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
    // In `f64`, because the sums run over all images.
    let x = x.to_dtype(DType::F64)?;
    let mean = x.mean_keepdim(0)?;
    let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
    Ok((mean.to_dtype(DType::F32)?, (variance + EPS)?.sqrt()?.to_dtype(DType::F32)?))
}
