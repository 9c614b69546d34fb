//! A transform that rotates by a random angle.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_range;
use super::transform::by_cow;
use super::{
    Degrees, Description, Fill, Interpolation, PixelStep, PixelSteps, Stream, Transform,
    TransformEntry,
};
use super::{describe, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_rotation";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomRotation>(NAME, "rotates about the centre by a random angle")
}

/// Rotates the image by a uniformly random angle.
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
    #[serde(default, skip_serializing_if = "is_false")]
    expand: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    center: Option<[f64; 2]>,
    #[serde(default)]
    fill: Fill,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn nearest() -> Interpolation {
    Interpolation::Nearest
}

impl RandomRotation {
    /// The range of the angle in degrees. One number `d` means between `-d` and `d`. Two numbers are the range
    /// itself. Positive angles are counter-clockwise.
    pub fn new(degrees: impl Into<Degrees>) -> Self {
        let (interpolation, fill) = (nearest(), Fill::default());
        Self { degrees: degrees.into(), interpolation, expand: false, center: None, fill }
    }

    /// Sets the interpolation: nearest, the default, bilinear or bicubic.
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets whether the image grows so that nothing of it is cut off. Then its size depends on the angle. The default is
    /// `false`.
    pub fn expand(self, expand: bool) -> Self {
        Self { expand, ..self }
    }

    /// Sets the point (x, y) in pixels that stays in its place. The default is the centre.
    pub fn center(self, x: f64, y: f64) -> Self {
        Self { center: Some([x, y]), ..self }
    }

    /// Sets the colour of pixels that come from outside the image. The default is black.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }

    /// The matrix, and the size of the result. `None` if nothing changes.
    fn draw_matrix(
        &self,
        size: [usize; 2],
        rng: &mut Generator,
    ) -> Result<Option<([f64; 6], [usize; 2])>> {
        let [least, most] = self.degrees.range();
        let degrees = random::between(rng, least, most);
        functional::rotation_about(size, degrees, self.center, self.expand)
    }
}

impl Transform for RandomRotation {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let size = [image.height(), image.width()];
        let Some((matrix, size)) = self.draw_matrix(size, rng)? else {
            return Ok(image);
        };
        let fill = self.fill.color();
        let turned = functional::affine_by_matrix(&image, size, matrix, self.interpolation, fill);
        Ok(Cow::Owned(turned))
    }

    /// Not with bicubic interpolation, or a size that changes.
    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let is_known =
            matches!(self.interpolation, Interpolation::Nearest | Interpolation::Bilinear);
        if !is_known || self.expand {
            return Ok(false);
        }
        let [height, width, _] = steps.shape();
        if let Some((matrix, _)) = self.draw_matrix([height, width], rng)? {
            let (interpolation, fill) = (self.interpolation, self.fill.color());
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
        before.filter(|_| !self.expand)
    }

    fn validate(&self) -> Result<()> {
        functional::check_warp(NAME, self.interpolation)?;
        for place in self.center.into_iter().flatten() {
            check_range(NAME, "center", [place; 2], [f64::MIN, f64::MAX])?;
        }
        check_range(NAME, "degrees", self.degrees.range(), [f64::MIN, f64::MAX])
    }
}
