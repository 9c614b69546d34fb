//! A convolution, the batch norm behind it and an activation, in as few ops as a pass allows.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, Padding2d, PerAxis};

use super::batch_norm2d::Then;
use super::{BatchNorm2d, BatchNorm2dOptions, Conv2d, Conv2dOptions};
use crate::{Init, ParameterBuilder, Pass};

/// The parts of a [`ConvNorm`]. As in torchvision's `Conv2dNormActivation`, the padding keeps the size of
/// the map at stride 1, the activation is ReLU, and the children are called `0`, `1` and `2`.
///
/// ```
/// use candle_vision_models::layers::ConvNormOptions;
/// use candle_vision_ops::{Activation, Padding2d};
///
/// let stem = ConvNormOptions::new(3, 64, 7).stride(2).names("conv1", "bn1", "relu");
/// assert_eq!(stem.conv.config.padding, Padding2d::from(3));
/// let project = ConvNormOptions::new(192, 32, 1).eps(1e-3).activation(Activation::Identity);
/// assert_eq!(project.norm.eps, 1e-3);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConvNormOptions {
    /// The convolution, without a bias. Its kernel begins as torchvision's residual networks begin theirs
    /// (He et al. 2015, <https://arxiv.org/abs/1502.01852>, by the fan out).
    pub conv: Conv2dOptions,
    /// The batch norm.
    pub norm: BatchNorm2dOptions,
    /// What comes last.
    pub activation: Activation,
    /// The names of the convolution, the batch norm and the activation.
    pub names: [String; 3],
}

impl ConvNormOptions {
    /// A kernel with an odd number of pixels, `kernel`, a side, or `[height, width]`.
    pub fn new(in_channels: usize, out_channels: usize, kernel: impl PerAxis) -> Self {
        let [height, width] = kernel.per_axis();
        let conv = Conv2dOptions::new(in_channels, out_channels, [height, width]);
        let init = Init::fan_out_normal(out_channels * height * width);
        Self {
            conv: conv.padding([height / 2, width / 2]).bias(false).init(init),
            norm: BatchNorm2dOptions::new(out_channels),
            activation: Activation::Relu,
            names: ["0", "1", "2"].map(str::to_owned),
        }
    }

    /// Sets the pixels between two positions of the kernel.
    pub fn stride(self, stride: impl PerAxis) -> Self {
        Self { conv: self.conv.stride(stride), ..self }
    }

    /// Sets the zeros around the input, as [`Conv2dOptions::padding`].
    pub fn padding(self, padding: impl Into<Padding2d>) -> Self {
        Self { conv: self.conv.padding(padding), ..self }
    }

    /// Sets the pixels between two elements of the kernel, and the padding that keeps the map's size.
    pub fn dilation(self, dilation: impl PerAxis) -> Self {
        let dilation = dilation.per_axis();
        let padding = [0, 1].map(|axis| self.conv.kernel[axis] / 2 * dilation[axis]);
        Self { conv: self.conv.dilation(dilation).padding(padding), ..self }
    }

    /// Sets into how many groups the channels are split.
    pub fn groups(self, groups: usize) -> Self {
        Self { conv: self.conv.groups(groups), ..self }
    }

    /// Sets what the kernel begins with.
    pub fn init(self, init: Init) -> Self {
        Self { conv: self.conv.init(init), ..self }
    }

    /// Sets what batch norm adds to the variance.
    pub fn eps(self, eps: f64) -> Self {
        Self { norm: self.norm.eps(eps), ..self }
    }

    /// Sets the share of a batch in the new running statistics.
    pub fn momentum(self, momentum: f64) -> Self {
        Self { norm: self.norm.momentum(momentum), ..self }
    }

    /// Sets what comes last.
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Sets the names of the convolution, the batch norm and the activation.
    pub fn names(self, conv: &str, norm: &str, activation: &str) -> Self {
        Self { names: [conv, norm, activation].map(str::to_owned), ..self }
    }
}

