//! Layer norm.

use candle_core::{Result, Tensor};
use candle_vision_ops::layer_norm;

use crate::{Init, Parameter, ParameterBuilder, Pass};

/// The size of a [`LayerNorm`] and its `eps`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LayerNormOptions {
    /// Size of the last dimension, over which is normalised.
    pub features: usize,
    /// Added to the variance, so that nothing is divided by zero. Default 1e-5, PyTorch's; torchvision's
    /// vision transformers and ConvNeXt have 1e-6.
    pub eps: f64,
}

impl LayerNormOptions {
    /// PyTorch's defaults for `features`.
    pub fn new(features: usize) -> Self {
        Self { features, eps: 1e-5 }
    }

    /// Sets what is added to the variance.
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }
}

impl From<usize> for LayerNormOptions {
    fn from(features: usize) -> Self {
        Self::new(features)
    }
}

/// `torch.nn.LayerNorm` over the last dimension (Ba, Kiros and Hinton 2016,
/// <https://arxiv.org/abs/1607.06450>): parameters `weight` and `bias`, both `[features]`. They stay in
/// `f32` whatever the precision of a pass. Of feature maps it normalises the channels of each position,
/// as torchvision's `LayerNorm2d` does.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Result, Tensor};
/// use candle_vision_models::layers::{LayerNorm, LayerNormOptions};
/// use candle_vision_models::{Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let norm = LayerNorm::new(LayerNormOptions::new(2).eps(1e-6), vb.pp("ln"))?;
/// let y = norm.forward(&Tensor::new(&[[1f32, 3.0]], &Device::Cpu)?, &mut Pass::eval())?;
/// assert!((y.to_vec2::<f32>()?[0][1] - 1.0).abs() < 1e-5);
/// # Ok::<(), candle_vision_models::candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LayerNorm {
    path: String,
    weight: Parameter,
    bias: Parameter,
    eps: f64,
}

impl LayerNorm {
    /// A layer norm with a weight of one and a bias of zero; the number of features alone gives PyTorch's
    /// defaults.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn new(options: impl Into<LayerNormOptions>, vb: ParameterBuilder) -> Result<Self> {
        let LayerNormOptions { features, eps } = options.into();
        Ok(Self {
            weight: vb.weight("weight", &[features], Init::Constant(1.0))?,
            bias: vb.weight("bias", &[features], Init::Constant(0.0))?,
            path: vb.path().to_owned(),
            eps,
        })
    }

    /// A tensor of the shape of `x`, `[.., features]`.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let (weight, bias) = (self.weight.tensor(pass), self.bias.tensor(pass));
        let y = layer_norm(&x, &weight, &bias, self.eps)
            .map_err(|error| error.context(format!("layer `{}`", self.path)))?;
        pass.output(&self.path, y)
    }
}
