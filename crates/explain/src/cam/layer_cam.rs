//! LayerCAM (Jiang et al. 2021, <https://ieeexplore.ieee.org/document/9462463>).

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_models::Model;
use candle_vision_ops::relu;

use crate::cam::maps_by_weights;
use crate::{CamOptions, ClassActivationMap, Method, Result};

impl Method {
    /// LayerCAM (Jiang et al. 2021): positive gradients place by place, also for early layers.
    pub const LAYER_CAM: Self = Self::weighted(
        "layercam",
        "LayerCAM (Jiang et al. 2021): positive gradients place by place, also for early layers",
        weights,
    );
}

/// LayerCAM of every image of a batch. Each place of each channel is weighted by its own gradient if that
/// gradient is positive, and by 0 otherwise.
///
/// The method also suits earlier layers, whose finer maps follow outlines.
///
/// Shapes and errors are those of [`grad_cam`](crate::grad_cam).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, layer_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = layer_cam(model.as_ref(), &images, &CamOptions::default())?;
/// assert_eq!(maps[0].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn layer_cam(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by_weights(model, images, options, weights)
}

fn weights(_: &Tensor, gradients: &Tensor) -> TensorResult<Tensor> {
    relu(gradients)
}
