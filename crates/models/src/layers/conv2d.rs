//! Two-dimensional convolution with its kernel.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_vision_ops::{
    Activation, BatchNormConstants, Conv2dConfig, Padding2d, PerAxis, PreparedConv2d,
    conv2d_activated,
};

use super::BatchNorm2d;
use super::activations::activate_at;
use crate::prepared::{Form, PreparedLayers};
use crate::{Init, Parameter, ParameterBuilder, Pass};

/// The sizes of a [`Conv2d`] and how its kernel moves; the defaults are PyTorch's.
///
/// ```
/// use candle_vision_models::layers::Conv2dOptions;
///
/// let depthwise = Conv2dOptions::new(32, 32, 3).padding(1).groups(32).bias(false);
/// assert_eq!(depthwise.kernel, [3, 3]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Conv2dOptions {
    /// Channels that come in.
    pub in_channels: usize,
    /// Channels that go out.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Stride, padding, dilation and groups. By default the kernel moves by one pixel, without padding.
    pub config: Conv2dConfig,
    /// Whether a learned number is added to each channel. Default `true`.
    pub bias: bool,
    /// What the kernel begins with; PyTorch's default ([`Init::fan_in_uniform`]) if `None`.
    pub init: Option<Init>,
    /// What the bias begins with; PyTorch's default, that of the kernel, if `None`.
    pub bias_init: Option<Init>,
}

impl Conv2dOptions {
    /// A kernel of `kernel` pixels a side, or of `[height, width]`, with PyTorch's defaults.
    pub fn new(in_channels: usize, out_channels: usize, kernel: impl PerAxis) -> Self {
        let (kernel, config) = (kernel.per_axis(), Conv2dConfig::default());
        let (bias, init, bias_init) = (true, None, None);
        Self { in_channels, out_channels, kernel, config, bias, init, bias_init }
    }

    /// Sets the pixels between two positions of the kernel, of both axes or `[height, width]`.
    pub fn stride(self, stride: impl PerAxis) -> Self {
        Self { config: self.config.stride(stride), ..self }
    }

    /// Sets the zeros around the input: on all four sides, `[height, width]`, `[top, bottom, left, right]`,
    /// or a [`Padding2d`] such as TensorFlow's.
    pub fn padding(self, padding: impl Into<Padding2d>) -> Self {
        Self { config: self.config.padding(padding), ..self }
    }

    /// Sets the pixels between two elements of the kernel.
    pub fn dilation(self, dilation: impl PerAxis) -> Self {
        Self { config: self.config.dilation(dilation), ..self }
    }

    /// Sets into how many groups the channels are split.
    pub fn groups(self, groups: usize) -> Self {
        Self { config: self.config.groups(groups), ..self }
    }

    /// Sets stride, padding, dilation and groups at once, also for each axis by itself.
    pub fn config(self, config: Conv2dConfig) -> Self {
        Self { config, ..self }
    }

    /// Sets whether there is a bias.
    pub fn bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Sets what the kernel begins with.
    pub fn init(self, init: Init) -> Self {
        Self { init: Some(init), ..self }
    }

    /// Sets what the bias begins with.
    pub fn bias_init(self, init: Init) -> Self {
        Self { bias_init: Some(init), ..self }
    }

    /// Inputs that reach one output.
    fn fan_in(&self) -> usize {
        self.in_channels / self.config.groups.max(1) * self.kernel[0] * self.kernel[1]
    }
}

/// `torch.nn.Conv2d`: parameters `weight` `[out, in / groups, height, width]` and `bias` `[out]`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Result, Tensor};
/// use candle_vision_models::layers::{Conv2d, Conv2dOptions};
/// use candle_vision_models::{Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let conv = Conv2d::new(Conv2dOptions::new(3, 64, 7).stride(2).padding(3), vb.pp("conv1"))?;
/// let x = Tensor::zeros((1, 32, 32, 3), DType::F32, &Device::Cpu)?;
/// assert_eq!(conv.forward(&x, &mut Pass::eval())?.dims(), [1, 16, 16, 64]);
/// # Ok::<(), candle_vision_models::candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Conv2d {
    path: String,
    weight: Parameter,
    bias: Option<Parameter>,
    config: Conv2dConfig,
}

