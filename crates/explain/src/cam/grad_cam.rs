//! Grad-CAM (Selvaraju et al. 2017, <https://arxiv.org/abs/1610.02391>).

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_models::Model;
use candle_vision_ops::mean;

use crate::cam::maps_by_weights;
use crate::{CamOptions, ClassActivationMap, Method, Result};

impl Method {
    /// Grad-CAM (Selvaraju et al. 2017): channels weighted by the mean of their gradient.
    pub const GRAD_CAM: Self = Self::weighted(
        "gradcam",
        "Grad-CAM (Selvaraju et al. 2017): channels weighted by the mean of their gradient",
        weights,
    );
}

/// Grad-CAM of every image of a batch: where the evidence for its class lies.
///
/// Each channel of the layer's output is weighted by the mean of the class score's gradient over that channel
/// (equations 1 and 2 of the paper). The weighted channels are added up, and negative sums are dropped. The map
/// is then scaled to `0..=1` and resized to the input, as pytorch-grad-cam does.
///
/// The class score is the logit, before softmax. The network runs in evaluation mode and is left unchanged.
///
/// # Shapes
/// - `images`: `[batch, channels, height, width]`, preprocessed as in training
/// - returns one map of `height * width` for each image, in order
///
/// # Errors
/// If the network has no spatial maps and no layer is named, the layer is unknown, its output does not have
/// rank 4, the class is out of range, the logits are not finite, or the images do not fit the network.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, Target, grad_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("simple_cnn", 10), 0, &Device::Cpu)?;
/// let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let options = CamOptions {
///     layer: Some("conv2".into()),
///     target: Target::Class(3),
///     ..CamOptions::default()
/// };
/// let maps = grad_cam(model.as_ref(), &images, &options)?;
/// assert_eq!(maps.len(), 2);
/// assert_eq!(maps[1].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn grad_cam(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by_weights(model, images, options, weights)
}

/// The mean of the gradient over a channel.
fn weights(_: &Tensor, gradients: &Tensor) -> TensorResult<Tensor> {
    mean(gradients, &[1], true)
}
