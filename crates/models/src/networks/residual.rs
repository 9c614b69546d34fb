//! Residual blocks and the stages they make up.

use candle_core::{Result, Tensor};
use candle_vision_ops::Activation;

use crate::layers::{ConvNorm, ConvNormOptions};
use crate::{ParameterBuilder, Pass};

/// How a residual block is built from its number of planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResNetBlock {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3, 1x1; four times as many channels come out as planes go in.
    Bottleneck {
        /// Groups of the 3x3 convolution.
        groups: usize,
        /// Channels of one group where there are 64 planes.
        width_per_group: usize,
    },
}

impl ResNetBlock {
    /// The block of ResNet-50 and deeper ones.
    pub const BOTTLENECK: Self = Self::Bottleneck { groups: 1, width_per_group: 64 };

    /// Channels that come out where `planes` go in.
    pub(super) fn out_channels(self, planes: usize) -> usize {
        match self {
            Self::Basic => planes,
            Self::Bottleneck { .. } => 4 * planes,
        }
    }
}

/// Convolutions and a shortcut around them.
struct Block {
    path: String,
    body: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

impl Block {
    fn new(
        shape: ResNetBlock,
        from: usize,
        planes: usize,
        stride: usize,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let to = shape.out_channels(planes);
        let conv = ConvNormOptions::new;
        let convs = match shape {
            ResNetBlock::Basic => {
                vec![conv(from, planes, 3).stride(stride), conv(planes, to, 3)]
            }
            ResNetBlock::Bottleneck { groups, width_per_group } => {
                let width = planes * width_per_group / 64 * groups;
                // torchvision strides in the 3x3 convolution, not in the first 1x1 (ResNet v1.5).
                let middle = conv(width, width, 3).stride(stride).groups(groups);
                vec![conv(from, width, 1), middle, conv(width, to, 1)]
            }
        };
        let body = convs.into_iter().enumerate().map(|(i, options)| {
            let [conv, bn, relu] = ["conv", "bn", "relu"].map(|name| format!("{name}{}", i + 1));
            ConvNorm::new(options.names(&conv, &bn, &relu), vb.clone())
        });
        let body = body.collect::<Result<_>>()?;
        let downsample = if stride != 1 || from != to {
            let options = conv(from, to, 1).stride(stride).activation(Activation::Identity);
            Some(ConvNorm::new(options, vb.pp("downsample"))?)
        } else {
            None
        };
        Ok(Self { path: vb.path().to_owned(), body, downsample })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let Some((last, first)) = self.body.split_last() else {
            return Ok(x.clone());
        };
        let x = &pass.input(&self.path, x)?;
        let mut y = x.clone();
        for conv in first {
            y = conv.forward(&y, pass)?;
        }
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(x, pass)?,
            None => x.clone(),
        };
        let y = last.forward_residual(&y, &shortcut, pass)?;
        pass.output(&self.path, y)
    }
}

/// Blocks of one width; the first may halve the map.
pub(super) struct Stage {
    path: String,
    blocks: Vec<Block>,
}

impl Stage {
    pub(super) fn new(
        shape: ResNetBlock,
        from: usize,
        planes: usize,
        blocks: usize,
        stride: usize,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let block = |i| {
            let first = i == 0;
            let from = if first { from } else { shape.out_channels(planes) };
            Block::new(shape, from, planes, if first { stride } else { 1 }, vb.pp(i))
        };
        let blocks = (0..blocks).map(block).collect::<Result<_>>()?;
        Ok(Self { path: vb.path().to_owned(), blocks })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = pass.input(&self.path, x)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        pass.output(&self.path, x)
    }
}
