//! Channels that are weighted by what the whole image shows.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, mul};

use super::{AdaptiveAvgPool2d, Conv2d, Conv2dOptions};
use crate::{Init, ParameterBuilder, Pass};

/// The sizes of a [`SqueezeExcitation`] and its activations.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SqueezeExcitationOptions {
    /// Channels of the feature maps.
    pub channels: usize,
    /// Features between the two products.
    pub squeeze_channels: usize,
    /// The activation between them. Default ReLU.
    pub activation: Activation,
    /// What makes the factors. Default the sigmoid; MobileNetV3 has the hard one.
    pub scale_activation: Activation,
    /// What the kernels of `fc1` and `fc2` begin with; PyTorch's default ([`Init::fan_in_uniform`]) if `None`.
    pub init: Option<[Init; 2]>,
    /// What both biases begin with; PyTorch's default ([`Init::fan_in_uniform`]) if `None`.
    pub bias_init: Option<Init>,
}

impl SqueezeExcitationOptions {
    /// torchvision's defaults.
    pub fn new(channels: usize, squeeze_channels: usize) -> Self {
        let (activation, scale_activation) = (Activation::Relu, Activation::Sigmoid);
        let (init, bias_init) = (None, None);
        Self { channels, squeeze_channels, activation, scale_activation, init, bias_init }
    }

    /// Sets the activation between the two products.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Sets what makes the factors.
    pub fn scale_activation(self, scale_activation: Activation) -> Self {
        Self { scale_activation, ..self }
    }

    /// Sets that the kernels begin by their fan out, as those of a [`ConvNorm`](super::ConvNorm) do. torchvision's
    /// networks set this for all their convolutions.
    pub fn fan_out_init(self) -> Self {
        let init = [self.squeeze_channels, self.channels].map(Init::fan_out_normal);
        Self { init: Some(init), ..self }
    }

    /// Sets what both biases begin with.
    pub fn bias_init(self, init: Init) -> Self {
        Self { bias_init: Some(init), ..self }
    }

    /// The options of the two convolutions.
    fn convolutions(&self) -> [Conv2dOptions; 2] {
        let (channels, squeezed) = (self.channels, self.squeeze_channels);
        let mut convolutions =
            [Conv2dOptions::new(channels, squeezed, 1), Conv2dOptions::new(squeezed, channels, 1)];
        for (i, conv) in convolutions.iter_mut().enumerate() {
            conv.init = self.init.map(|init| init[i]);
            conv.bias_init = self.bias_init;
        }
        convolutions
    }
}

/// `torchvision.ops.SqueezeExcitation` (Hu et al. 2017, <https://arxiv.org/abs/1709.01507>): the mean of
/// each channel goes through two 1x1 convolutions, `fc1` and `fc2`, and gives the factor of the channel.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::layers::{SqueezeExcitation, SqueezeExcitationOptions};
/// use candle_vision_models::{Parameters, Pass};
///
/// let parameters = Parameters::new();
/// let vb = parameters.builder(0, DType::F32, &Device::Cpu);
/// let layer = SqueezeExcitation::new(SqueezeExcitationOptions::new(16, 4), vb.pp("se"))?;
/// assert_eq!(parameters.get("se.fc1.weight").unwrap().var().dims(), [4, 16, 1, 1]);
/// let x = Tensor::ones((2, 7, 7, 16), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&x, &mut Pass::eval())?.dims(), [2, 7, 7, 16]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct SqueezeExcitation {
    path: String,
    avgpool: AdaptiveAvgPool2d,
    fc1: Conv2d,
    activation: (Activation, String),
    fc2: Conv2d,
    scale_activation: (Activation, String),
}

impl SqueezeExcitation {
    /// The layer with new parameters.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn new(options: SqueezeExcitationOptions, vb: ParameterBuilder) -> Result<Self> {
        let [fc1, fc2] = options.convolutions();
        let at = |name: &str| vb.pp(name).path().to_owned();
        Ok(Self {
            path: vb.path().to_owned(),
            avgpool: AdaptiveAvgPool2d::new([1, 1], vb.pp("avgpool")),
            fc1: Conv2d::new(fc1, vb.pp("fc1"))?,
            activation: (options.activation, at("activation")),
            fc2: Conv2d::new(fc2, vb.pp("fc2"))?,
            scale_activation: (options.scale_activation, at("scale_activation")),
        })
    }

    /// `[batch, height, width, channels]` to the same shape.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let mut factors = self.avgpool.forward(&x, pass)?;
        let layers = [(&self.fc1, &self.activation), (&self.fc2, &self.scale_activation)];
        for (conv, (activation, path)) in layers {
            factors = conv.forward_activated(&factors, *activation, path, pass)?;
        }
        pass.output(&self.path, mul(&pass.cast(&x)?, &factors)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_vision_ops::is_direct;

    use super::*;
    use crate::Parameters;

    /// ```python
    /// import torch, torchvision
    /// se = torchvision.ops.SqueezeExcitation(2, 1)
    /// se.fc1.weight.data, se.fc1.bias.data = torch.tensor([[[[.5]], [[-.25]]]]), torch.tensor([.1])
    /// se.fc2.weight.data, se.fc2.bias.data = torch.tensor([[[[1.]]], [[[-2.]]]]), torch.tensor([.2, -.3])
    /// print(se(torch.arange(8.).reshape(1, 2, 2, 2) - 2).flatten().tolist())
    /// ```
    const EXPECTED: [f32; 8] =
        [-1.099_667_9, -0.549_834, 0.0, 0.549_834, 0.851_115, 1.276_672_5, 1.702_23, 2.127_787_6];

    #[test]
    fn values_are_torchvisions() -> Result<()> {
        let parameters = Parameters::new();
        let vb = parameters.builder(0, DType::F32, &Device::Cpu);
        let layer = SqueezeExcitation::new(SqueezeExcitationOptions::new(2, 1), vb)?;
        for (path, values) in [
            ("fc1.weight", vec![0.5f32, -0.25]),
            ("fc1.bias", vec![0.1]),
            ("fc2.weight", vec![1.0, -2.0]),
            ("fc2.bias", vec![0.2, -0.3]),
        ] {
            let parameter = parameters.get(path).expect("the layer has it");
            let shape = parameter.var().shape().clone();
            parameter.set(&Tensor::from_vec(values, shape, &Device::Cpu)?)?;
        }
        let x = (Tensor::arange(0f32, 8.0, &Device::Cpu)?.reshape((1, 2, 2, 2))? - 2.0)?;
        let x = x.permute((0, 2, 3, 1))?.contiguous()?;
        let y = layer.forward(&x, &mut Pass::train(0))?;
        assert!(is_direct(&y));
        let y = y.permute((0, 3, 1, 2))?.flatten_all()?.to_vec1::<f32>()?;
        for (y, expected) in y.iter().zip(EXPECTED) {
            assert!((y - expected).abs() < 1e-6, "{y} instead of {expected}");
        }
        Ok(())
    }
}
