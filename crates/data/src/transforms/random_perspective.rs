//! A transform that looks at the image from the side, at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::{check_probability, check_range};
use super::same_size::SameSize;
use super::{Fill, Interpolation, TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_perspective";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomPerspective>(NAME, "changes the perspective with probability p")
}

/// Moves the four corners inwards by random distances, with probability `p`. The size does not change.
///
/// ```
/// use candle_vision_data::transforms::{Fill, RandomPerspective};
///
/// let perspective = RandomPerspective::new().distortion_scale(0.3).fill([124, 116, 104]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomPerspective {
    distortion_scale: f64,
    p: f64,
    interpolation: Interpolation,
    fill: Fill,
}

impl Default for RandomPerspective {
    fn default() -> Self {
        Self::new()
    }
}

impl RandomPerspective {
    /// torchvision's defaults: corners move by up to a quarter of a side, with probability 0.5.
    pub fn new() -> Self {
        let interpolation = Interpolation::Bilinear;
        Self { distortion_scale: 0.5, p: 0.5, interpolation, fill: Fill::default() }
    }

    /// Sets the largest distance of a corner, as a share of half a side, in `0.0..=1.0`. The default is 0.5.
    pub fn distortion_scale(self, distortion_scale: f64) -> Self {
        Self { distortion_scale, ..self }
    }

    /// Sets the probability, in `0.0..=1.0`. The default is 0.5.
    pub fn p(self, p: f64) -> Self {
        Self { p, ..self }
    }

    /// Sets the interpolation: nearest, bilinear, the default, or bicubic.
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets the colour of pixels that come from outside the image. The default is black.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }

    /// Where the corners move to: upper left, upper right, lower right, lower left.
    pub(super) fn draw_corners(
        &self,
        height: usize,
        width: usize,
        rng: &mut Generator,
    ) -> [[f64; 2]; 4] {
        let reach = |side: usize| (self.distortion_scale * (side / 2) as f64) as usize + 1;
        let (high, wide) = (reach(height), reach(width));
        let mut place = |first: usize, count: usize| (first + random::below(rng, count)) as f64;
        // A side of 1 pixel has one place.
        let (bottom, right) = (height.saturating_sub(high), width.saturating_sub(wide));
        let (high, wide) = (high.min(height), wide.min(width));
        [
            [place(0, wide), place(0, high)],
            [place(right, wide), place(0, high)],
            [place(right, wide), place(bottom, high)],
            [place(0, wide), place(bottom, high)],
        ]
    }
}

impl SameSize for RandomPerspective {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = true;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let (height, width) = (image.height(), image.width());
        // Four corners need two rows and two columns.
        if !random::chance(rng, self.p) || height < 2 || width < 2 {
            return Ok(image);
        }
        let end = self.draw_corners(height, width, rng);
        let (right, bottom) = ((width - 1) as f64, (height - 1) as f64);
        let start = [[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]];
        let fill = self.fill.color();
        functional::perspective(&image, start, end, self.interpolation, fill).map(Cow::Owned)
    }

    fn check(&self) -> Result<()> {
        functional::check_warp(NAME, self.interpolation)?;
        check_range(NAME, "distortion_scale", [self.distortion_scale; 2], [0.0, 1.0])?;
        check_probability(NAME, self.p)
    }
}
