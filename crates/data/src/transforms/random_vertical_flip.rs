//! A transform that mirrors top to bottom at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_probability;
use super::transform::{apply_drawn, by_cow};
use super::{Description, PixelStep, PixelSteps, Stream, Transform, TransformEntry, describe};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_vertical_flip";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomVerticalFlip>(NAME, "mirrors top and bottom with probability p")
}

/// Mirrors the image top to bottom with probability `p`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomVerticalFlip {
    p: f64,
}

impl RandomVerticalFlip {
    /// A flip with this probability, in `0.0..=1.0`.
    pub fn new(p: f64) -> Self {
        Self { p }
    }
}

impl Default for RandomVerticalFlip {
    /// Probability 0.5.
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Transform for RandomVerticalFlip {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        if random::chance(rng, self.p) {
            steps.push(PixelStep::VerticalFlip)?;
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
        check_probability(NAME, self.p)
    }
}
