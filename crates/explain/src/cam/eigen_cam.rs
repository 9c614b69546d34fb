//! EigenCAM (Muhammad and Yeasin 2020, <https://arxiv.org/abs/2008.00299>) and its variant with gradients.

use candle_core::Tensor;
use candle_vision_models::Model;

use crate::cam::maps_by;
use crate::cam::principal::principal_projection;
use crate::{CamOptions, ClassActivationMap, Method, Result};

impl Method {
    /// Eigen-CAM (Muhammad and Yeasin 2020): the principal component of the activations.
    pub const EIGEN_CAM: Self = Self::cam(
        "eigencam",
        "Eigen-CAM (Muhammad and Yeasin 2020): the principal component of the activations",
        eigen_cam,
    );
    /// The principal component of activations times gradients.
    pub const EIGEN_GRAD_CAM: Self = Self::cam(
        "eigengradcam",
        "the principal component of activations times gradients",
        eigen_grad_cam,
    );
}

/// EigenCAM of every image of a batch: the first principal component of the layer's activations.
///
/// The map does not depend on the class. It shows what stands out to the network, and it needs no backward
/// pass.
///
/// The sign of a principal component is arbitrary. Here it is chosen so that places with larger activations are
/// positive.
///
/// Shapes and errors are those of [`grad_cam`](crate::grad_cam).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, eigen_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = eigen_cam(model.as_ref(), &images, &CamOptions::default())?;
/// assert_eq!(maps[0].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn eigen_cam(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by(model, images, options, |evidence| {
        Ok(principal_projection(evidence.activations())?.unsqueeze(1)?)
    })
}

/// EigenCAM of gradient times activation. The gradient makes the map depend on the class.
///
/// Shapes and errors are those of [`grad_cam`](crate::grad_cam).
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{CamOptions, eigen_grad_cam};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let maps = eigen_grad_cam(model.as_ref(), &images, &CamOptions::default())?;
/// assert_eq!(maps[0].map.len(), 32 * 32);
/// # Ok(())
/// # }
/// ```
pub fn eigen_grad_cam(
    model: &dyn Model,
    images: &Tensor,
    options: &CamOptions,
) -> Result<Vec<ClassActivationMap>> {
    maps_by(model, images, options, |evidence| {
        let product = (evidence.gradients()? * evidence.activations())?;
        Ok(principal_projection(&product)?.unsqueeze(1)?)
    })
}
