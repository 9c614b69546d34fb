//! Residual blocks and the stages they make up.

use candle_core::{Result, Tensor};

use crate::layers::{Activate, ConvNorm, Kernel};
use crate::{ParameterBuilder, Pass};

/// How a residual block is built from its number of planes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
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

impl Shape {
    /// ResNet50's and deeper ones' block.
    pub(super) const BOTTLENECK: Self = Self::Bottleneck { groups: 1, width_per_group: 64 };

    /// Channels that come out of a block.
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
    /// Every convolution with the path of the ReLU behind it.
    body: Vec<(ConvNorm, String)>,
    downsample: Option<ConvNorm>,
}

impl Block {
    fn new(
        shape: Shape,
        from: usize,
        planes: usize,
        stride: usize,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let to = shape.out_channels(planes);
        let convs = match shape {
            Shape::Basic => {
                vec![(from, planes, Kernel::THREE.stride(stride)), (planes, to, Kernel::THREE)]
            }
            Shape::Bottleneck { groups, width_per_group } => {
                let width = planes * width_per_group / 64 * groups;
                // torchvision strides in the 3x3 convolution, not in the first 1x1 (ResNet v1.5).
                let middle = Kernel::THREE.stride(stride).groups(groups);
                vec![(from, width, Kernel::ONE), (width, width, middle), (width, to, Kernel::ONE)]
            }
        };
        let body = convs.into_iter().enumerate().map(|(i, (from, to, kernel))| {
            let number = i + 1;
            let (conv, bn) = (format!("conv{number}"), format!("bn{number}"));
            let conv = ConvNorm::new(from, to, kernel, vb.pp(conv), vb.pp(bn))?;
            Ok((conv, format!("{}.relu{number}", vb.path())))
        });
        let body = body.collect::<Result<_>>()?;
        let downsample = if stride != 1 || from != to {
            let vb = vb.pp("downsample");
            Some(ConvNorm::new(from, to, Kernel::ONE.stride(stride), vb.pp(0), vb.pp(1))?)
        } else {
            None
        };
        Ok(Self { path: vb.path().to_owned(), body, downsample })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let Some(((last, last_relu), first)) = self.body.split_last() else {
            return Ok(x.clone());
        };
        let x = &pass.input(&self.path, x)?;
        let mut y = x.clone();
        for (conv, relu) in first {
            y = conv.forward(&y, Activate::relu(relu), pass)?;
        }
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(x, Activate::default(), pass)?,
            None => x.clone(),
        };
        let y = last.forward(&y, Activate::relu(last_relu).residual(&shortcut), pass)?;
        pass.output(&self.path, y)
    }
}

/// Blocks of one width; the first may halve the map.
pub(super) struct Stage {
    path: &'static str,
    blocks: Vec<Block>,
}

impl Stage {
    pub(super) fn new(
        path: &'static str,
        shape: Shape,
        from: usize,
        planes: usize,
        blocks: usize,
        stride: usize,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        let vb = vb.pp(path);
        let block = |i| {
            let first = i == 0;
            let from = if first { from } else { shape.out_channels(planes) };
            Block::new(shape, from, planes, if first { stride } else { 1 }, vb.pp(i))
        };
        Ok(Self { path, blocks: (0..blocks).map(block).collect::<Result<_>>()? })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = pass.input(self.path, x)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        pass.output(self.path, x)
    }
}
