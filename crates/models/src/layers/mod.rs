//! Layers: parameters, a path, and an op. Feature maps are `[batch, height, width, channels]`.

mod batch_norm2d;
mod conv2d;
mod conv_norm;
mod dropout;
mod linear;

pub use batch_norm2d::{Activate, BatchNorm2d};
pub use conv_norm::{ConvNorm, Kernel};
pub use conv2d::Conv2d;
pub use dropout::Dropout;
pub use linear::Linear;

use candle_core::{Result, Tensor};
pub use candle_vision_ops::flatten;
use candle_vision_ops::{channels_last, relu};

use crate::Pass;

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

/// The ReLU as a named layer.
///
/// # Errors
/// What a hook returns.
pub fn relu_at(path: &str, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
    layer_at(path, x, pass, relu)
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
