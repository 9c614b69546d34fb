//! One forward pass: all information that a layer needs besides its input.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor, TensorId, bail};
use candle_vision_ops::{
    AcrossRanks, Generator, cast, channels_last, kernels_in_order, mul, on_gradient,
};
use rand::SeedableRng;

use crate::hook::{GradientHook, LayerHook};
use crate::{Parameter, Parameters, Precision, PreparedLayers};

/// Whether a pass trains or evaluates. It decides which statistics batch norm uses and whether dropout is
/// active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, dropout, gradients for trainable parameters.
    Train,
    /// Running statistics, no dropout, no gradients for parameters.
    Eval,
}

/// How batch norm behaves in a training pass while its parameters are frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrozenBatchNorm {
    /// As PyTorch's `requires_grad = False` on a network in train mode: normalise by the batch and keep
    /// updating the running statistics.
    #[default]
    UpdateStatistics,
    /// As if the layer were in eval mode: normalise by the running statistics and leave them unchanged.
    KeepStatistics,
}

/// Separates dropout's random numbers from others that are drawn from the same seed.
const PURPOSE: u64 = 0x4452_4F50_4F55_5421;

/// A forward pass: its mode, precision, random generator and hook.
///
/// A network has no hidden train flag. The pass holds the mode.
pub struct Pass<'t> {
    mode: Mode,
    precision: Precision,
    frozen_batch_norm: FrozenBatchNorm,
    generator: Generator,
    hook: Option<&'t mut dyn LayerHook>,
    prepared: Option<&'t PreparedLayers>,
    ranks: Option<Arc<dyn AcrossRanks>>,
    kernels: Arc<HashMap<TensorId, Tensor>>,
}

impl fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("mode", &self.mode)
            .field("precision", &self.precision)
            .field("frozen_batch_norm", &self.frozen_batch_norm)
            .field("hook", &self.hook.is_some())
            .field("prepared", &self.prepared.is_some())
            .finish_non_exhaustive()
    }
}

impl<'p> Pass<'p> {
    /// A training pass. All its randomness, such as dropout, is determined by `seed`.
    pub fn train(seed: u64) -> Self {
        Self::train_with(Generator::seed_from_u64(seed))
    }

    /// The training pass of step `step`, counted from 0, of a run with the seed `seed`. Each step has its own
    /// random numbers. So a run that continues at any step gives the same results as an uninterrupted run.
    ///
    /// ```
    /// use candle_vision_models::candle_core::{DType, Device, Tensor};
    /// use candle_vision_models::{ModelSpec, Pass, build};
    ///
    /// let model = build(&ModelSpec::new("gap_cnn_deep", 2).input([3, 16, 16]), 0, &Device::Cpu)?;
    /// let images = Tensor::ones((2, 3, 16, 16), DType::F32, &Device::Cpu)?;
    /// let logits = |step| model.forward(&images, &mut Pass::train_step(7, step))?.to_vec2::<f32>();
    /// assert_eq!(logits(3)?, logits(3)?);
    /// assert_ne!(logits(3)?, logits(4)?);
    /// # candle_vision_models::candle_core::Result::Ok(())
    /// ```
    pub fn train_step(seed: u64, step: usize) -> Self {
        let mut generator = Generator::seed_from_u64(seed ^ PURPOSE);
        generator.set_stream(step as u64);
        Self::train_with(generator)
    }

    /// A training pass in which dropout draws from `generator`.
    pub fn train_with(generator: Generator) -> Self {
        Self::new(Mode::Train, generator)
    }

    /// An evaluation pass. It is deterministic and keeps no graph for parameters.
    pub fn eval() -> Self {
        Self::new(Mode::Eval, Generator::seed_from_u64(0))
    }

    fn new(mode: Mode, generator: Generator) -> Self {
        Self {
            mode,
            precision: Precision::default(),
            frozen_batch_norm: FrozenBatchNorm::default(),
            generator,
            hook: None,
            prepared: None,
            ranks: None,
            kernels: Arc::default(),
        }
    }

