//! Batch norm with its running statistics, fused with what follows it.

use candle_core::{DType, Error, Result, Tensor, TensorId};
use candle_vision_ops::{
    Activation, BatchNormConstants, BatchNormParameters, RunningStatistics, add, batch_norm_eval,
    batch_norm_train, batch_norm_train_across_ranks, conv2d_batch_norm_train,
};

use super::Conv2d;
use super::activations::activate_at;
use crate::{Init, Parameter, ParameterBuilder, Pass};

/// How a [`BatchNorm2d`] normalises; the defaults are PyTorch's.
///
/// ```
/// use candle_vision_models::layers::BatchNorm2dOptions;
///
/// // What TensorFlow's EfficientNets were trained with.
/// let options = BatchNorm2dOptions::new(32).eps(1e-3).momentum(0.01);
/// assert_eq!((options.channels, options.affine), (32, true));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BatchNorm2dOptions {
    /// Channels of the feature maps.
    pub channels: usize,
    /// Added to the variance, so that nothing is divided by zero. Default 1e-5.
    pub eps: f64,
    /// The share that a training batch has in the new running statistics, in `0.0..=1.0`. Default 0.1.
    pub momentum: f64,
    /// Whether each channel has a learned factor (`weight`) and summand (`bias`). Default `true`.
    pub affine: bool,
    /// Whether the learned parts include the factor. Default `true`.
    pub factor: bool,
}

impl BatchNorm2dOptions {
    /// PyTorch's defaults for `channels`.
    pub fn new(channels: usize) -> Self {
        Self { channels, eps: 1e-5, momentum: 0.1, affine: true, factor: true }
    }

    /// Sets what is added to the variance.
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Sets the share of a batch in the new running statistics.
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Sets whether channels have a learned factor and summand.
    pub fn affine(self, affine: bool) -> Self {
        Self { affine, ..self }
    }

    /// Sets whether the learned parts include the factor. Without it, the factor of every channel is 1, and the scale is
    /// left to the weights of the next layer.
    pub fn factor(self, factor: bool) -> Self {
        Self { factor, ..self }
    }
}

impl From<usize> for BatchNorm2dOptions {
    fn from(channels: usize) -> Self {
        Self::new(channels)
    }
}

/// `torch.nn.BatchNorm2d` (Ioffe and Szegedy 2015, <https://arxiv.org/abs/1502.03167>): parameters
/// `weight` and `bias`, buffers `running_mean`, `running_var` and `num_batches_tracked`. All of them stay
/// in `f32` whatever the precision of a pass.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Result, Tensor};
/// use candle_vision_models::layers::BatchNorm2d;
/// use candle_vision_models::{Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let norm = BatchNorm2d::new(2, vb.pp("bn1"))?;
/// let x = Tensor::new(&[[[[1f32, 10.0], [3.0, 30.0]]]], &Device::Cpu)?;
/// let y = norm.forward(&x, &mut Pass::train(0))?.flatten_all()?.to_vec1::<f32>()?;
/// assert!(y.iter().zip([-1.0, -1.0, 1.0, 1.0]).all(|(y, expected)| (y - expected).abs() < 1e-4));
/// # Ok::<(), candle_vision_models::candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchNorm2d {
    path: String,
    affine: Affine,
    running_mean: Parameter,
    running_var: Parameter,
    num_batches_tracked: Parameter,
    eps: f64,
    momentum: f64,
}

/// The factor and the summand of each channel.
#[derive(Debug, Clone)]
enum Affine {
    Learned {
        weight: Parameter,
        bias: Parameter,
    },
    /// The factor is one.
    Summand {
        one: Tensor,
        bias: Parameter,
    },
    /// One and zero: the ops take tensors.
    Constant {
        one: Tensor,
        zero: Tensor,
    },
}

