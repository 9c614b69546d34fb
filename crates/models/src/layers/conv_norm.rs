//! A convolution and the batch norm behind it, in as few ops as a pass allows.

use candle_core::{Result, Tensor};
use candle_vision_ops::Conv2dConfig;

use super::{Activate, BatchNorm2d, Conv2d};
use crate::{Init, ParameterBuilder, Pass};

/// A square kernel, padded so that stride 1 keeps the size of the map.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Height and width; odd.
    pub size: usize,
    /// Pixels between two positions.
    pub stride: usize,
    /// See [`Conv2dConfig::groups`].
    pub groups: usize,
}

impl Kernel {
    /// 1x1.
    pub const ONE: Self = Self { size: 1, stride: 1, groups: 1 };
    /// 3x3.
    pub const THREE: Self = Self { size: 3, stride: 1, groups: 1 };

    /// Sets the stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Sets the number of groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
}

/// [`Conv2d`] without a bias, [`BatchNorm2d`], and what follows them.
#[derive(Debug, Clone)]
pub struct ConvNorm {
    conv: Conv2d,
    bn: BatchNorm2d,
}

impl ConvNorm {
    /// Both layers, the kernel drawn as torchvision's residual networks do (He et al. 2015,
    /// <https://arxiv.org/abs/1502.01852>, by the fan out).
    ///
    /// # Errors
    /// If the channels cannot be split into the groups, or a name is taken.
    pub fn new(
        from: usize,
        to: usize,
        kernel: Kernel,
        vb_conv: ParameterBuilder,
        vb_bn: ParameterBuilder,
    ) -> Result<Self> {
        let Kernel { size, stride, groups } = kernel;
        let config = Conv2dConfig::default().stride(stride).padding(size / 2).groups(groups);
        let init = Init::fan_out_normal(to * size * size);
        let conv = Conv2d::without_bias(from, to, [size, size], config, init, &vb_conv)?;
        Ok(Self::of(conv, BatchNorm2d::new(to, vb_bn)?))
    }

    /// `bn` normalises the channels that `conv`, which has no bias, gives.
    pub fn of(conv: Conv2d, bn: BatchNorm2d) -> Self {
        Self { conv, bn }
    }

    /// `[batch, height, width, in]` to `[batch, out_height, out_width, out]`, then what `then` says.
    ///
    /// # Errors
    /// As those of the two layers.
    pub fn forward(&self, x: &Tensor, then: Activate<'_>, pass: &mut Pass<'_>) -> Result<Tensor> {
        if pass.wants(self.conv.path()) || pass.wants(self.bn.path()) || then.wants_input(pass) {
            return self.bn.forward(&self.conv.forward(x, pass)?, then, pass);
        }
        // A hook may have made a leaf of the residual alone: its gradient must not be cut.
        let residual_is_tracked = then.residual.is_some_and(Tensor::track_op);
        let prepared = self.conv.prepared_for(x, pass);
        let y = match prepared {
            // In training the batch norm may change at every step.
            Some(prepared) if !residual_is_tracked && !pass.is_train() => {
                let conv = self.conv.prepared_with(prepared, &self.bn)?;
                conv.forward(x, then.residual, then.activation())
                    .map_err(|error| error.context(format!("layer `{}`", self.conv.path())))?
            }
            None if self.bn.uses_batch_statistics(pass) => {
                self.bn.forward_behind(&self.conv, x, then, pass)?
            }
            _ => return self.bn.forward(&self.conv.forward(x, pass)?, then, pass),
        };
        then.output(y, pass)
    }
}