    /// Sets the number type of feature maps and products. The default is the number type of the parameters.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Sets how batch norm behaves while its parameters are frozen.
    pub fn frozen_batch_norm(mut self, choice: FrozenBatchNorm) -> Self {
        self.frozen_batch_norm = choice;
        self
    }

    /// Lets batch norm normalise by the batches of all processes that train the network together. All of them make the
    /// same passes. `None`, the default, stands for the batch of this process alone.
    pub fn synchronised(mut self, ranks: impl Into<Option<Arc<dyn AcrossRanks>>>) -> Self {
        self.ranks = ranks.into();
        self
    }

    /// The processes over whose batches batch norm normalises.
    pub(crate) fn ranks(&self) -> Option<&Arc<dyn AcrossRanks>> {
        self.ranks.as_ref()
    }

    /// Calls `hook` for every named layer during this pass.
    pub fn with_hooks<'t>(self, hook: &'t mut dyn LayerHook) -> Pass<'t>
    where
        'p: 't,
    {
        Pass {
            mode: self.mode,
            precision: self.precision,
            frozen_batch_norm: self.frozen_batch_norm,
            generator: self.generator,
            hook: Some(hook),
            prepared: self.prepared,
            ranks: self.ranks,
            kernels: self.kernels,
        }
    }

    /// Takes prepared layers from `prepared`, and stores newly prepared layers there for the next pass. This
    /// applies only to layers whose input needs no gradient.
    ///
    /// In evaluation these are convolutions with the following batch norm folded in. Their outputs equal those
    /// of the plain layers up to rounding. In training they are frozen convolutions alone. In half precision, CUDA
    /// devices alone have such layers. Weights that are cast are kept on every device.
    pub fn with_prepared<'t>(self, prepared: &'t PreparedLayers) -> Pass<'t>
    where
        'p: 't,
    {
        Pass {
            mode: self.mode,
            precision: self.precision,
            frozen_batch_norm: self.frozen_batch_norm,
            generator: self.generator,
            hook: self.hook.map(|hook| -> &'t mut dyn LayerHook { hook }),
            prepared: Some(prepared),
            ranks: self.ranks,
            kernels: self.kernels,
        }
    }

    /// Casts and lays out the trainable kernels of `parameters` once for all layers of this pass, which takes fewer launches
    /// on a CUDA device (see [`kernels_in_order`]). It does nothing elsewhere.
    ///
    /// The pass reads the values that the parameters have now. If they change, it needs another pass.
    ///
    /// # Errors
    /// If an operation fails.
    pub fn with_kernels_in_order(mut self, parameters: &Parameters) -> Result<Self> {
        if !self.is_train() || !parameters.device().is_cuda() {
            return Ok(self);
        }
        let trainable = parameters.trainable();
        let mut of_type: HashMap<DType, Vec<&Tensor>> = HashMap::new();
        for parameter in trainable.iter().filter(|parameter| parameter.var().rank() == 4) {
            let kernels = of_type.entry(self.product_dtype(parameter)).or_default();
            kernels.push(parameter.var().as_tensor());
        }
        let mut in_order = HashMap::new();
        for (dtype, kernels) in of_type {
            let ids = kernels.iter().map(|kernel| kernel.id());
            in_order.extend(ids.zip(kernels_in_order(&kernels, dtype)?));
        }
        self.kernels = Arc::new(in_order);
        Ok(self)
    }

    /// `kernel` for a convolution in this pass.
    pub(crate) fn kernel(&self, kernel: &Parameter) -> Result<Tensor> {
        match self.kernels.get(&kernel.var().id()) {
            Some(in_order) => Ok(in_order.clone()),
            None => kernel.in_product(self),
        }
    }

    /// The place where layers with input `x` may keep what they prepare. `None` if they may not. In training,
    /// only layers with frozen parameters may.
    pub(crate) fn prepared(&self, x: &Tensor, frozen: bool) -> Option<&'p PreparedLayers> {
        let constant = self.mode == Mode::Eval || frozen;
        // A CPU has no kernels for half types.
        let has_kernels = self.precision == Precision::F32 || x.device().is_cuda();
        self.prepared.filter(|_| constant && has_kernels && !x.track_op())
    }

    /// The place where parameters may keep what they are in this pass's number type, and that type. `None` if they may
    /// not, or are not cast. In training, only frozen parameters may.
    pub(crate) fn prepared_casts(&self, frozen: bool) -> Option<(&'p PreparedLayers, DType)> {
        let constant = self.mode == Mode::Eval || frozen;
        let prepared = self.prepared.filter(|_| constant)?;
        Some((prepared, self.precision.half()?))
    }

    /// The number type of products of a parameter.
    pub(crate) fn product_dtype(&self, parameter: &Parameter) -> DType {
        self.precision.half().unwrap_or_else(|| parameter.var().dtype())
    }

    /// `x` in the number type in which this pass computes products. A layer with products casts its input, as
    /// PyTorch's autocast does. So it does not matter whether the loader, another layer or a hook made the
    /// input.
    ///
    /// # Errors
    /// If `x` does not hold floats.
    pub fn cast(&self, x: &Tensor) -> Result<Tensor> {
        match self.precision.half() {
            Some(dtype) => cast(x, dtype),
            None => Ok(x.clone()),
        }
    }

    /// Whether this is a training pass.
    pub fn is_train(&self) -> bool {
        self.mode == Mode::Train
    }

    /// Whether a batch norm normalises by the statistics of this batch. `frozen` says whether its parameters
    /// are frozen.
    pub fn uses_batch_statistics(&self, frozen: bool) -> bool {
        let keeps = frozen && self.frozen_batch_norm == FrozenBatchNorm::KeepStatistics;
        self.is_train() && !keeps
    }

    /// The generator that dropout draws from.
    pub fn generator(&mut self) -> &mut Generator {
        &mut self.generator
    }

    /// Whether a hook wants to see the output of the layer at `path`. If not, the layer may be fused.
    pub fn wants(&self, path: &str) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.wants(path))
    }

    /// Whether a hook wants to see the input of the layer at `path`. If not, the layer may be fused with the
    /// one before it.
    pub fn wants_input(&self, path: &str) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.wants(path) && hook.wants_input(path))
    }

    /// A layer calls this with its own path if it computes products without parameters, such as those of attention.
    pub fn products(&mut self, path: &str, multiply_adds: usize) {
        if let Some(hook) = self.hook.as_mut().filter(|hook| hook.wants(path)) {
            hook.products(path, multiply_adds);
        }
    }

    /// A layer calls this with its own path and input, and continues with the returned tensor. Layouts are
    /// those of [`Pass::output`].
    ///
    /// # Errors
    /// If the hook fails, or returns a tensor of another shape, number type or device.
    pub fn input(&mut self, path: &str, input: &Tensor) -> Result<Tensor> {
        let half = self.precision.half().is_some();
        match &mut self.hook {
            Some(hook) if hook.wants(path) && hook.wants_input(path) => {
                let site =
                    Site { what: "input", path, changes_batch: hook.changes_batch(path), half };
                show(input.clone(), &site, |shown| hook.input(path, shown))
            }
            _ => Ok(input.clone()),
        }
    }

    /// A layer calls this with its own path and output, and continues with the returned tensor.
    ///
    /// Feature maps (rank 4) are `[batch, height, width, channels]` here. The hook sees them as `[batch,
    /// channels, height, width]`.
    ///
    /// # Errors
    /// If the hook fails, or returns a tensor of another shape, number type or device.
    pub fn output(&mut self, path: &str, output: Tensor) -> Result<Tensor> {
        let half = self.precision.half().is_some();
        let Some(hook) = self.hook.as_mut().filter(|hook| hook.wants(path)) else {
            return Ok(output);
        };
        let site = Site { what: "output", path, changes_batch: hook.changes_batch(path), half };
        let output = show(output, &site, |shown| hook.output(path, shown))?;
        let stored = hook.stored_output(path, output.clone())?;
        site.check(&stored, &output)?;
        let output = stored;
        let channels = output.dims().last().copied().unwrap_or_default();
        let output = match hook.channel_factors(path, channels)? {
            Some(factors) => with_factors(path, &output, factors)?,
            None => output,
        };
        match hook.gradient_hook(path) {
            Some(hook) => with_gradient(path, &output, hook),
            None => Ok(output),
        }
    }
}

