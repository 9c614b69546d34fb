//! A transform that adds noise.

use serde::{Deserialize, Serialize};

use super::checks::check_range;
use super::{Description, Transform, TransformEntry, describe};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "gaussian_noise";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<GaussianNoise>(NAME, "adds normally distributed noise")
}

/// Adds a normally distributed number to each value of the image.
///
/// `mean` and `sigma` are for values in `0.0..=1.0`. As in torchvision, the numbers are multiplied by 255 and their
/// fractions dropped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GaussianNoise {
    mean: f64,
    sigma: f64,
    clip: bool,
}

impl Default for GaussianNoise {
    /// torchvision's defaults: mean 0 and standard deviation 0.1, with values clipped.
    fn default() -> Self {
        Self { mean: 0.0, sigma: 0.1, clip: true }
    }
}

impl GaussianNoise {
    /// Noise with this standard deviation, at least 0.
    pub fn new(sigma: f64) -> Self {
        Self { sigma, ..Self::default() }
    }

    /// Sets the mean of the noise. The default is 0.
    pub fn mean(self, mean: f64) -> Self {
        Self { mean, ..self }
    }

    /// Sets whether values beyond 0 and 255 are clipped. If not, they wrap. The default is `true`.
    pub fn clip(self, clip: bool) -> Self {
        Self { clip, ..self }
    }
}

impl Transform for GaussianNoise {
    fn apply(&self, mut image: Image, rng: &mut Generator) -> Result<Image> {
        let (mean, sigma) = (self.mean * 255.0, self.sigma * 255.0);
        for value in image.pixels_mut() {
            // The cast drops the fraction.
            let noise = (mean + random::normal(rng) * sigma) as i16;
            let sum = noise.saturating_add(i16::from(*value));
            *value = if self.clip { sum.clamp(0, 255) as u8 } else { sum as u8 };
        }
        Ok(image)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn is_geometric(&self) -> bool {
        false
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }

    fn validate(&self) -> Result<()> {
        check_range(NAME, "mean", [self.mean; 2], [-1.0, 1.0])?;
        check_range(NAME, "sigma", [self.sigma; 2], [0.0, 100.0])
    }
}
