//! A transform that stretches the contrast at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_probability;
use super::same_size::SameSize;
use super::{TransformEntry, functional};
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

impl SameSize for RandomAutocontrast {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = false;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        if !random::chance(rng, self.p) {
            return Ok(image);
        }
        Ok(Cow::Owned(functional::autocontrast(&image)))
    }

    fn check(&self) -> Result<()> {
        check_probability(NAME, self.p)
    }
}