/// The place where a hook sees a tensor.
struct Site<'a> {
    what: &'static str,
    path: &'a str,
    changes_batch: bool,
    /// Whether layers cast their inputs.
    half: bool,
}

impl Site<'_> {
    /// Checks the tensor that a hook returned. Without this check the next layer would fail, and its message
    /// would not name the layer of the hook.
    fn check(&self, result: &Tensor, expected: &Tensor) -> Result<()> {
        let (found, wanted) = (result.dims(), expected.dims());
        let free = usize::from(self.changes_batch);
        let same_shape = found.len() == wanted.len() && found.get(free..) == wanted.get(free..);
        let same_type =
            result.dtype() == expected.dtype() || (self.half && result.dtype().is_float());
        let same_device = result.device().same_device(expected.device());
        if same_shape && same_type && same_device {
            return Ok(());
        }
        let (what, path) = (self.what, self.path);
        if !same_device {
            let (found, wanted) = (result.device().location(), expected.device().location());
            bail!(
                "the hook on the {what} of layer `{path}` returned a tensor on {found:?}, expected {wanted:?}"
            )
        }
        bail!(
            "the hook on the {what} of layer `{path}` returned {:?} of shape {found:?}, expected {:?} of \
             shape {wanted:?}",
            result.dtype(),
            expected.dtype()
        )
    }
}

