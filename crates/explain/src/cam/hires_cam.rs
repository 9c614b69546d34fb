//! HiResCAM (Draelos and Carin 2020, <https://arxiv.org/abs/2011.08891>).

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_models::Model;

use crate::cam::maps_by_weights;
use crate::{CamOptions, ClassActivationMap, Method, Result};

impl Method {
    /// HiResCAM (Draelos and Carin 2020): activations times gradients, place by place.
    pub const HIRES_CAM: Self = Self::weighted(
        "hirescam",
        "HiResCAM (Draelos and Carin 2020): activations times gradients, place by place",
        weights,
    );
}

/// HiResCAM of every image of a batch: gradient times activation at each place, summed over the channels.
///
/// If the rest of the network is one linear layer, the map holds exactly what each place adds to the score.
/// With global average pooling before that layer, the map equals Grad-CAM's.
///
/// Shapes and errors are those of [`grad_cam`](crate::grad_cam).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, hires_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = hires_cam(model.as_ref(), &images, &CamOptions::default())?;
/// assert_eq!(maps[0].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn hires_cam(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by_weights(model, images, options, weights)
}

fn weights(_: &Tensor, gradients: &Tensor) -> TensorResult<Tensor> {
    Ok(gradients.clone())
}
