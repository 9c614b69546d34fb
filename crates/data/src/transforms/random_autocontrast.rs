//! A transform that stretches the contrast at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_probability;
use super::transform::by_cow;
use super::{Description, Transform, TransformEntry, describe, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_autocontrast";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomAutocontrast>(
        NAME,
        "stretches each channel to the whole range with probability p",
    )
}

/// Stretches the values of each channel to the range from 0 to 255, with probability `p`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomAutocontrast {
    p: f64,
}

impl RandomAutocontrast {
    /// This probability, in `0.0..=1.0`.
    pub fn new(p: f64) -> Self {
        Self { p }
    }
}

impl Default for RandomAutocontrast {
    /// Probability 0.5.
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Transform for RandomAutocontrast {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        if !random::chance(rng, self.p) {
            return Ok(image);
        }
        Ok(Cow::Owned(functional::autocontrast(&image)))
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
        check_probability(NAME, self.p)
    }
}
