//! What the jobs do. Each step is what a user's loop does with one batch, made of public calls. It
//! runs on the clock's device.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use candle_vision::data::FolderSplit;
use candle_vision::models::{AuxiliaryOutputs, Precision};
use candle_vision::ops::{
    Captured, CrossEntropyConfig, Generator, Targets, add, backward, cross_entropy, in_pool, scale,
};
use candle_vision::prelude::{
    CamOptions, Compose, DataLoader, Dataset, EvalPasses, ImageFolder, LoaderConfig, Model,
    ModelSpec, Pass, PreparedLayers, Split, build, grad_cam,
};
use candle_vision::train::optim::{Optimizer, PerParameter, Sgd, UpdateRule, Updated};
use rand::{RngExt, SeedableRng};

use crate::measure::{Clock, Measured};
use crate::noise;

/// How a job ended.
pub(crate) enum Outcome {
    /// The times of its steps, and how many images go through in one.
    Measured { times: Measured, images: usize },
    /// Why there was nothing to measure.
    Skipped(String),
}

/// A network and the batch that it is given.
pub(crate) struct Network {
    architecture: String,
    classes: usize,
    /// `[batch, channels, height, width]`
    batch: [usize; 4],
    precision: Precision,
}

/// Which part of a network learns; batch norm is in train mode either way.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Learns {
    All,
    Head,
}

impl Network {
    /// In `f32`.
    pub(crate) fn new(architecture: &str, classes: usize, batch: [usize; 4]) -> Self {
        Self { architecture: architecture.to_owned(), classes, batch, precision: Precision::F32 }
    }

    /// The same in another precision.
    pub(crate) fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same on two images of at most 64x64.
    pub(crate) fn tiny(self) -> Self {
        let [_, channels, height, width] = self.batch;
        Self { batch: [2, channels, height.min(64), width.min(64)], ..self }
    }

    fn build(&self, device: &Device) -> Result<Box<dyn Model>> {
        let [_, channels, height, width] = self.batch;
        let spec =
            ModelSpec::new(&self.architecture, self.classes).input([channels, height, width]);
        Ok(build(&spec, 0, device)?)
    }

    /// Noise of mean 0 and variance 1, channels last in memory as the loader hands it out.
    fn images(&self, device: &Device) -> Result<Tensor> {
        let [batch, channels, height, width] = self.batch;
        let mut rng = Generator::seed_from_u64(0);
        let bound = 3f32.sqrt();
        let values: Vec<f32> = (0..self.batch.iter().product())
            .map(|_| bound * (2.0 * rng.random::<f32>() - 1.0))
            .collect();
        let images = Tensor::from_vec(values, (batch, height, width, channels), device)?;
        Ok(images.permute((0, 3, 1, 2))?)
    }

    fn labels(&self, device: &Device) -> Result<Tensor> {
        let labels: Vec<u32> = (0..self.batch[0]).map(|i| (i % self.classes) as u32).collect();
        Ok(Tensor::new(labels, device)?)
    }

    fn count(&self) -> usize {
        self.batch[0]
    }
}

/// A network in training, with SGD with momentum.
struct Training {
    model: Box<dyn Model>,
    optimizer: PerParameter<Sgd>,
    precision: Precision,
    /// Of the layers that do not learn.
    prepared: PreparedLayers,
}

impl Training {
    fn new(network: &Network, learns: Learns, device: &Device) -> Result<Self> {
        let model = network.build(device)?;
        if learns == Learns::Head {
            model.parameters().freeze("")?;
            model.parameters().unfreeze(model.head())?;
        }
        let rule = Sgd::new(0.01).momentum(0.9);
        let optimizer = rule.optimizer(model.parameters().trainable())?;
        let prepared = PreparedLayers::new();
        Ok(Self { model, optimizer, precision: network.precision, prepared })
    }

    /// Forward, loss, backward and update, as the trainer does them: a card may not have begun any of
    /// it when this returns.
    fn step(&mut self, number: usize, images: &Tensor, labels: &Tensor) -> Result<Updated> {
        let grads = self.gradients(number, images, labels)?;
        Ok(self.optimizer.update(&grads, 1.0)?)
    }

    fn gradients(&self, number: usize, images: &Tensor, labels: &Tensor) -> Result<GradStore> {
        let pass = Pass::train(number as u64).precision(self.precision);
        let mut pass = pass.with_prepared(&self.prepared);
        let AuxiliaryOutputs { logits, auxiliary } =
            self.model.forward_auxiliary(images, &mut pass)?;
        let loss = |logits: &Tensor| {
            cross_entropy(logits, Targets::Labels(labels), &CrossEntropyConfig::default())
        };
        let mut sum = loss(&logits)?;
        for (logits, weight) in auxiliary {
            sum = add(&sum, &scale(&loss(&logits)?, weight)?)?;
        }
        Ok(backward(&sum)?)
    }
}