/// [`Conv2d`] without a bias, [`BatchNorm2d`] and an activation: torchvision's `Conv2dNormActivation`.
///
/// The three run as one op where no hook wants to see what is between them.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Result, Tensor};
/// use candle_vision_models::layers::{ConvNorm, ConvNormOptions};
/// use candle_vision_models::{Parameters, Pass};
///
/// let parameters = Parameters::new();
/// let vb = parameters.builder(0, DType::F32, &Device::Cpu);
/// let layer = ConvNorm::new(ConvNormOptions::new(3, 16, 3).stride(2), vb.pp("features.0"))?;
/// assert!(parameters.get("features.0.1.running_mean").is_some());
/// let x = Tensor::ones((1, 8, 8, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&x, &mut Pass::eval())?.dims(), [1, 4, 4, 16]);
/// # Ok::<(), candle_vision_models::candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConvNorm {
    conv: Conv2d,
    bn: BatchNorm2d,
    /// With its path.
    activation: Option<(Activation, String)>,
}

impl ConvNorm {
    /// The layers under `vb`, by the names that the options give them.
    ///
    /// # Errors
    /// If the channels cannot be split into the groups, or a name is taken.
    pub fn new(options: ConvNormOptions, vb: ParameterBuilder) -> Result<Self> {
        let [conv, norm, activation] = options.names;
        let layer = Self::of(
            Conv2d::new(options.conv, vb.pp(conv))?,
            BatchNorm2d::new(options.norm, vb.pp(norm))?,
        )?;
        Ok(layer.activated(options.activation, vb.pp(activation)))
    }

    /// `bn` normalises the channels that `conv`, which has no bias, gives.
    ///
    /// # Errors
    /// If `conv` has a bias.
    pub fn of(conv: Conv2d, bn: BatchNorm2d) -> Result<Self> {
        if conv.has_bias() {
            candle_core::bail!(
                "`{}` has a bias, which the batch norm `{}` would take off again; build it without",
                conv.path(),
                bn.path()
            )
        }
        Ok(Self { conv, bn, activation: None })
    }

    /// As [`Self::of`], for published networks whose convolutions have a bias all the same (torchvision's VGG). A
    /// training pass does not fuse the two then: batch norm takes the bias off again, but the running mean holds it,
    /// and weight decay moves it.
    pub(crate) fn of_biased(conv: Conv2d, bn: BatchNorm2d) -> Self {
        Self { conv, bn, activation: None }
    }

    /// The same layers with `activation` behind them, at the path of `vb`.
    pub fn activated(self, activation: Activation, vb: ParameterBuilder) -> Self {
        let activation =
            (activation != Activation::Identity).then(|| (activation, vb.path().to_owned()));
        Self { activation, ..self }
    }

    /// `[batch, height, width, in]` to `[batch, out_height, out_width, out]`.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.forward_then(x, None, pass)
    }

    /// The same with `residual`, of the output's shape, added before the activation.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_residual(
        &self,
        x: &Tensor,
        residual: &Tensor,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        self.forward_then(x, Some(residual), pass)
    }

    fn forward_then(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let activation = self.activation.as_ref();
        let then = Then { residual, activation: activation.map(|(kind, path)| (*kind, &**path)) };
        if pass.wants(self.conv.path()) || pass.wants(self.bn.path()) || then.wants_input(pass) {
            return self.bn.forward_then(&self.conv.forward(x, pass)?, then, pass);
        }
        // A hook may have made a leaf of the residual alone: its gradient must not be cut.
        let residual_is_tracked = then.residual.is_some_and(Tensor::track_op);
        let prepared = self.conv.prepared_for(x, pass);
        let y = match prepared {
            // In training the batch norm may change at every step.
            Some(prepared) if !residual_is_tracked && !pass.is_train() => {
                let conv = self.conv.prepared_with(prepared, &self.bn, pass)?;
                conv.forward(&pass.cast(x)?, then.residual, then.activation())
                    .map_err(|error| error.context(format!("layer `{}`", self.conv.path())))?
            }
            None if self.bn.uses_batch_statistics(pass) && !self.conv.has_bias() => {
                self.bn.forward_behind(&self.conv, x, then, pass)?
            }
            _ => return self.bn.forward_then(&self.conv.forward(x, pass)?, then, pass),
        };
        then.output(y, pass)
    }
}
