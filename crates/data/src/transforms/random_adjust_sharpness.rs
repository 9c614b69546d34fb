//! A transform that blurs or sharpens at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::{check_probability, check_range};
use super::same_size::SameSize;
use super::{TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_adjust_sharpness";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomAdjustSharpness>(
        NAME,
        "blurs or sharpens by a factor with probability p",
    )
}

/// Blurs (`sharpness_factor` 0), keeps (1) or sharpens (2) the image, with probability `p`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomAdjustSharpness {
    sharpness_factor: f64,
    #[serde(default = "half")]
    p: f64,
}

fn half() -> f64 {
    0.5
}

impl RandomAdjustSharpness {
    /// The factor of [`functional::adjust_sharpness`], at least 0.
    pub fn new(sharpness_factor: f64) -> Self {
        Self { sharpness_factor, p: half() }
    }

    /// Sets the probability, in `0.0..=1.0`. The default is 0.5.
    pub fn p(self, p: f64) -> Self {
        Self { p, ..self }
    }
}

impl SameSize for RandomAdjustSharpness {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = false;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        if !random::chance(rng, self.p) {
            return Ok(image);
        }
        Ok(Cow::Owned(functional::adjust_sharpness(&image, self.sharpness_factor)))
    }

    fn check(&self) -> Result<()> {
        check_range(NAME, "sharpness_factor", [self.sharpness_factor; 2], [0.0, f64::MAX])?;
        check_probability(NAME, self.p)
    }
}
