//! What training a network takes in memory, before it runs.
//!
//! The feature maps that wait for the backward pass are the largest part. They are not guessed from layers: a real
//! training pass on one image and on two tells what it keeps, for any network. Every size is a part that does not
//! depend on the batch and a part for each image, so a line through both gives every other batch.

mod estimate;

use candle_core::{DType, Result, Tensor};
use candle_vision_ops::{
    CrossEntropyConfig, KeptBytes, Targets, add, cross_entropy, in_pool, kept_bytes, scale,
};

use crate::{FrozenBatchNorm, KeptValues, Model, Pass, Precision, PreparedLayers};
pub use estimate::{MemoryConfig, MemoryEstimate};

/// The share of a memory that a batch may take. The rest is for what no estimate knows.
pub const SAFE_SHARE: f64 = 0.8;

/// What a training step of `model` takes, in bytes. The running statistics of batch norm do not change.
///
/// `None` if the network computes with candle's own ops, because candle does not say what those keep. Half precision on
/// a CPU does so too.
///
/// # Errors
/// If the training pass fails.
///
/// # Example
/// ```
/// use candle_vision_models::candle_core::Device;
/// use candle_vision_models::memory::{MemoryConfig, estimate};
/// use candle_vision_models::{ModelSpec, build};
///
/// let model = build(&ModelSpec::new("mlp", 10).input([1, 28, 28]), 0, &Device::Cpu)?;
/// // Adam keeps two tensors for each parameter.
/// let config = MemoryConfig::new(64).optimizer_tensors(2);
/// let memory = estimate(&*model, &config)?.expect("it consists of this project's ops");
/// assert_eq!(memory.parameters, 4 * model.parameters().count());
/// assert_eq!((memory.gradients, memory.optimizer), (memory.parameters, 2 * memory.parameters));
/// assert!(memory.total() > 4 * memory.parameters + memory.activations);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub fn estimate(model: &dyn Model, config: &MemoryConfig) -> Result<Option<MemoryEstimate>> {
    let measured = MeasuredGraph::of(model, config)?;
    Ok(measured.and_then(|measured| measured.estimate(config)))
}

/// The graphs of two small training passes. It gives estimates for any batch without another pass.
#[derive(Debug, Clone)]
pub struct MeasuredGraph {
    /// Bytes of learned parameters, of those that are trained, and of buffers.
    parameters: usize,
    trainable: usize,
    buffers: usize,
    /// Number of elements of parameters of products. In half precision there is a second copy of each.
    of_products: usize,
    /// Number of elements of an image.
    image: usize,
    is_cpu: bool,
    /// What an evaluation pass prepares: copies of weights and their packed forms.
    prepared: usize,
    graphs: [(usize, KeptBytes); 2],
}

impl MeasuredGraph {
    /// Runs the two passes, and one in evaluation if `config` counts it. Of `config` only this, the choice for frozen batch norms and,
    /// on a GPU, the precision matter.
    ///
    /// # Errors
    /// If a pass fails on two images, too.
    pub fn of(model: &dyn Model, config: &MemoryConfig) -> Result<Option<Self>> {
        let device = model.parameters().device();
        // On a CPU a half type is emulated with candle's ops.
        let precision = if device.is_cpu() { Precision::F32 } else { config.precision };
        let graph = |batch| kept(model, batch, precision, config.frozen_batch_norm);
        // Batch norm takes no statistics from one value: some networks cannot be trained on one image.
        let graphs = match graph(1) {
            Ok(first) => [(1, first), (2, graph(2)?)],
            Err(_) => [(2, graph(2)?), (3, graph(3)?)],
        };
        let [(m, Some(first)), (n, Some(second))] = graphs else { return Ok(None) };
        let batch = config.batch.clamp(1, MOST_EVALUATED);
        let prepared = if config.validation { prepared(model, batch, precision)? } else { 0 };
        let weights = model.parameters().weights();
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let buffers = model.parameters().buffers();
        Ok(Some(Self {
            parameters: weights.iter().map(|weight| bytes(weight.var())).sum(),
            trainable: model.parameters().trainable().iter().map(|p| bytes(p.var())).sum(),
            buffers: buffers.iter().map(|buffer| bytes(buffer.var())).sum(),
            of_products: weights
                .iter()
                .filter(|weight| weight.var().rank() > 1)
                .map(|weight| weight.elem_count())
                .sum(),
            image: model.spec().input.iter().product(),
            is_cpu: device.is_cpu(),
            prepared,
            graphs: [(m, first), (n, second)],
        }))
    }

