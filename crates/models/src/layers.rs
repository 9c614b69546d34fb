//! Layers: parameters, a path, and an op. Feature maps are `[batch, height, width, channels]`.
//!
//! Every layer is made in the same way: `Layer::new(options, vb)`, where `options` holds the sizes that
//! the layer must know and has a method for everything that has a default, and `vb` gives the layer its
//! path and its parameters. A layer without options takes `vb` alone.
//!
//! | layer | PyTorch's name |
//! |---|---|
//! | [`Conv2d`], [`Linear`] | `nn.Conv2d`, `nn.Linear` |
//! | [`BatchNorm2d`], [`LayerNorm`] | `nn.BatchNorm2d`, `nn.LayerNorm` |
//! | [`ConvNorm`] | torchvision's `Conv2dNormActivation` |
//! | [`MaxPool2d`], [`AvgPool2d`], [`AdaptiveAvgPool2d`] | the same names |
//! | [`GlobalAvgPool`] | `nn.AdaptiveAvgPool2d(1)` and `nn.Flatten` |
//! | [`Relu`], [`Relu6`], [`Sigmoid`], [`Tanh`], [`Silu`], [`Gelu`], [`Hardswish`], ... | `nn.ReLU` and so on |
//! | [`Activate`] | any activation function, with its setting: `nn.LeakyReLU`, `nn.ELU` |
//! | [`Dropout`], [`StochasticDepth`] | `nn.Dropout`, torchvision's `StochasticDepth` |
//! | [`SqueezeExcitation`] | torchvision's `SqueezeExcitation` |
//! | [`MultiheadAttention`] | `nn.MultiheadAttention`, timm's `Attention` |
//! | [`MlpBlock`] | torchvision's `MLPBlock`, timm's `Mlp` |
//!
//! ```
//! use candle_vision_models::candle_core::{DType, Device, Result, Tensor};
//! use candle_vision_models::layers::{Conv2d, Conv2dOptions, GlobalAvgPool, Linear, Relu};
//! use candle_vision_models::{Parameters, Pass};
//!
//! let parameters = Parameters::new();
//! let vb = parameters.builder(0, DType::F32, &Device::Cpu);
//! let conv = Conv2d::new(Conv2dOptions::new(3, 8, 3).stride(2).padding(1), vb.pp("conv1"))?;
//! let (relu, pool) = (Relu::new(vb.pp("relu")), GlobalAvgPool::new(vb.pp("avgpool")));
//! let fc = Linear::new((8, 10), vb.pp("fc"))?;
//!
//! let pass = &mut Pass::eval();
//! let x = Tensor::zeros((1, 32, 32, 3), DType::F32, &Device::Cpu)?;
//! let x = relu.forward(&conv.forward(&x, pass)?, pass)?;
//! let logits = fc.logits(&pool.forward(&x, pass)?, pass)?;
//! assert_eq!(logits.dims(), [1, 10]);
//! # Ok::<(), candle_vision_models::candle_core::Error>(())
//! ```

mod activations;
mod batch_norm2d;
mod conv2d;
mod conv_norm;
mod dropout;
mod layer_norm;
mod linear;
mod mlp_block;
mod multihead_attention;
mod pools;
mod squeeze_excitation;
mod stochastic_depth;

pub use activations::{
    Activate, Gelu, Hardsigmoid, Hardswish, Mish, Relu, Relu6, Sigmoid, Silu, Softplus, Tanh,
};
pub use batch_norm2d::{BatchNorm2d, BatchNorm2dOptions};
pub use conv_norm::{ConvNorm, ConvNormOptions};
pub use conv2d::{Conv2d, Conv2dOptions};
pub use dropout::Dropout;
pub use layer_norm::{LayerNorm, LayerNormOptions};
pub use linear::{Linear, LinearOptions};
pub use mlp_block::{MlpBlock, MlpBlockOptions};
pub(crate) use multihead_attention::products_of_attention;
pub use multihead_attention::{AttentionNames, MultiheadAttention, MultiheadAttentionOptions};
pub use pools::{AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool, MaxPool2d};
pub use squeeze_excitation::{SqueezeExcitation, SqueezeExcitationOptions};
pub use stochastic_depth::StochasticDepth;

use candle_core::{Result, Tensor};
pub use candle_vision_ops::flatten;
use candle_vision_ops::{channels_first, channels_last};

use crate::Pass;

#[cfg(test)]
mod tests;

/// Images as a network takes them, `[batch, channels, height, width]`, in the layout of the
/// layers; without a copy when they are a view of channels-last memory.
///
/// # Errors
/// If `images` is not of rank 4 or has another number of channels.
pub fn images_to_features(images: &Tensor, channels: usize) -> Result<Tensor> {
    match images.dims() {
        [_, found, _, _] if *found == channels => channels_last(images),
        shape => candle_core::bail!(
            "this network takes images of [batch, {channels}, height, width], got {shape:?}"
        ),
    }
}

/// Feature maps in the layout of the layers, `[batch, height, width, channels]`, as
/// [`Model::forward_features`](crate::Model::forward_features) hands them out: `[batch, channels, height,
/// width]`. It is a view where no gradient is asked for. In training it is a copy, because a view would take
/// `backward` off its fast path.
///
/// # Errors
/// If `maps` is not of rank 4.
pub fn features_to_maps(maps: &Tensor) -> Result<Tensor> {
    if maps.track_op() { channels_first(maps) } else { maps.permute((0, 3, 1, 2)) }
}

/// The reverse of [`features_to_maps`].
///
/// # Errors
/// If `maps` is not of rank 4.
pub fn maps_to_features(maps: &Tensor) -> Result<Tensor> {
    channels_last(maps)
}

/// `op` as the layer at `path`: hooks see its input and its output.
///
/// # Errors
/// What `op` or a hook returns.
pub fn layer_at(
    path: &str,
    x: &Tensor,
    pass: &mut Pass<'_>,
    op: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let x = pass.input(path, x)?;
    pass.output(path, op(&x)?)
}
