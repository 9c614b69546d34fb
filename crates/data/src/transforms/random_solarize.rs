//! A transform that inverts bright values at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::{check_probability, check_range};
use super::same_size::SameSize;
use super::{TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_solarize";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomSolarize>(
        NAME,
        "inverts the values from a threshold on with probability p",
    )
}

/// Inverts the values from `threshold` on, with probability `p`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSolarize {
    threshold: f64,
    #[serde(default = "half")]
    p: f64,
}

fn half() -> f64 {
    0.5
}

impl RandomSolarize {
    /// The first value that is inverted, in `0.0..=255.0`.
    pub fn new(threshold: f64) -> Self {
        Self { threshold, p: half() }
    }

    /// Sets the probability, in `0.0..=1.0`. The default is 0.5.
    pub fn p(self, p: f64) -> Self {
        Self { p, ..self }
    }
}

impl SameSize for RandomSolarize {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = false;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        if !random::chance(rng, self.p) {
            return Ok(image);
        }
        Ok(Cow::Owned(functional::solarize(&image, self.threshold)))
    }

    fn check(&self) -> Result<()> {
        check_range(NAME, "threshold", [self.threshold; 2], [0.0, 255.0])?;
        check_probability(NAME, self.p)
    }
}