    /// What a training step takes. `None` if the network makes other graphs for other batches, so that no line goes
    /// through them.
    pub fn estimate(&self, config: &MemoryConfig) -> Option<MemoryEstimate> {
        let [(m, first), (n, second)] = &self.graphs;
        let kept = KeptBytes::for_batch([(*m, first), (*n, second)], config.batch)?;
        // A graph that was measured on a GPU has its feature maps in the half type already.
        let halves = self.is_cpu && config.precision != Precision::F32;
        let (share, copies) = if halves { (2, 2 * self.of_products) } else { (1, 0) };
        let on_cpu = self.is_cpu && !halves && !config.on_card;
        let [caller, helper] = if on_cpu { kept.workspaces() } else { [0, 0] };
        let workspaces = caller + helper * config.threads.saturating_sub(1);
        let images = config.batch * self.image;
        let mut estimate = MemoryEstimate {
            batch: config.batch,
            program: config.program,
            parameters: self.parameters,
            buffers: self.buffers,
            gradients: self.trainable * (1 + usize::from(config.accumulates)),
            optimizer: (self.trainable * config.optimizer_tensors)
                .div_ceil(config.optimizer_ranks.max(1)),
            averages: self.parameters * config.averages,
            images_8_bit: images,
            images: images * size_of::<f32>() * (1 + config.loader_batches),
            activations: kept.others / share + copies,
            backward: kept.peak().saturating_sub(kept.of_variables) / share,
            workspaces,
            validation: 0,
            beside_graph: 0,
            workspace_of_caller: caller,
            workspace_of_helper: helper,
            allocator: 0,
        };
        if on_cpu && config.keeping_allocator {
            estimate.allocator = estimate.of_allocator(config.threads);
        }
        estimate.validation = estimate.of_validation(self.prepared);
        if let Some(plain) = config.captured {
            // A smaller last batch is smaller than the others.
            let plain = plain.min(config.batch - 1);
            estimate.beside_graph = images * size_of::<f32>();
            if plain > 0 {
                let smaller = config.clone().batch(plain).captured(None);
                let smaller = self.estimate(&smaller)?;
                estimate.beside_graph +=
                    smaller.images + smaller.activations + smaller.backward + self.trainable;
            }
        }
        Some(estimate)
    }

    /// The largest batch whose estimate is at most [`SAFE_SHARE`] of `bytes`. `None` if not even one image fits.
    pub fn largest_batch(&self, config: &MemoryConfig, bytes: usize) -> Option<usize> {
        const MOST: usize = 1 << 24;
        let most = (bytes as f64 * SAFE_SHARE) as usize;
        let fits = |batch: usize| {
            let estimate = self.estimate(&config.clone().batch(batch));
            estimate.is_some_and(|estimate| estimate.total() <= most)
        };
        if !fits(1) {
            return None;
        }
        let (mut fitting, mut too_large) = (1, 2);
        while too_large <= MOST && fits(too_large) {
            (fitting, too_large) = (too_large, 2 * too_large);
        }
        while too_large - fitting > 1 {
            let middle = usize::midpoint(fitting, too_large);
            if fits(middle) {
                fitting = middle;
            } else {
                too_large = middle;
            }
        }
        Some(fitting)
    }
}

/// Images of the evaluation pass. Kernels are packed in another form for one image than for several.
const MOST_EVALUATED: usize = 8;

/// Bytes that an evaluation pass on images of zeros prepares.
fn prepared(model: &dyn Model, batch: usize, precision: Precision) -> Result<usize> {
    let layers = PreparedLayers::new();
    let [channels, height, width] = model.spec().input;
    let device = model.parameters().device();
    let images = Tensor::zeros((batch, height, width, channels), DType::F32, &device)?;
    let images = images.permute((0, 3, 1, 2))?;
    in_pool(|| {
        model.forward(&images, &mut Pass::eval().precision(precision).with_prepared(&layers))
    })?;
    Ok(layers.bytes())
}

/// What a training pass on `batch` images of zeros keeps. The buffers, such as running statistics, stay as they were.
fn kept(
    model: &dyn Model,
    batch: usize,
    precision: Precision,
    frozen_batch_norm: FrozenBatchNorm,
) -> Result<Option<KeptBytes>> {
    let buffers = KeptValues::of(model.parameters().buffers())?;
    let found = in_pool(|| run(model, batch, precision, frozen_batch_norm));
    buffers.put_back()?;
    found
}

fn run(
    model: &dyn Model,
    batch: usize,
    precision: Precision,
    frozen_batch_norm: FrozenBatchNorm,
) -> Result<Option<KeptBytes>> {
    let device = model.parameters().device();
    let [channels, height, width] = model.spec().input;
    // As a loader makes them: a view of channels-last memory.
    let images = Tensor::zeros((batch, height, width, channels), DType::F32, &device)?;
    let view = images.permute((0, 3, 1, 2))?;
    let mut pass = Pass::train(0).precision(precision).frozen_batch_norm(frozen_batch_norm);
    let outputs = model.forward_auxiliary(&view, &mut pass)?;
    let labels = Tensor::zeros(batch, DType::U32, &device)?;
    let loss_of = |logits: &Tensor| {
        cross_entropy(logits, Targets::Labels(&labels), &CrossEntropyConfig::default())
    };
    let mut loss = loss_of(&outputs.logits)?;
    for (logits, weight) in &outputs.auxiliary {
        loss = add(&loss, &scale(&loss_of(logits)?, *weight)?)?;
    }
    let parameters = model.parameters().all();
    let known: Vec<&Tensor> =
        parameters.iter().map(|parameter| parameter.var().as_tensor()).collect();
    Ok(kept_bytes(&loss, &[&known[..], &[&images]].concat()))
}
