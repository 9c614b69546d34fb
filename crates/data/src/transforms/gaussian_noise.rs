//! A transform that adds noise.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::TransformEntry;
use super::checks::check_range;
use super::same_size::SameSize;
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

impl SameSize for GaussianNoise {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = false;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let mut image = image.into_owned();
        let (mean, sigma) = (self.mean * 255.0, self.sigma * 255.0);
        for value in image.pixels_mut() {
            // The cast drops the fraction.
            let noise = (mean + random::normal(rng) * sigma) as i16;
            let sum = noise.saturating_add(i16::from(*value));
            *value = if self.clip { sum.clamp(0, 255) as u8 } else { sum as u8 };
        }
        Ok(Cow::Owned(image))
    }

    fn check(&self) -> Result<()> {
        check_range(NAME, "mean", [self.mean; 2], [-1.0, 1.0])?;
        check_range(NAME, "sigma", [self.sigma; 2], [0.0, 100.0])
    }
}
