//! A transform that mirrors left to right in every other epoch.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_probability;
use super::transform::{apply_drawn, by_cow};
use super::{Description, PixelStep, PixelSteps, Transform, TransformEntry, describe};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "alternating_flip";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<AlternatingFlip>(
        NAME,
        "mirrors left and right in every other epoch, from a random start",
    )
}

/// Mirrors an image left to right in every other epoch (Jordan 2024, <https://arxiv.org/abs/2404.00498>,
/// section 3.6).
///
/// In the first epoch it mirrors with probability `p`. From then on, the image and its mirror image take turns.
/// So any two epochs in a row show both, while independent flips show the same one twice in half of all cases.
///
/// The result depends on the loader's seed, the sample's index and the epoch alone, so a resumed run goes on with
/// the right turn. A generator of [`random::generator`] counts as one of the first epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlternatingFlip {
    p: f64,
}

impl AlternatingFlip {
    /// A first flip with this probability, in `0.0..=1.0`.
    pub fn new(p: f64) -> Self {
        Self { p }
    }
}

impl Default for AlternatingFlip {
    /// Probability 0.5.
    fn default() -> Self {
        Self { p: 0.5 }
    }
}

impl Transform for AlternatingFlip {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let at_first = random::chance(&mut random::in_first_epoch(rng), self.p);
        let is_other_turn = !random::epoch(rng).is_multiple_of(2);
        if at_first != is_other_turn {
            steps.push(PixelStep::HorizontalFlip)?;
        }
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
        check_probability(NAME, self.p)
    }
}
