//! A transform that rotates by a random angle.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::{check, check_range};
use super::transform::{apply_drawn, by_cow};
use super::{
    Degrees, Description, Interpolation, PixelStep, PixelSteps, Stream, Transform, TransformEntry,
};
use super::{describe, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_rotation";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomRotation>(NAME, "rotates about the centre by a random angle")
}

/// Rotates the image about its centre by a uniformly random angle. The size does not change.
///
/// ```
/// use candle_vision_data::transforms::{Interpolation, RandomRotation};
///
/// let rotation = RandomRotation::new(10.0).interpolation(Interpolation::Bilinear);
/// let counter_clockwise = RandomRotation::new([0.0, 90.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomRotation {
    degrees: Degrees,
    #[serde(default = "nearest")]
    interpolation: Interpolation,
    #[serde(default)]
    fill: u8,
}

fn nearest() -> Interpolation {
    Interpolation::Nearest
}

impl RandomRotation {
    /// The range of the angle in degrees. One number `d` means between `-d` and `d`. Two numbers are the range
    /// itself. Positive angles are counter-clockwise.
    pub fn new(degrees: impl Into<Degrees>) -> Self {
        Self { degrees: degrees.into(), interpolation: nearest(), fill: 0 }
    }

    /// Sets the interpolation: [`Interpolation::Nearest`], the default, or [`Interpolation::Bilinear`].
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets the value of pixels that come from outside the image. The default is 0.
    pub fn fill(self, fill: u8) -> Self {
        Self { fill, ..self }
    }
}

impl Transform for RandomRotation {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let [least, most] = self.degrees.range();
        let degrees = random::between(rng, least, most);
        let [height, width, _] = steps.shape();
        if let Some(matrix) = functional::rotation([height, width], degrees)? {
            let (interpolation, fill) = (self.interpolation, self.fill);
            steps.push(PixelStep::Affine { matrix, interpolation, fill })?;
        }
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn stream(&self) -> Stream {
        Stream::Sample
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }

    fn validate(&self) -> Result<()> {
        let is_known = self.interpolation != Interpolation::Bicubic;
        check(NAME, is_known, "`interpolation` must be `nearest` or `bilinear`")?;
        check_range(NAME, "degrees", self.degrees.range(), [f64::MIN, f64::MAX])
    }
}
