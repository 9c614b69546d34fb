//! Integrated gradients (Sundararajan et al. 2017, <https://arxiv.org/abs/1703.01365>).

use candle_core::Tensor;
use candle_vision_models::{Hooks, Model};

use super::{Attributions, Inquiry};
use crate::{Error, Method, Result, Target};

impl Method {
    /// Integrated gradients (Sundararajan et al. 2017): gradients on the way from black.
    pub const INTEGRATED_GRADIENTS: Self = Self::pixels(
        "integrated-gradients",
        "integrated gradients (Sundararajan et al. 2017): gradients on the way from black",
        |model, images, target| {
            integrated_gradients(model, images, target, &IntegratedGradients::default())?.maps()
        },
    );
}

/// The path along which gradients are added up.
#[derive(Debug, Clone)]
pub struct IntegratedGradients {
    /// Number of points on the path, including both ends. At least 2; 32 by default.
    pub steps: usize,
    /// The start of the path, in the images' shape or one that broadcasts to it. `None` means zeros, the mean
    /// colour of normalised images.
    pub baseline: Option<Tensor>,
}

impl Default for IntegratedGradients {
    fn default() -> Self {
        Self { steps: 32, baseline: None }
    }
}

/// What each value of an image adds to the score on the straight path from a baseline to the image. The values
/// of an image add up to the difference of the two scores.
///
/// The integral uses the trapezoidal rule, whose weights add up to 1. captum's `riemann_trapezoid` gives
/// `(steps - 1) / steps` of this result.
///
/// Shapes are those of [`saliency`](crate::saliency).
///
/// # Errors
/// Those of [`saliency`](crate::saliency). Also if there are fewer than 2 steps, or the baseline does not fit.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{IntegratedGradients, Target, integrated_gradients};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let path = IntegratedGradients { steps: 8, ..IntegratedGradients::default() };
/// let added = integrated_gradients(model.as_ref(), &images, &Target::Class(1), &path)?;
/// assert_eq!(added.values.dims(), images.dims());
/// # Ok(())
/// # }
/// ```
pub fn integrated_gradients(
    model: &dyn Model,
    images: &Tensor,
    target: &Target,
    path: &IntegratedGradients,
) -> Result<Attributions> {
    if path.steps < 2 {
        let found = path.steps.to_string();
        return Err(Error::Setting { setting: "steps", range: "at least 2", found });
    }
    let baseline = match &path.baseline {
        Some(baseline) => baseline.broadcast_as(images.shape())?,
        None => images.zeros_like()?,
    };
    let inquiry = Inquiry::new(model, images, target)?;
    let way = (images - &baseline)?;
    let mut total = images.zeros_like()?;
    let last = path.steps - 1;
    for step in 0..path.steps {
        let point = (&baseline + (&way * (step as f64 / last as f64))?)?;
        let share = if step == 0 || step == last { 0.5 } else { 1.0 } / last as f64;
        total = (total + (inquiry.gradient_at(&point, &mut Hooks::new())? * share)?)?;
    }
    Ok(inquiry.attributions((total * way)?, true))
}
