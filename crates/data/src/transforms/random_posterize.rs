//! A transform that keeps few bits of each value at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::{check, check_probability};
use super::same_size::SameSize;
use super::{TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_posterize";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomPosterize>(
        NAME,
        "keeps the highest bits of each value with probability p",
    )
}

/// Keeps the highest `bits` bits of each value, with probability `p`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomPosterize {
    bits: u32,
    #[serde(default = "half")]
    p: f64,
}

fn half() -> f64 {
    0.5
}

impl RandomPosterize {
    /// This number of bits, from 0 to 8.
    pub fn new(bits: u32) -> Self {
        Self { bits, p: half() }
    }

    /// Sets the probability, in `0.0..=1.0`. The default is 0.5.
    pub fn p(self, p: f64) -> Self {
        Self { p, ..self }
    }
}

impl SameSize for RandomPosterize {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = false;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        if !random::chance(rng, self.p) {
            return Ok(image);
        }
        Ok(Cow::Owned(functional::posterize(&image, self.bits)))
    }

    fn check(&self) -> Result<()> {
        check(NAME, self.bits <= 8, "`bits` must be 0 to 8")?;
        check_probability(NAME, self.p)
    }
}
