//! XGrad-CAM (Fu et al. 2020, <https://arxiv.org/abs/2008.02312>).

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_models::Model;
use candle_vision_ops::sum;

use crate::cam::maps_by_weights;
use crate::{CamOptions, ClassActivationMap, Method, Result};

impl Method {
    /// XGrad-CAM (Fu et al. 2020): gradients weighted by the activations.
    pub const XGRAD_CAM: Self = Self::weighted(
        "xgradcam",
        "XGrad-CAM (Fu et al. 2020): gradients weighted by the activations",
        weights,
    );
}

/// XGrad-CAM of every image of a batch. It works as Grad-CAM, but the mean of the gradient over a channel is
/// weighted by the activations. This brings the sum of the map close to the score (equation 11 of the paper).
///
/// Shapes and errors are those of [`grad_cam`](crate::grad_cam).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, xgrad_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = xgrad_cam(model.as_ref(), &images, &CamOptions::default())?;
/// assert_eq!(maps[0].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn xgrad_cam(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by_weights(model, images, options, weights)
}

/// The mean of the gradient over a channel, weighted by the activations.
fn weights(activations: &Tensor, gradients: &Tensor) -> TensorResult<Tensor> {
    // The small constant gives weight 0 to a channel that is 0 everywhere.
    let total = (sum(activations, &[1], true)? + 1e-7)?;
    sum(&(activations * gradients)?, &[1], true)? / total
}