impl Conv2d {
    /// A convolution with new parameters.
    ///
    /// # Errors
    /// If the channels cannot be split into the groups, or a name is taken.
    pub fn new(options: Conv2dOptions, vb: ParameterBuilder) -> Result<Self> {
        let Conv2dOptions { in_channels, out_channels, kernel, config, bias, init, bias_init } =
            options;
        let groups = config.groups;
        if groups == 0 || [in_channels, out_channels].iter().any(|n| !n.is_multiple_of(groups)) {
            candle_core::bail!(
                "`{}`: {in_channels} and {out_channels} channels cannot be split into {groups} groups",
                vb.path()
            )
        }
        let default = Init::fan_in_uniform(options.fan_in());
        let of_bias = bias_init.unwrap_or(default);
        let shape = [out_channels, in_channels / groups, kernel[0], kernel[1]];
        Ok(Self {
            weight: vb.weight("weight", &shape, init.unwrap_or(default))?,
            bias: bias.then(|| vb.weight("bias", &[out_channels], of_bias)).transpose()?,
            path: vb.path().to_owned(),
            config,
        })
    }

    /// `[batch, height, width, in]` to `[batch, out_height, out_width, out]`.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = self.convolve(&x, Activation::Identity, pass)?;
        pass.output(&self.path, y)
    }

    /// The same with an activation behind it, which has a path of its own; in one op unless a hook wants
    /// to see what is between.
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
        if pass.wants(&self.path) || pass.wants(path) {
            return activate_at(activation, path, &self.forward(x, pass)?, pass);
        }
        self.convolve(x, activation, pass)
    }

    fn convolve(&self, x: &Tensor, activation: Activation, pass: &Pass<'_>) -> Result<Tensor> {
        let x = &pass.cast(x)?;
        let y = match self.prepared_for(x, pass) {
            Some(prepared) => prepared
                .convolution(&self.weight, Form::Alone, pass.product_dtype(&self.weight), || {
                    let bias = self.bias.as_ref().map(Parameter::detached);
                    PreparedConv2d::new(&self.weight.detached(), bias.as_ref(), &self.config)
                })?
                .forward(x, None, activation),
            None => {
                let weight = pass.kernel(&self.weight)?;
                let bias = self.bias.as_ref().map(|bias| bias.in_product(pass)).transpose()?;
                conv2d_activated(x, &weight, bias.as_ref(), activation, &self.config)
            }
        };
        y.map_err(|error| error.context(format!("layer `{}`", self.path)))
    }

    /// Where this convolution of `x` may be kept ready.
    pub(super) fn prepared_for<'p>(
        &self,
        x: &Tensor,
        pass: &Pass<'p>,
    ) -> Option<&'p PreparedLayers> {
        let learns = |parameter: &Parameter| parameter.is_trainable();
        let frozen = !learns(&self.weight) && !self.bias.as_ref().is_some_and(learns);
        pass.prepared(x, frozen)
    }

    /// This convolution with `bn` folded in.
    pub(super) fn prepared_with(
        &self,
        prepared: &PreparedLayers,
        bn: &BatchNorm2d,
        pass: &Pass<'_>,
    ) -> Result<Arc<PreparedConv2d>> {
        let dtype = pass.product_dtype(&self.weight);
        prepared.convolution(&self.weight, Form::Folded(bn.id()), dtype, || {
            bn.with_constants(|norm| {
                // The norm takes its mean off what the bias has been added to.
                let mean = match &self.bias {
                    Some(bias) => (norm.mean - bias.detached())?,
                    None => norm.mean.clone(),
                };
                let norm = BatchNormConstants { mean: &mean, ..*norm };
                PreparedConv2d::with_batch_norm(&self.weight.detached(), &norm, &self.config)
            })
        })
    }

    /// The kernel as it enters the graph of `pass`, and how it moves.
    pub(super) fn kernel(&self, pass: &Pass<'_>) -> Result<(Tensor, &Conv2dConfig)> {
        Ok((pass.kernel(&self.weight)?, &self.config))
    }

    /// Whether a bias is added, which a batch norm behind the convolution would take off again.
    pub(super) fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// Where the layer stands in its network.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}
