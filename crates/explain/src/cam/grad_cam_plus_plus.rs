//! Grad-CAM++ (Chattopadhyay et al. 2018, <https://arxiv.org/abs/1710.11063>).

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_models::Model;
use candle_vision_ops::{mul, relu, sum};

use crate::cam::maps_by_weights;
use crate::{CamOptions, ClassActivationMap, Method, Result};

impl Method {
    /// Grad-CAM++ (Chattopadhyay et al. 2018): positive gradients, so that several objects are found.
    pub const GRAD_CAM_PLUS_PLUS: Self = Self::weighted(
        "gradcam++",
        "Grad-CAM++ (Chattopadhyay et al. 2018): positive gradients, so that several objects are found",
        weights,
    );
}

/// Grad-CAM++ of every image of a batch. It works as Grad-CAM, with other channel weights.
///
/// A place counts more in the weight of its channel if fewer places of the channel share the evidence. So the
/// map finds several small objects of one class.
///
/// The weights are equations 10 and 19 of the paper, with the exponential of the score as the function.
///
/// Shapes and errors are those of [`grad_cam`](crate::grad_cam).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, grad_cam_plus_plus};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = grad_cam_plus_plus(model.as_ref(), &images, &CamOptions::default())?;
/// assert_eq!(maps[0].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn grad_cam_plus_plus(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by_weights(model, images, options, weights)
}

fn weights(activations: &Tensor, gradients: &Tensor) -> TensorResult<Tensor> {
    let square = (gradients * gradients)?;
    let total = sum(activations, &[1], true)?;
    let divisor = ((&square * 2.0)? + mul(&(&square * gradients)?, &total)?)?;
    // The small constant is the one of pytorch-grad-cam. It decides the result where gradients are small.
    let share = (square / (divisor + 1e-6)?)?;
    sum(&(relu(gradients)? * share)?, &[1], true)
}