/// Training on one batch again and again.
pub(crate) fn train(clock: &Clock, network: &Network, learns: Learns) -> Result<Outcome> {
    let mut training = Training::new(network, learns, &clock.device)?;
    let (images, labels) = (network.images(&clock.device)?, network.labels(&clock.device)?);
    let times = clock.measure(|number| in_pool(|| training.step(number, &images, &labels)))?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// The same on a card that repeats a captured step, as the trainer does.
pub(crate) fn train_captured(clock: &Clock, network: &Network) -> Result<Outcome> {
    let mut training = Training::new(network, Learns::All, &clock.device)?;
    let (images, labels) = (network.images(&clock.device)?, network.labels(&clock.device)?);
    // The step of the graph, and its gradients, of which the optimizer asks which there are.
    let mut captured = None;
    let times = clock.measure(|number| {
        in_pool(|| -> Result<()> {
            if number < 3 {
                return training.step(number, &images, &labels).map(drop);
            }
            let Some((grads, work)) = &mut captured else {
                captured = Some(Captured::new(&clock.device, || {
                    let grads = training.gradients(number, &images, &labels)?;
                    let updated = training.optimizer.update(&grads, 1.0)?;
                    Ok::<_, anyhow::Error>((grads, updated))
                })?);
                return Ok(());
            };
            let optimizer = &mut training.optimizer;
            work.launch_with(|| optimizer.update(&grads.0, 1.0).map(drop))?;
            Ok(())
        })
    })?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// Training on what a loader makes of images in memory: what it takes longer than [`train`] is spent
/// waiting for data.
pub(crate) fn train_loaded(clock: &Clock, network: &Network) -> Result<Outcome> {
    let mut training = Training::new(network, Learns::All, &clock.device)?;
    let loader = noise::loader(network.batch, network.classes, &clock.device)?;
    let (mut epoch, mut batches) = (0, loader.epoch(0));
    let times = clock.measure(|number| {
        let batch = match batches.next() {
            Some(batch) => batch?,
            None => {
                epoch += 1;
                batches = loader.epoch(epoch);
                batches.next().context("an epoch has batches")??
            }
        };
        in_pool(|| training.step(number, &batch.images, &batch.labels))
    })?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// One forward pass in evaluation mode, as `eval` and a trainer's validation do it: with prepared layers, and on a card from
/// a graph.
pub(crate) fn infer(clock: &Clock, network: &Network) -> Result<Outcome> {
    let (model, images) = (network.build(&clock.device)?, network.images(&clock.device)?);
    let passes = EvalPasses::new(model).precision(network.precision);
    let times = clock.measure(|_| Ok(in_pool(|| passes.forward(&images))?))?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// Grad-CAM of the predicted class, resized to the input.
pub(crate) fn explain(clock: &Clock, network: &Network) -> Result<Outcome> {
    let (model, images) = (network.build(&clock.device)?, network.images(&clock.device)?);
    let options = CamOptions::default();
    let times = clock.measure(|_| Ok(grad_cam(model.as_ref(), &images, &options)?))?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// From JPEG files to batches: decoded, cropped, scaled, flipped, normalised. A step is an image.
/// With one thread the caller's does it all; with more, each is a worker.
pub(crate) fn load_images(clock: &Clock) -> Result<Outcome> {
    let Some(data) = env::var_os("CANDLE_VISION_DATA").map(PathBuf::from) else {
        return Ok(Outcome::Skipped("CANDLE_VISION_DATA names no folder of data sets".to_owned()));
    };
    let folder = data.join("hymenoptera_data");
    if !folder.is_dir() {
        return Ok(Outcome::Skipped(format!("`{}` is not there", folder.display())));
    }
    let dataset = ImageFolder::open(folder, Split::Train, FolderSplit::default())?;
    let images = dataset.len();
    let threads = candle_core::utils::get_num_threads();
    let workers = if threads == 1 { 0 } else { threads };
    let config = LoaderConfig::new(16).workers(workers).cache_bytes(0);
    let loader =
        DataLoader::new(Arc::new(dataset), Compose::imagenet_train(), config, Device::Cpu)?;
    let times = clock.measure(|epoch| {
        let batches: Result<Vec<_>, _> = loader.epoch(epoch).map(|b| b.map(|b| b.labels)).collect();
        Ok(batches?)
    })?;
    Ok(Outcome::Measured { times: times.in_parts(images), images: 1 })
}
