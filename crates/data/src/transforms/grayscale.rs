//! A transform that makes an image grey.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check;
use super::transform::{apply_drawn, by_cow};
use super::{Description, PixelStep, PixelSteps, Transform, TransformEntry, describe};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

const NAME: &str = "grayscale";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<Grayscale>(NAME, "makes the image grey, with one channel or three")
}

/// Makes the image grey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grayscale {
    /// torchvision's name for it is `num_output_channels`.
    #[serde(alias = "num_output_channels")]
    channels: usize,
}

impl Grayscale {
    /// Grey with one channel.
    pub fn new() -> Self {
        Self { channels: 1 }
    }

    /// Sets the number of channels: 1, or 3 equal ones.
    pub fn channels(self, channels: usize) -> Self {
        Self { channels }
    }
}

impl Default for Grayscale {
    fn default() -> Self {
        Self::new()
    }
}

impl Transform for Grayscale {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, _: &mut Generator) -> Result<bool> {
        steps.push(PixelStep::Grayscale { channels: self.channels })?;
        Ok(true)
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

    fn output_channels(&self, _: usize) -> usize {
        self.channels
    }

    fn validate(&self) -> Result<()> {
        check(NAME, matches!(self.channels, 1 | 3), "`channels` must be 1 or 3")
    }
}
