//! A transform that rotates, moves, scales and shears at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_range;
use super::transform::by_cow;
use super::{
    Degrees, Description, Fill, Interpolation, PixelStep, PixelSteps, Shear, Transform,
    TransformEntry,
};
use super::{describe, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_affine";

/// Shears near 90 degrees make an image endless.
const STEEPEST: [f64; 2] = [-89.0, 89.0];

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomAffine>(NAME, "rotates, moves, scales and shears at random")
}

/// Rotates, moves, scales and shears the image by random amounts. The size does not change.
///
/// ```
/// use candle_vision_data::transforms::RandomAffine;
///
/// let affine = RandomAffine::new(15.0).translate(0.1, 0.1).scale(0.8, 1.2).shear([-5.0, 5.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomAffine {
    degrees: Degrees,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    translate: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<[f64; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shear: Option<Shear>,
    #[serde(default = "nearest")]
    interpolation: Interpolation,
    #[serde(default)]
    fill: Fill,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    center: Option<[f64; 2]>,
}

fn nearest() -> Interpolation {
    Interpolation::Nearest
}

impl RandomAffine {
    /// The range of the clockwise angle in degrees. One number `d` means between `-d` and `d`. 0 switches rotation off.
    pub fn new(degrees: impl Into<Degrees>) -> Self {
        Self {
            degrees: degrees.into(),
            translate: None,
            scale: None,
            shear: None,
            interpolation: nearest(),
            fill: Fill::default(),
            center: None,
        }
    }

    /// Sets by which shares of its width and height the image moves at most, each in `0.0..=1.0`.
    pub fn translate(self, across: f64, down: f64) -> Self {
        Self { translate: Some([across, down]), ..self }
    }

    /// Sets the range of the scale.
    pub fn scale(self, least: f64, most: f64) -> Self {
        Self { scale: Some([least, most]), ..self }
    }

    /// Sets the range of the shear in degrees.
    pub fn shear(self, shear: impl Into<Shear>) -> Self {
        Self { shear: Some(shear.into()), ..self }
    }

    /// Sets the interpolation: nearest, the default, bilinear or bicubic.
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets the colour of pixels that come from outside the image. The default is black.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }

    /// Sets the point (x, y) in pixels that rotation, scale and shear leave in its place. The default is the centre.
    pub fn center(self, x: f64, y: f64) -> Self {
        Self { center: Some([x, y]), ..self }
    }

    pub(super) fn draw_change(
        &self,
        [height, width]: [usize; 2],
        rng: &mut Generator,
    ) -> functional::Affine {
        let mut between = |[least, most]: [f64; 2]| random::between(rng, least, most);
        let degrees = between(self.degrees.range());
        let mut moved = |share: f64, length: usize| {
            let most = share * length as f64;
            between([-most, most]).round_ties_even()
        };
        let translate = match self.translate {
            Some([across, down]) => [moved(across, width), moved(down, height)],
            None => [0.0; 2],
        };
        let scale = self.scale.map_or(1.0, &mut between);
        let shear = self.shear.map_or([0.0; 2], |shear| {
            let (along_x, along_y) = shear.ranges();
            [between(along_x), along_y.map_or(0.0, &mut between)]
        });
        functional::Affine { degrees, translate, scale, shear, center: self.center }
    }
}

impl Transform for RandomAffine {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let change = self.draw_change([image.height(), image.width()], rng);
        let warped = functional::affine(&image, &change, self.interpolation, self.fill.color())?;
        Ok(Cow::Owned(warped))
    }

    /// Not with bicubic interpolation, or scales without rotation, for which Pillow has an arithmetic of its own.
    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let [least, most] = self.degrees.range();
        let is_scaled = self.scale.is_some() && self.shear.is_none() && least == most;
        let is_known =
            matches!(self.interpolation, Interpolation::Nearest | Interpolation::Bilinear);
        if !is_known || is_scaled {
            return Ok(false);
        }
        let [height, width, _] = steps.shape();
        let matrix = self.draw_change([height, width], rng).matrix([height, width]);
        let (interpolation, fill) = (self.interpolation, self.fill.color());
        steps.push(PixelStep::Affine { matrix, interpolation, fill })?;
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }

    fn validate(&self) -> Result<()> {
        functional::check_warp(NAME, self.interpolation)?;
        check_range(NAME, "degrees", self.degrees.range(), [f64::MIN, f64::MAX])?;
        for share in self.translate.into_iter().flatten() {
            check_range(NAME, "translate", [share; 2], [0.0, 1.0])?;
        }
        if let Some(scale) = self.scale {
            check_range(NAME, "scale", scale, [f64::MIN_POSITIVE, f64::MAX])?;
        }
        if let Some((along_x, along_y)) = self.shear.map(Shear::ranges) {
            check_range(NAME, "shear", along_x, STEEPEST)?;
            check_range(NAME, "shear", along_y.unwrap_or_default(), STEEPEST)?;
        }
        for place in self.center.into_iter().flatten() {
            check_range(NAME, "center", [place; 2], [f64::MIN, f64::MAX])?;
        }
        Ok(())
    }
}