/// What follows a batch norm or a convolution, done in the same pass over memory: a residual to add, then
/// an activation known under a path of its own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Then<'a> {
    /// Added to the normalised output, of the same shape.
    pub(super) residual: Option<&'a Tensor>,
    /// The activation that comes last and its path.
    pub(super) activation: Option<(Activation, &'a str)>,
}

impl Then<'_> {
    pub(super) fn activation(&self) -> Activation {
        self.activation.map_or(Activation::Identity, |(activation, _)| activation)
    }

    /// Whether a hook wants to see the activation's input, for which the activation must stand alone.
    pub(super) fn wants_input(&self, pass: &Pass<'_>) -> bool {
        self.activation.is_some_and(|(_, path)| pass.wants_input(path))
    }

    /// Hands in the output of the last of it.
    pub(super) fn output(&self, y: Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match self.activation {
            Some((_, path)) => pass.output(path, y),
            None => Ok(y),
        }
    }
}

impl BatchNorm2d {
    /// Batch norm that begins as the identity; the number of channels alone gives PyTorch's defaults.
    ///
    /// # Errors
    /// If `eps` is negative, `momentum` is not in `0.0..=1.0`, or a name is taken.
    pub fn new(options: impl Into<BatchNorm2dOptions>, vb: ParameterBuilder) -> Result<Self> {
        let BatchNorm2dOptions { channels, eps, momentum, affine, factor } = options.into();
        if !(eps >= 0.0 && (0.0..=1.0).contains(&momentum)) {
            candle_core::bail!(
                "`{}`: eps is at least 0 and the momentum in 0..=1, got {eps} and {momentum}",
                vb.path()
            )
        }
        let one = || Tensor::ones(channels, DType::F32, vb.device())?.to_dtype(vb.dtype());
        let bias = || vb.weight("bias", &[channels], Init::Constant(0.0));
        let affine = match (affine, factor) {
            (true, true) => Affine::Learned {
                weight: vb.weight("weight", &[channels], Init::Constant(1.0))?,
                bias: bias()?,
            },
            (true, false) => Affine::Summand { one: one()?, bias: bias()? },
            (false, _) => {
                let one = one()?;
                Affine::Constant { zero: one.zeros_like()?, one }
            }
        };
        Ok(Self {
            affine,
            running_mean: vb.buffer("running_mean", &[channels], 0.0)?,
            running_var: vb.buffer("running_var", &[channels], 1.0)?,
            num_batches_tracked: vb.counter("num_batches_tracked")?,
            path: vb.path().to_owned(),
            eps,
            momentum,
        })
    }

