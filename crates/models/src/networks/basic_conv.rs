//! The convolution of GoogLeNet and Inception v3, and blocks of branches of it.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, PerAxis, cat};

use crate::layers::{AvgPool2d, ConvNorm, ConvNormOptions, MaxPool2d};
use crate::{Init, ParameterBuilder, Pass};

/// torchvision's `BasicConv2d`: a convolution `conv`, its batch norm `bn`, and ReLU.
pub(super) struct BasicConv {
    path: String,
    layers: ConvNorm,
}

impl BasicConv {
    pub(super) fn new(options: ConvNormOptions, vb: ParameterBuilder) -> Result<Self> {
        let options = options.eps(1e-3).activation(Activation::Relu).names("conv", "bn", "relu");
        Ok(Self { path: vb.path().to_owned(), layers: ConvNorm::new(options, vb)? })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = self.layers.forward(&x, pass)?;
        pass.output(&self.path, y)
    }
}

/// Convolutions whose kernels begin with a truncated normal distribution, as both networks' do.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// Its standard deviation.
    pub(super) std: f64,
}

impl Kernels {
    /// A kernel that keeps the size of the map.
    pub(super) fn conv(self, from: usize, to: usize, kernel: impl PerAxis) -> ConvNormOptions {
        ConvNormOptions::new(from, to, kernel).init(Init::truncated_normal(self.std))
    }
}

/// A pool at the beginning of a branch.
pub(super) enum Pool {
    Max(MaxPool2d),
    Average(AvgPool2d),
}

impl Pool {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match self {
            Self::Max(pool) => pool.forward(x, pass),
            Self::Average(pool) => pool.forward(x, pass),
        }
    }
}

/// A way through a block: a pool if there is one, then convolutions one after the other, then those that lie side by
/// side.
#[derive(Default)]
pub(super) struct Branch {
    pub(super) pool: Option<Pool>,
    pub(super) convs: Vec<BasicConv>,
    pub(super) fork: Vec<BasicConv>,
}

impl Branch {
    /// Adds what comes out to `outputs`.
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>, outputs: &mut Vec<Tensor>) -> Result<()> {
        let mut x = match &self.pool {
            Some(pool) => pool.forward(x, pass)?,
            None => x.clone(),
        };
        for conv in &self.convs {
            x = conv.forward(&x, pass)?;
        }
        for conv in &self.fork {
            outputs.push(conv.forward(&x, pass)?);
        }
        if self.fork.is_empty() {
            outputs.push(x);
        }
        Ok(())
    }
}

/// Branches of one input, whose outputs lie side by side in the channels.
pub(super) struct Branches {
    path: String,
    branches: Vec<Branch>,
}

impl Branches {
    pub(super) fn new(branches: Vec<Branch>, vb: &ParameterBuilder) -> Self {
        Self { path: vb.path().to_owned(), branches }
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let mut outputs = Vec::new();
        for branch in &self.branches {
            branch.forward(&x, pass, &mut outputs)?;
        }
        pass.output(&self.path, cat(&outputs, 3)?)
    }
}
