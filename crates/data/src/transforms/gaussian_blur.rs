//! A transform that blurs by a random amount.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_range;
use super::transform::by_cow;
use super::{Description, PerAxis, Transform, TransformEntry, describe, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "gaussian_blur";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<GaussianBlur>(NAME, "blurs by a random amount")
}

/// Blurs by a Gaussian with a random standard deviation.
///
/// ```
/// use candle_vision_data::transforms::{GaussianBlur, RandomApply};
///
/// // As SimCLR uses it: on half of the images.
/// let blur = RandomApply::new(0.5).with(GaussianBlur::new(23));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    kernel_size: PerAxis<usize>,
    #[serde(default = "default_sigma")]
    sigma: Deviation,
}

/// One standard deviation, or the range of a random one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a standard deviation: one number, or [least, most]")]
enum Deviation {
    One(f64),
    Range([f64; 2]),
}

impl Deviation {
    fn range(self) -> [f64; 2] {
        match self {
            Self::One(sigma) => [sigma; 2],
            Self::Range(range) => range,
        }
    }
}

fn default_sigma() -> Deviation {
    Deviation::Range([0.1, 2.0])
}

impl GaussianBlur {
    /// The size of the kernel in pixels, odd, for both axes or for x and y. The standard deviation is between 0.1 and 2.
    pub fn new(kernel_size: impl Into<PerAxis<usize>>) -> Self {
        Self { kernel_size: kernel_size.into(), sigma: default_sigma() }
    }

    /// Sets the range of the standard deviation in pixels.
    pub fn sigma(self, least: f64, most: f64) -> Self {
        Self { sigma: Deviation::Range([least, most]), ..self }
    }

    pub(super) fn draw_sigma(&self, rng: &mut Generator) -> f64 {
        let [least, most] = self.sigma.range();
        if least < most { random::between(rng, least, most) } else { least }
    }
}

impl Transform for GaussianBlur {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let sigma = self.draw_sigma(rng);
        functional::gaussian_blur(&image, self.kernel_size.xy(), [sigma; 2]).map(Cow::Owned)
    }

    fn is_random(&self) -> bool {
        let [least, most] = self.sigma.range();
        least < most
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
        let range = self.sigma.range();
        check_range(NAME, "sigma", range, [f64::MIN_POSITIVE, f64::MAX])?;
        functional::check_blur(NAME, self.kernel_size.xy(), range)
    }
}