    /// Normalises `x` by the statistics of the batch in a training pass, which also moves the running
    /// statistics, and by the running statistics in evaluation. What a training pass does while the layer is
    /// frozen is [`FrozenBatchNorm`](crate::FrozenBatchNorm)'s choice.
    ///
    /// # Shapes
    /// - `x`: `[batch, height, width, channels]`
    /// - returns a tensor as `x`
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.forward_then(x, Then::default(), pass)
    }

    /// The same with an activation behind it, which has a path of its own. It is one op unless a hook wants to
    /// see what is between.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_activated(
        &self,
        x: &Tensor,
        activation: Activation,
        path: &str,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let then = Then { residual: None, activation: Some((activation, path)) };
        self.forward_then(x, then, pass)
    }

    /// The same, then what `then` says.
    pub(super) fn forward_then(
        &self,
        x: &Tensor,
        then: Then<'_>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        // A hook on the normalised output needs it before the residual and the activation, one on the
        // activation's input before the activation.
        if pass.wants(&self.path) || then.wants_input(pass) {
            return self.step_by_step(x, then, pass);
        }
        let y = self.normalise(x, then.residual, then.activation(), pass)?;
        then.output(y, pass)
    }

    fn step_by_step(&self, x: &Tensor, then: Then<'_>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = self.normalise(&x, None, Activation::Identity, pass)?;
        let mut y = pass.output(&self.path, y)?;
        if let Some(residual) = then.residual {
            y = add(&y, residual)?;
        }
        match then.activation {
            Some((activation, path)) => activate_at(activation, path, &y, pass),
            None => Ok(y),
        }
    }

    fn normalise(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let ((weight, bias), eps) = (self.weight_and_bias(pass), self.eps);
        if !self.uses_batch_statistics(pass) {
            let norm = BatchNormConstants {
                weight: &weight,
                bias: &bias,
                mean: &self.running_mean.detached(),
                variance: &self.running_var.detached(),
                eps,
            };
            return batch_norm_eval(x, &norm, residual, activation)
                .map_err(|error| self.located(error));
        }
        let norm = self.for_training(&weight, &bias);
        let trained = match pass.ranks() {
            None => batch_norm_train(x, &norm, residual, activation),
            Some(ranks) => batch_norm_train_across_ranks(x, &norm, residual, activation, ranks),
        };
        let (y, _) = trained.map_err(|error| self.located(error))?;
        Ok(y)
    }

    /// Of the convolution's output, normalised by the statistics of the batch in the same op.
    pub(super) fn forward_behind(
        &self,
        conv: &Conv2d,
        x: &Tensor,
        then: Then<'_>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let x = &pass.cast(x)?;
        let (kernel, config) = conv.kernel(pass)?;
        let (weight, bias) = self.weight_and_bias(pass);
        let norm = self.for_training(&weight, &bias);
        let (residual, activation) = (then.residual, then.activation());
        let (y, _) = conv2d_batch_norm_train(x, &kernel, config, &norm, residual, activation)
            .map_err(|error| {
                error.context(format!("layers `{}` and `{}`", conv.path(), self.path))
            })?;
        Ok(y)
    }

    fn for_training<'a>(&'a self, weight: &'a Tensor, bias: &'a Tensor) -> BatchNormParameters<'a> {
        let running = RunningStatistics {
            mean: self.running_mean.var(),
            variance: self.running_var.var(),
            batches: self.num_batches_tracked.var(),
            momentum: self.momentum,
        };
        BatchNormParameters { weight, bias, eps: self.eps, running: Some(running) }
    }

    fn weight_and_bias(&self, pass: &Pass<'_>) -> (Tensor, Tensor) {
        match &self.affine {
            Affine::Learned { weight, bias } => (weight.tensor(pass), bias.tensor(pass)),
            Affine::Summand { one, bias } => (one.clone(), bias.tensor(pass)),
            Affine::Constant { one, zero } => (one.clone(), zero.clone()),
        }
    }

    /// Whether this pass normalises by the batch. Without learned parameters nothing can be frozen.
    pub(super) fn uses_batch_statistics(&self, pass: &Pass<'_>) -> bool {
        let frozen = match &self.affine {
            Affine::Learned { weight, bias } => !weight.is_trainable() && !bias.is_trainable(),
            Affine::Summand { bias, .. } => !bias.is_trainable(),
            Affine::Constant { .. } => false,
        };
        pass.uses_batch_statistics(frozen)
    }

    /// Calls `f` with what evaluation uses.
    pub(super) fn with_constants<T>(&self, f: impl FnOnce(&BatchNormConstants<'_>) -> T) -> T {
        let (weight, bias) = match &self.affine {
            Affine::Learned { weight, bias } => (weight.detached(), bias.detached()),
            Affine::Summand { one, bias } => (one.clone(), bias.detached()),
            Affine::Constant { one, zero } => (one.clone(), zero.clone()),
        };
        f(&BatchNormConstants {
            weight: &weight,
            bias: &bias,
            mean: &self.running_mean.detached(),
            variance: &self.running_var.detached(),
            eps: self.eps,
        })
    }

    fn located(&self, error: Error) -> Error {
        error.context(format!("layer `{}`", self.path))
    }

    /// Tells batch norms apart: there is one with this running mean in the process.
    pub(super) fn id(&self) -> TensorId {
        self.running_mean.var().id()
    }

    /// Where the layer stands in its network.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}
