//! A transform that compresses as JPEG.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check;
use super::transform::by_cow;
use super::{Description, Transform, TransformEntry, describe, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "jpeg";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<Jpeg>(NAME, "compresses as JPEG of a random quality")
}

/// Shows the image as a JPEG file of a random quality keeps it.
///
/// ```
/// use candle_vision_data::transforms::Jpeg;
///
/// let jpeg = Jpeg::new([30, 90]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jpeg {
    quality: Quality,
}

/// The quality of a JPEG file, from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a quality: one number from 1 to 100, or [least, most]")]
pub enum Quality {
    /// Always the same.
    One(u8),
    /// From the first to the second, both included.
    Range([u8; 2]),
}

impl From<u8> for Quality {
    fn from(quality: u8) -> Self {
        Self::One(quality)
    }
}

impl From<[u8; 2]> for Quality {
    fn from(range: [u8; 2]) -> Self {
        Self::Range(range)
    }
}

impl Quality {
    fn range(self) -> [u8; 2] {
        match self {
            Self::One(quality) => [quality; 2],
            Self::Range(range) => range,
        }
    }
}

impl Jpeg {
    /// The quality, or its range with both ends, from 1 to 100.
    pub fn new(quality: impl Into<Quality>) -> Self {
        Self { quality: quality.into() }
    }

    pub(super) fn draw_quality(self, rng: &mut Generator) -> u8 {
        let [least, most] = self.quality.range();
        let more = match most.saturating_sub(least) {
            0 => 0,
            span => random::below(rng, usize::from(span) + 1),
        };
        least.saturating_add(more as u8)
    }
}

impl Transform for Jpeg {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        functional::jpeg(&image, self.draw_quality(rng)).map(Cow::Owned)
    }

    fn is_random(&self) -> bool {
        let [least, most] = self.quality.range();
        least < most
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
        let [least, most] = self.quality.range();
        let is_range = 1 <= least && least <= most && most <= 100;
        check(NAME, is_range, "`quality` must be 1 to 100, and not descending")
    }
}
