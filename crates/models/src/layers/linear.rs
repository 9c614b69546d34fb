//! The fully connected layer.

use candle_core::{Result, Tensor};
use candle_vision_ops::{cast, linear};

use crate::{Init, Parameter, ParameterBuilder, Pass};

/// `torch.nn.Linear`: parameters `weight` `[out, in]` and `bias` `[out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    path: String,
    weight: Parameter,
    bias: Parameter,
}

impl Linear {
    /// A linear layer with PyTorch's default initial values.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn new(in_features: usize, out_features: usize, vb: ParameterBuilder) -> Result<Self> {
        let init = Init::fan_in_uniform(in_features);
        Ok(Self {
            weight: vb.weight("weight", &[out_features, in_features], init)?,
            bias: vb.weight("bias", &[out_features], init)?,
            path: vb.path().to_owned(),
        })
    }

    /// `[batch, in]` to `[batch, out]`.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = self.multiply(&x, pass)?;
        pass.output(&self.path, y)
    }

    /// The same for the layer that ends in the classes: whatever the precision of the pass, the
    /// logits have the number type of the parameters. A softmax of halves would be of little use.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn logits(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = cast(&self.multiply(&x, pass)?, self.weight.var().dtype())?;
        pass.output(&self.path, y)
    }

    fn multiply(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let (weight, bias) = (self.weight.in_product(pass)?, self.bias.in_product(pass)?);
        linear(&pass.cast(x)?, &weight, Some(&bias))
            .map_err(|error| error.context(format!("layer `{}`", self.path)))
    }
}
