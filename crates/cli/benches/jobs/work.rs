//! What the jobs do, training aside. Each step is what a user's loop does with one batch, made of public calls. It
//! runs on the clock's device.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_vision::data::{DecodedImages, FolderSplit};
use candle_vision::explain::Explainer;
use candle_vision::models::Precision;
use candle_vision::ops::{Generator, in_pool};
use candle_vision::prelude::{
    CamOptions, Compose, DataLoader, Dataset, EvalPasses, ImageFolder, LoaderConfig, Method, Model,
    ModelSpec, Split, build, grad_cam,
};
use rand::{RngExt, SeedableRng};

use crate::measure::{Clock, Measured};
use crate::ranks::Shared;

/// How a job ended.
pub(crate) enum Outcome {
    /// The times of its steps, and how many images go through in one.
    Measured { times: Measured, images: usize },
    /// The same of steps that several processes took together, and what that cost them.
    Together { times: Measured, images: usize, shared: Shared },
    /// Why there was nothing to measure.
    Skipped(String),
}

/// A network and the batch that it is given.
pub(crate) struct Network {
    architecture: String,
    pub(crate) classes: usize,
    /// `[batch, channels, height, width]`
    pub(crate) batch: [usize; 4],
    pub(crate) precision: Precision,
    pub(crate) rule: Rule,
}

/// The optimizer of a network in training.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// SGD with momentum.
    Sgd,
    /// Adam as PyTorch's tutorials on CIFAR-10 have it.
    Adam,
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
        let (architecture, precision) = (architecture.to_owned(), Precision::F32);
        Self { architecture, classes, batch, precision, rule: Rule::Sgd }
    }

    /// The same in another precision.
    pub(crate) fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The same with another optimizer.
    pub(crate) fn rule(self, rule: Rule) -> Self {
        Self { rule, ..self }
    }

    /// The same on at most two images of at most 64x64.
    pub(crate) fn tiny(self) -> Self {
        let [batch, channels, height, width] = self.batch;
        Self { batch: [batch.min(2), channels, height.min(64), width.min(64)], ..self }
    }

    pub(crate) fn build(&self, device: &Device) -> Result<Box<dyn Model>> {
        let [_, channels, height, width] = self.batch;
        let spec =
            ModelSpec::new(&self.architecture, self.classes).input([channels, height, width]);
        Ok(build(&spec, 0, device)?)
    }

    /// Noise of mean 0 and variance 1, channels last in memory as the loader hands it out.
    pub(crate) fn images(&self, device: &Device) -> Result<Tensor> {
        let [batch, channels, height, width] = self.batch;
        let mut rng = Generator::seed_from_u64(0);
        let bound = 3f32.sqrt();
        let values: Vec<f32> = (0..self.batch.iter().product())
            .map(|_| bound * (2.0 * rng.random::<f32>() - 1.0))
            .collect();
        let images = Tensor::from_vec(values, (batch, height, width, channels), device)?;
        Ok(images.permute((0, 3, 1, 2))?)
    }

    pub(crate) fn labels(&self, device: &Device) -> Result<Tensor> {
        let labels: Vec<u32> = (0..self.batch[0]).map(|i| (i % self.classes) as u32).collect();
        Ok(Tensor::new(labels, device)?)
    }

    pub(crate) fn count(&self) -> usize {
        self.batch[0]
    }
}

