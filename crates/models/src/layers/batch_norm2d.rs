//! Batch norm with its running statistics, fused with what follows it.

use candle_core::{Error, Result, Tensor, TensorId};
use candle_vision_ops::{
    Activation, BatchNormConstants, BatchStatistics, add, batch_norm_eval, batch_norm_train,
    conv2d_batch_norm_train, relu, relu6,
};

use super::{Conv2d, layer_at};
use crate::{Init, Parameter, ParameterBuilder, Pass};

/// PyTorch's defaults for `torch.nn.BatchNorm2d`.
const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// `torch.nn.BatchNorm2d` (Ioffe and Szegedy 2015): parameters `weight` and `bias`, buffers
/// `running_mean`, `running_var` and `num_batches_tracked`. All of them stay in `f32` whatever the
/// precision of a pass.
#[derive(Debug, Clone)]
pub struct BatchNorm2d {
    path: String,
    weight: Parameter,
    bias: Parameter,
    running_mean: Parameter,
    running_var: Parameter,
    num_batches_tracked: Parameter,
}

/// What follows a batch norm, done in the same pass over memory: a residual to add, then a
/// ReLU known under a path of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activate<'a> {
    /// Added to the normalised output, of the same shape.
    pub residual: Option<&'a Tensor>,
    /// The ReLU that comes last and its path; `None` for no ReLU.
    pub activation: Option<(Activation, &'a str)>,
}

impl<'a> Activate<'a> {
    /// ReLU at `path`.
    pub fn relu(path: &'a str) -> Self {
        Self { residual: None, activation: Some((Activation::Relu, path)) }
    }

    /// ReLU6 at `path`.
    pub fn relu6(path: &'a str) -> Self {
        Self { residual: None, activation: Some((Activation::Relu6, path)) }
    }

    /// Adds `residual` first.
    pub fn residual(self, residual: &'a Tensor) -> Self {
        Self { residual: Some(residual), ..self }
    }

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
    /// Batch norm over `channels`, beginning as the identity.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn new(channels: usize, vb: ParameterBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.weight("weight", &[channels], Init::Constant(1.0))?,
            bias: vb.weight("bias", &[channels], Init::Constant(0.0))?,
            running_mean: vb.buffer("running_mean", &[channels], 0.0)?,
            running_var: vb.buffer("running_var", &[channels], 1.0)?,
            num_batches_tracked: vb.counter("num_batches_tracked")?,
            path: vb.path().to_owned(),
        })
    }

    /// Normalises `x` `[batch, height, width, channels]`, then does what `then` says. In a training
    /// pass the running statistics move.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, then: Activate<'_>, pass: &mut Pass<'_>) -> Result<Tensor> {
        // A hook on the normalised output needs it before the residual and the activation, one on the
        // activation's input before the activation.
        if pass.wants(&self.path) || then.wants_input(pass) {
            return self.step_by_step(x, then, pass);
        }
        let y = self.normalise(x, then.residual, then.activation(), pass)?;
        then.output(y, pass)
    }

    fn step_by_step(&self, x: &Tensor, then: Activate<'_>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = self.normalise(&x, None, Activation::Identity, pass)?;
        let mut y = pass.output(&self.path, y)?;
        if let Some(residual) = then.residual {
            y = add(&y, residual)?;
        }
        let Some((activation, path)) = then.activation else {
            return Ok(y);
        };
        layer_at(path, &y, pass, |y| match activation {
            Activation::Identity => Ok(y.clone()),
            Activation::Relu => relu(y),
            Activation::Relu6 => relu6(y),
        })
    }

    fn normalise(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let (weight, bias) = (self.weight.tensor(pass), self.bias.tensor(pass));
        if !self.uses_batch_statistics(pass) {
            let (mean, variance) = (self.running_mean.detached(), self.running_var.detached());
            return batch_norm_eval(x, &weight, &bias, &mean, &variance, residual, activation, EPS)
                .map_err(|error| self.located(error));
        }
        let (y, statistics) = batch_norm_train(x, &weight, &bias, residual, activation, EPS)
            .map_err(|error| self.located(error))?;
        self.move_statistics(&statistics)?;
        Ok(y)
    }

    /// Of the convolution's output, normalised by the statistics of the batch in the same op.
    pub(super) fn forward_behind(
        &self,
        conv: &Conv2d,
        x: &Tensor,
        then: Activate<'_>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let x = &pass.cast(x)?;
        let (kernel, config) = conv.kernel(pass)?;
        let (weight, bias) = (self.weight.tensor(pass), self.bias.tensor(pass));
        let (residual, activation) = (then.residual, then.activation());
        let (y, statistics) =
            conv2d_batch_norm_train(x, &kernel, config, &weight, &bias, residual, activation, EPS)
                .map_err(|error| {
                    error.context(format!("layers `{}` and `{}`", conv.path(), self.path))
                })?;
        self.move_statistics(&statistics)?;
        Ok(y)
    }

    /// Whether this pass normalises by the batch.
    pub(super) fn uses_batch_statistics(&self, pass: &Pass<'_>) -> bool {
        let frozen = !self.weight.is_trainable() && !self.bias.is_trainable();
        pass.uses_batch_statistics(frozen)
    }

    /// Calls `f` with what evaluation uses.
    pub(super) fn with_constants<T>(&self, f: impl FnOnce(&BatchNormConstants<'_>) -> T) -> T {
        f(&BatchNormConstants {
            weight: &self.weight.detached(),
            bias: &self.bias.detached(),
            mean: &self.running_mean.detached(),
            variance: &self.running_var.detached(),
            eps: EPS,
        })
    }

    fn move_statistics(&self, statistics: &BatchStatistics) -> Result<()> {
        let (mean, variance) = (self.running_mean.detached(), self.running_var.detached());
        let (mean, variance) = statistics.update(&mean, &variance, MOMENTUM)?;
        self.running_mean.set(&mean)?;
        self.running_var.set(&variance)?;
        let batches = self.num_batches_tracked.detached();
        self.num_batches_tracked.set(&(batches.ones_like()? + &batches)?)
    }

    fn located(&self, error: Error) -> Error {
        error.context(format!("layer `{}`", self.path))
    }

    /// Tells batch norms apart: there is one with this weight in the process.
    pub(super) fn id(&self) -> TensorId {
        self.weight.var().id()
    }

    /// Where the layer stands in its network.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}
