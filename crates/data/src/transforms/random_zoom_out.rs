//! A transform that puts the image onto a larger canvas at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::{check_probability, check_range};
use super::transform::{apply_drawn, by_cow};
use super::{
    Description, Fill, PaddingMode, PixelStep, PixelSteps, Transform, TransformEntry, describe,
};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_zoom_out";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomZoomOut>(
        NAME,
        "puts the image onto a larger canvas with probability p",
    )
}

/// Puts the image onto a larger canvas at a random place, with probability `p`. The result has the size of the canvas, so a
/// resize should follow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomZoomOut {
    fill: Fill,
    side_range: [f64; 2],
    p: f64,
}

impl Default for RandomZoomOut {
    fn default() -> Self {
        Self::new()
    }
}

impl RandomZoomOut {
    /// torchvision's defaults: a black canvas of one to four times the sides, with probability 0.5.
    pub fn new() -> Self {
        Self { fill: Fill::default(), side_range: [1.0, 4.0], p: 0.5 }
    }

    /// Sets the value of the canvas in all channels.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }

    /// Sets the range of the canvas's sides, as multiples of the image's, from 1 on.
    pub fn side_range(self, least: f64, most: f64) -> Self {
        Self { side_range: [least, most], ..self }
    }

    /// Sets the probability, in `0.0..=1.0`. The default is 0.5.
    pub fn p(self, p: f64) -> Self {
        Self { p, ..self }
    }
}

impl Transform for RandomZoomOut {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        if !random::chance(rng, self.p) {
            return Ok(true);
        }
        let [rows, columns, _] = steps.shape();
        let times = random::between(rng, self.side_range[0], self.side_range[1]);
        let [height, width] = [rows, columns].map(|side| (side as f64 * times) as usize);
        let mut before = |canvas: usize, side: usize| {
            let free = canvas.saturating_sub(side) as f64;
            -((free * random::unit(rng)) as isize)
        };
        let (left, top) = (before(width, columns), before(height, rows));
        let (mode, fill) = (PaddingMode::Constant, self.fill.color());
        steps.push(PixelStep::Window { top, left, height, width, mode, fill })?;
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn validate(&self) -> Result<()> {
        check_range(NAME, "side_range", self.side_range, [1.0, 1000.0])?;
        check_probability(NAME, self.p)
    }
}
