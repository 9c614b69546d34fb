//! SmoothGrad (Smilkov et al. 2017, <https://arxiv.org/abs/1706.03825>).

use candle_core::Tensor;
use candle_vision_models::{Hooks, Model, standard_normal};
use candle_vision_ops::Generator;
use rand::SeedableRng;

use super::{Attributions, Inquiry};
use crate::{Error, Method, Result, Target};

impl Method {
    /// SmoothGrad (Smilkov et al. 2017): the mean gradient over noisy copies.
    pub const SMOOTH_GRAD: Self = Self::pixels(
        "smoothgrad",
        "SmoothGrad (Smilkov et al. 2017): the mean gradient over noisy copies",
        |model, images, target| smooth_grad(model, images, target, &SmoothGrad::default())?.maps(),
    );
}

/// The noise that [`smooth_grad`] averages over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SmoothGrad {
    /// Number of noisy copies of each image, at least 1.
    pub samples: usize,
    /// Standard deviation of the noise, as a fraction of the range of an image's values. At least 0.
    pub noise: f64,
    /// The seed of the noise.
    pub seed: u64,
}

impl Default for SmoothGrad {
    /// The paper's middle values: 25 copies and 15 % noise.
    fn default() -> Self {
        Self { samples: 25, noise: 0.15, seed: 0 }
    }
}

/// The gradient at the pixels, averaged over noisy copies of each image.
///
/// Shapes are those of [`saliency`](crate::saliency).
///
/// # Errors
/// Those of [`saliency`](crate::saliency). Also if `samples` is 0, or the noise is negative or not finite.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::{SmoothGrad, Target, smooth_grad};
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
/// let images = Tensor::arange(0f32, 3072.0, &Device::Cpu)?.reshape((1, 3, 32, 32))?;
/// let noise = SmoothGrad { samples: 4, ..SmoothGrad::default() };
/// let smooth = smooth_grad(model.as_ref(), &images, &Target::Predicted, &noise)?;
/// assert_eq!(smooth.values.dims(), images.dims());
/// # Ok(())
/// # }
/// ```
pub fn smooth_grad(
    model: &dyn Model,
    images: &Tensor,
    target: &Target,
    noise: &SmoothGrad,
) -> Result<Attributions> {
    if noise.samples == 0 {
        return Err(Error::Setting {
            setting: "samples",
            range: "at least 1",
            found: "0".to_owned(),
        });
    }
    if !(noise.noise >= 0.0 && noise.noise.is_finite()) {
        let found = noise.noise.to_string();
        return Err(Error::Setting { setting: "noise", range: "0 or more", found });
    }
    let inquiry = Inquiry::new(model, images, target)?;
    let deviation = (range_of_each(images)? * noise.noise)?;
    let count = images.dim(0)?;
    // Each image has its own noise, so that a batch gives the same results as its images one by one.
    let mut generators = vec![Generator::seed_from_u64(noise.seed); count];
    let mut total = images.zeros_like()?;
    for _ in 0..noise.samples {
        let mut drawn = Vec::with_capacity(images.elem_count());
        for generator in &mut generators {
            let of_one =
                (0..images.elem_count() / count.max(1)).map(|_| standard_normal(generator) as f32);
            drawn.extend(of_one);
        }
        let drawn = Tensor::from_vec(drawn, images.shape(), images.device())?;
        let drawn = drawn.to_dtype(images.dtype())?.broadcast_mul(&deviation)?;
        total = (total + inquiry.gradient_at(&(images + drawn)?, &mut Hooks::new())?)?;
    }
    Ok(inquiry.attributions((total / noise.samples as f64)?, false))
}

/// The largest minus the smallest value of each image, `[batch, 1, 1, 1]`.
fn range_of_each(images: &Tensor) -> Result<Tensor> {
    let flat = images.flatten_from(1)?;
    let range = (flat.max_keepdim(1)? - flat.min_keepdim(1)?)?;
    Ok(range.reshape((images.dim(0)?, 1, 1, 1))?)
}
