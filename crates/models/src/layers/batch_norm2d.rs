//! Batch norm with its running statistics, fused with what follows it.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, batch_norm_eval, batch_norm_train, relu};

use crate::{Init, Parameter, ParameterBuilder, Pass};

/// PyTorch's defaults for `torch.nn.BatchNorm2d`.
const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// `torch.nn.BatchNorm2d` (Ioffe and Szegedy 2015): parameters `weight` and `bias`, buffers
/// `running_mean`, `running_var` and `num_batches_tracked`.
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
/// rectifier known under a path of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activate<'a> {
    /// Added to the normalised output, of the same shape.
    pub residual: Option<&'a Tensor>,
    /// The path of the rectifier that comes last; `None` for no rectifier.
    pub relu: Option<&'a str>,
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
    /// If the shape does not fit, or what a tap returns.
    pub fn forward(&self, x: &Tensor, then: Activate<'_>, pass: &mut Pass<'_>) -> Result<Tensor> {
        // A tap on the normalised output needs it before the residual and the rectifier.
        if pass.wants(&self.path) {
            return self.step_by_step(x, then, pass);
        }
        let activation = if then.relu.is_some() { Activation::Relu } else { Activation::Identity };
        let y = self.normalise(x, then.residual, activation, pass)?;
        match then.relu {
            Some(path) => pass.output(path, y),
            None => Ok(y),
        }
    }

    fn step_by_step(&self, x: &Tensor, then: Activate<'_>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let y = self.normalise(x, None, Activation::Identity, pass)?;
        let mut y = pass.output(&self.path, y)?;
        if let Some(residual) = then.residual {
            y = (y + residual)?;
        }
        match then.relu {
            Some(path) => pass.output(path, relu(&y)?),
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
        let (weight, bias) = (self.weight.tensor(pass), self.bias.tensor(pass));
        let frozen = !self.weight.is_trainable() && !self.bias.is_trainable();
        let (mean, variance) = (self.running_mean.detached(), self.running_var.detached());
        if !pass.uses_batch_statistics(frozen) {
            return batch_norm_eval(x, &weight, &bias, &mean, &variance, residual, activation, EPS)
                .map_err(|error| error.context(format!("layer `{}`", self.path)));
        }
        let (y, statistics) = batch_norm_train(x, &weight, &bias, residual, activation, EPS)
            .map_err(|error| error.context(format!("layer `{}`", self.path)))?;
        let (mean, variance) = statistics.update(&mean, &variance, MOMENTUM)?;
        self.running_mean.set(&mean)?;
        self.running_var.set(&variance)?;
        let batches = self.num_batches_tracked.detached();
        self.num_batches_tracked.set(&(batches.ones_like()? + &batches)?)?;
        Ok(y)
    }
}