/// One forward pass in evaluation mode, as `eval` and a trainer's validation do it: with prepared layers, and on a card from
/// a graph.
pub(crate) fn infer(clock: &Clock, network: &Network) -> Result<Outcome> {
    let inference = Inference::new(network, &clock.device)?;
    let times = clock.measure(|_| in_pool(|| inference.logits()))?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// The same until the logits have arrived on the host: the next pass begins only then.
pub(crate) fn latency(clock: &Clock, network: &Network) -> Result<Outcome> {
    let inference = Inference::new(network, &clock.device)?;
    let times = clock.measure(|_| inference.logits_on_host())?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// The first pass of a process, until its logits have arrived on the host. What counts is the time since the
/// process was started, which only its parent knows.
pub(crate) fn start(clock: &Clock, network: &Network) -> Result<Outcome> {
    let since_here = Instant::now();
    Inference::new(network, &clock.device)?.logits_on_host()?;
    Ok(Outcome::Measured { times: Measured::once(since_here.elapsed()), images: network.count() })
}

/// A network in evaluation mode, with a batch.
struct Inference {
    passes: EvalPasses<Box<dyn Model>>,
    images: Tensor,
}

impl Inference {
    fn new(network: &Network, device: &Device) -> Result<Self> {
        let (model, images) = (network.build(device)?, network.images(device)?);
        Ok(Self { passes: EvalPasses::new(model).precision(network.precision), images })
    }

    fn logits(&self) -> Result<Tensor> {
        Ok(self.passes.forward(&self.images)?)
    }

    fn logits_on_host(&self) -> Result<Vec<f32>> {
        let logits = in_pool(|| self.logits())?;
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

/// Grad-CAM of the predicted class, resized to the input, by plain passes.
pub(crate) fn explain_plainly(clock: &Clock, network: &Network) -> Result<Outcome> {
    let (model, images) = (network.build(&clock.device)?, network.images(&clock.device)?);
    let options = CamOptions::default();
    let times = clock.measure(|_| Ok(grad_cam(model.as_ref(), &images, &options)?))?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// The same as `explain` does it: on a card from a graph, unless plain passes are wanted.
pub(crate) fn explain(clock: &Clock, network: &Network) -> Result<Outcome> {
    if !clock.repeats_steps() {
        return explain_plainly(clock, network);
    }
    let images = network.images(&clock.device)?;
    let explainer = Explainer::new(network.build(&clock.device)?);
    let options = CamOptions::default();
    let times = clock.measure(|_| Ok(explainer.maps(&Method::GRAD_CAM, &images, &options)?))?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// Where images come from in each epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Images {
    /// JPEG files.
    Files,
    /// A file of decoded images.
    DecodedFile,
    /// Decoded images in memory.
    Memory,
}

/// From JPEG files to batches: decoded, cropped, scaled, flipped, normalised. A step is an image.
/// With one thread the caller's does it all; with more, each is a worker. Decoded images were decoded before the time counts.
pub(crate) fn load_images(clock: &Clock, from: Images) -> Result<Outcome> {
    let Some(data) = env::var_os("CANDLE_VISION_DATA").map(PathBuf::from) else {
        return Ok(Outcome::Skipped("CANDLE_VISION_DATA names no folder of data sets".to_owned()));
    };
    let folder = data.join("hymenoptera_data");
    if !folder.is_dir() {
        return Ok(Outcome::Skipped(format!("`{}` is not there", folder.display())));
    }
    let threads = candle_core::utils::get_num_threads();
    let dataset = ImageFolder::open(folder, Split::Train, FolderSplit::default())?;
    let mut dataset: Arc<dyn Dataset> = Arc::new(dataset);
    let decoded = tempfile::tempdir()?;
    if from == Images::DecodedFile {
        let told = &mut |_, _| {};
        let file = DecodedImages::open(decoded.path(), "train", "", dataset, threads, told)?;
        dataset = Arc::new(file);
    }
    let images = dataset.len();
    let workers = if threads == 1 { 0 } else { threads };
    let cache = if from == Images::Memory { 1 << 30 } else { 0 };
    let config = LoaderConfig::new(16).workers(workers).cache_bytes(cache);
    let loader = DataLoader::new(dataset, Compose::imagenet_train(), config, Device::Cpu)?;
    let times = clock.measure(|epoch| {
        let batches: Result<Vec<_>, _> = loader.epoch(epoch).map(|b| b.map(|b| b.labels)).collect();
        Ok(batches?)
    })?;
    Ok(Outcome::Measured { times: times.in_parts(images), images: 1 })
}