/// Calls `see` with feature maps as `[batch, channels, height, width]`.
fn show(
    maps: Tensor,
    site: &Site<'_>,
    see: impl FnOnce(Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let is_map = maps.rank() == 4;
    let shown = if is_map { maps.permute((0, 3, 1, 2))? } else { maps.clone() };
    let result = see(shown.clone())?;
    // An unchanged tensor continues in its old layout, so that no permutations are recorded on the graph.
    if result.id() == shown.id() {
        return Ok(maps);
    }
    site.check(&result, &shown)?;
    if is_map { channels_last(&result) } else { Ok(result) }
}

/// `output`, whose last dimension is the channels, times one factor for each channel.
fn with_factors(path: &str, output: &Tensor, factors: Vec<f32>) -> Result<Tensor> {
    let channels = output.dims().last().copied().unwrap_or_default();
    if factors.len() != channels {
        bail!("a hook has {} factors for the {channels} channels of layer `{path}`", factors.len())
    }
    let factors = Tensor::from_vec(factors, channels, output.device())?;
    mul(output, &factors.to_dtype(output.dtype())?)
}

/// `output` with `hook` on its gradient. The hook sees gradients of feature maps as `[batch, channels, height,
/// width]`. On the graph the layout does not change, so that `backward` keeps its fast path.
fn with_gradient(path: &str, output: &Tensor, hook: GradientHook) -> Result<Tensor> {
    let (path, is_map) = (path.to_owned(), output.rank() == 4);
    on_gradient(output, move |gradient| {
        let shown = if is_map { gradient.permute((0, 3, 1, 2))? } else { gradient.clone() };
        let Some(changed) = hook(&shown)? else {
            return Ok(None);
        };
        let (found, wanted) = (changed.dims(), shown.dims());
        if found != wanted || changed.dtype() != shown.dtype() {
            bail!(
                "the gradient hook on layer `{path}` returned {:?} of shape {found:?}, expected {:?} of shape \
                 {wanted:?}",
                changed.dtype(),
                shown.dtype()
            )
        }
        Ok(Some(if is_map { changed.permute((0, 2, 3, 1))? } else { changed }))
    })
}
