//! The gradient of the score at the pixels.

use candle_core::Tensor;
use candle_vision_models::{Hooks, Model};

use super::{Attributions, Inquiry};
use crate::{Method, Result, Target};

impl Method {
    /// The gradient at the pixels (Simonyan et al. 2013).
    pub const SALIENCY: Self = Self::pixels(
        "saliency",
        "the gradient at the pixels (Simonyan et al. 2013)",
        |model, images, target| saliency(model, images, target)?.maps(),
    );
    /// The gradient at the pixels times the pixels.
    pub const INPUT_X_GRADIENT: Self = Self::pixels(
        "input-x-gradient",
        "the gradient at the pixels times the pixels",
        |model, images, target| input_x_gradient(model, images, target)?.maps(),
    );
}

/// The gradient of each image's score at its pixels (Simonyan et al. 2013, <https://arxiv.org/abs/1312.6034>).
/// It shows which pixels would change the score fastest.
///
/// # Shapes
/// - `images`: `[batch, channels, height, width]`, preprocessed as in training
/// - the returned values have the same shape
///
/// # Errors
/// If the target does not fit the network, the logits are not finite, or the images do not fit the
/// network.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{Target, saliency};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("mlp", 10), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 1, 28, 28), DType::F32, &Device::Cpu)?;
/// let gradient = saliency(model.as_ref(), &images, &Target::Class(3))?;
/// assert_eq!(gradient.values.dims(), images.dims());
/// assert_eq!(gradient.maps()?[0].map.len(), 28 * 28);
/// # Ok(())
/// # }
/// ```
pub fn saliency(model: &dyn Model, images: &Tensor, target: &Target) -> Result<Attributions> {
    let inquiry = Inquiry::new(model, images, target)?;
    let gradient = inquiry.gradient_at(images, &mut Hooks::new())?;
    Ok(inquiry.attributions(gradient, false))
}

/// The gradient at each pixel times the pixel's value (Shrikumar et al. 2016,
/// <https://arxiv.org/abs/1605.01713>). For a linear network this is what each pixel adds to the score.
///
/// Shapes and errors are those of [`saliency`].
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{Target, input_x_gradient};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let nothing = input_x_gradient(model.as_ref(), &images, &Target::Predicted)?;
/// assert!(!nothing.maps()?[0].positive);
/// # Ok(())
/// # }
/// ```
pub fn input_x_gradient(
    model: &dyn Model,
    images: &Tensor,
    target: &Target,
) -> Result<Attributions> {
    let inquiry = Inquiry::new(model, images, target)?;
    let product = (inquiry.gradient_at(images, &mut Hooks::new())? * images)?;
    Ok(inquiry.attributions(product, true))
}
