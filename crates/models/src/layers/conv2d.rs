//! Two-dimensional convolution with its kernel.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, Conv2dConfig, PreparedConv2d, conv2d_activated};

use super::{BatchNorm2d, relu_at};
use crate::prepared::{Form, PreparedLayers};
use crate::{Init, Parameter, ParameterBuilder, Pass};

/// `torch.nn.Conv2d`: parameters `weight` `[out, in / groups, height, width]` and `bias` `[out]`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    path: String,
    weight: Parameter,
    bias: Option<Parameter>,
    config: Conv2dConfig,
}

impl Conv2d {
    /// A convolution with a bias and PyTorch's default initial values.
    ///
    /// # Errors
    /// If the channels cannot be split into the groups, or a name is taken.
    pub fn new(
        in_channels: usize,
        out_channels: usize,
        kernel: [usize; 2],
        config: Conv2dConfig,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let fan_in = in_channels / config.groups.max(1) * kernel[0] * kernel[1];
        let init = Init::fan_in_uniform(fan_in);
        let mut layer = Self::without_bias(in_channels, out_channels, kernel, config, init, &vb)?;
        layer.bias = Some(vb.weight("bias", &[out_channels], init)?);
        Ok(layer)
    }

    /// A convolution without bias, as in front of a batch norm.
    ///
    /// # Errors
    /// If the channels cannot be split into the groups, or a name is taken.
    pub fn without_bias(
        in_channels: usize,
        out_channels: usize,
        kernel: [usize; 2],
        config: Conv2dConfig,
        init: Init,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        let groups = config.groups;
        if groups == 0 || [in_channels, out_channels].iter().any(|n| !n.is_multiple_of(groups)) {
            candle_core::bail!(
                "`{}`: {in_channels} and {out_channels} channels cannot be split into {groups} groups",
                vb.path()
            )
        }
        let shape = [out_channels, in_channels / groups, kernel[0], kernel[1]];
        let weight = vb.weight("weight", &shape, init)?;
        Ok(Self { path: vb.path().to_owned(), weight, bias: None, config })
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

    /// The same with a ReLU behind it, which has a path of its own; in one op unless a hook wants
    /// to see what is between.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_relu(&self, x: &Tensor, relu_path: &str, pass: &mut Pass<'_>) -> Result<Tensor> {
        if pass.wants(&self.path) || pass.wants(relu_path) {
            return relu_at(relu_path, &self.forward(x, pass)?, pass);
        }
        self.convolve(x, Activation::Relu, pass)
    }

    fn convolve(&self, x: &Tensor, activation: Activation, pass: &Pass<'_>) -> Result<Tensor> {
        let x = &pass.cast(x)?;
        let weight = self.weight.in_product(pass)?;
        let bias = self.bias.as_ref().map(|bias| bias.in_product(pass)).transpose()?;
        let y = match self.prepared_for(x, pass) {
            Some(prepared) => prepared
                .convolution(&self.weight, Form::Alone, || {
                    PreparedConv2d::new(&weight, bias.as_ref(), &self.config)
                })?
                .forward(x, None, activation),
            None => conv2d_activated(x, &weight, bias.as_ref(), activation, &self.config),
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
    ) -> Result<Arc<PreparedConv2d>> {
        prepared.convolution(&self.weight, Form::Folded(bn.id()), || {
            bn.with_constants(|norm| {
                PreparedConv2d::with_batch_norm(&self.weight.detached(), norm, &self.config)
            })
        })
    }

    /// The kernel as it enters the graph of `pass`, and how it moves.
    pub(super) fn kernel(&self, pass: &Pass<'_>) -> Result<(Tensor, &Conv2dConfig)> {
        Ok((self.weight.in_product(pass)?, &self.config))
    }

    /// Where the layer stands in its network.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}
