//! What the jobs do. Each step is what a user's loop does with one batch, made of public calls.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_vision::data::FolderSplit;
use candle_vision::ops::{
    CrossEntropyConfig, Generator, Targets, backward, cross_entropy, in_pool,
};
use candle_vision::prelude::{
    CamOptions, Compose, DataLoader, Dataset, ImageFolder, LoaderConfig, Model, ModelSpec,
    OptimizerConfig, Pass, PreparedLayers, Split, build, grad_cam,
};
use candle_vision::train::optim::{Optimizer, ParamGroup};
use rand::{RngExt, SeedableRng};

use crate::measure::{Clock, Measured};

/// How a job ended.
pub(crate) enum Outcome {
    /// The times of its steps, and how many pictures go through in one.
    Measured { times: Measured, pictures: usize },
    /// Why there was nothing to measure.
    Skipped(String),
}

/// A network and the batch that it is given.
pub(crate) struct Network {
    architecture: &'static str,
    classes: usize,
    /// `[batch, channels, height, width]`
    batch: [usize; 4],
}

/// Which part of a network learns; batch norm is in train mode either way.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Learns {
    All,
    Head,
}

impl Network {
    pub(crate) fn new(architecture: &'static str, classes: usize, batch: [usize; 4]) -> Self {
        Self { architecture, classes, batch }
    }

    fn build(&self) -> Result<Box<dyn Model>> {
        let [_, channels, height, width] = self.batch;
        let spec = ModelSpec::new(self.architecture, self.classes).input([channels, height, width]);
        Ok(build(&spec, 0, &Device::Cpu)?)
    }

    /// Noise of mean 0 and variance 1, channels last in memory as the loader hands it out.
    fn images(&self) -> Result<Tensor> {
        let [batch, channels, height, width] = self.batch;
        let mut rng = Generator::seed_from_u64(0);
        let bound = 3f32.sqrt();
        let values: Vec<f32> = (0..self.batch.iter().product())
            .map(|_| bound * (2.0 * rng.random::<f32>() - 1.0))
            .collect();
        let images = Tensor::from_vec(values, (batch, height, width, channels), &Device::Cpu)?;
        Ok(images.permute((0, 3, 1, 2))?)
    }

    fn labels(&self) -> Result<Tensor> {
        let labels: Vec<u32> = (0..self.batch[0]).map(|i| (i % self.classes) as u32).collect();
        Ok(Tensor::new(labels, &Device::Cpu)?)
    }

    fn pictures(&self) -> usize {
        self.batch[0]
    }
}

/// Forward, loss, backward, and a step of SGD with momentum, as the trainer does them.
pub(crate) fn train(clock: &Clock, network: &Network, learns: Learns) -> Result<Outcome> {
    let model = network.build()?;
    if learns == Learns::Head {
        model.parameters().freeze("")?;
        model.parameters().unfreeze(model.head())?;
    }
    let config = OptimizerConfig::sgd(0.01, 0.9);
    let group = ParamGroup::new(model.parameters().trainable(), &config);
    let mut optimizer = Optimizer::new(&config, vec![group])?;
    let (images, labels) = (network.images()?, network.labels()?);
    let prepared = PreparedLayers::new();
    let mut step = |number| {
        let pass = Pass::train(Generator::seed_from_u64(number as u64));
        let mut pass = pass.with_prepared(&prepared);
        let logits = model.forward(&images, &mut pass)?;
        let targets = Targets::Labels(&labels);
        let loss = cross_entropy(&logits, targets, &CrossEntropyConfig::default())?;
        optimizer.step(&backward(&loss)?)?;
        anyhow::Ok(loss)
    };
    let times = clock.measure(|number| in_pool(|| step(number)))?;
    Ok(Outcome::Measured { times, pictures: network.pictures() })
}

/// One forward pass in evaluation mode, with the layers prepared as `eval` and a trainer's validation
/// do.
pub(crate) fn infer(clock: &Clock, network: &Network) -> Result<Outcome> {
    let (model, images) = (network.build()?, network.images()?);
    let prepared = PreparedLayers::new();
    let forward = || model.forward(&images, &mut Pass::eval().with_prepared(&prepared));
    let times = clock.measure(|_| Ok(in_pool(forward)?))?;
    Ok(Outcome::Measured { times, pictures: network.pictures() })
}

/// Grad-CAM of the predicted class, resized to the input.
pub(crate) fn explain(clock: &Clock, network: &Network) -> Result<Outcome> {
    let (model, images) = (network.build()?, network.images()?);
    let options = CamOptions::default();
    let times = clock.measure(|_| Ok(grad_cam(model.as_ref(), &images, &options)?))?;
    Ok(Outcome::Measured { times, pictures: network.pictures() })
}

/// From JPEG files to batches: decoded, cropped, scaled, flipped, normalised. A step is a picture.
/// With one thread the caller's does it all; with more, each is a worker.
pub(crate) fn load_pictures(clock: &Clock) -> Result<Outcome> {
    let Some(data) = env::var_os("CANDLE_VISION_DATA").map(PathBuf::from) else {
        return Ok(Outcome::Skipped("CANDLE_VISION_DATA names no folder of data sets".to_owned()));
    };
    let folder = data.join("hymenoptera_data");
    if !folder.is_dir() {
        return Ok(Outcome::Skipped(format!("`{}` is not there", folder.display())));
    }
    let dataset = ImageFolder::open(folder, Split::Train, FolderSplit::default())?;
    let pictures = dataset.len();
    let threads = candle_core::utils::get_num_threads();
    let workers = if threads == 1 { 0 } else { threads };
    let config =
        LoaderConfig { batch_size: 16, workers, cache_bytes: 0, ..LoaderConfig::default() };
    let loader =
        DataLoader::new(Arc::new(dataset), Compose::imagenet_train(), config, Device::Cpu)?;
    let times = clock.measure(|epoch| {
        let batches: Result<Vec<_>, _> = loader.epoch(epoch).map(|b| b.map(|b| b.labels)).collect();
        Ok(batches?)
    })?;
    Ok(Outcome::Measured { times: times.in_parts(pictures), pictures: 1 })
}
