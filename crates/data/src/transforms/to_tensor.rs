//! A transform from 8-bit pixels to floats.

use serde::{Deserialize, Serialize};

use super::{Description, PixelSteps, Transform, TransformEntry, describe};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

pub(super) const NAME: &str = "to_tensor";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<ToTensor>(NAME, "turns 0..=255 to 0.0..=1.0; every list has exactly one")
}

/// Maps `0..=255` to `0.0..=1.0`. Every [`Compose`](super::Compose) has exactly one and does its work. As an
/// image transform it changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "NoSettings", into = "NoSettings")]
pub struct ToTensor;

/// This struct with braces replaces a unit struct, which cannot be read from a table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

impl From<NoSettings> for ToTensor {
    fn from(_: NoSettings) -> Self {
        Self
    }
}

impl From<ToTensor> for NoSettings {
    fn from(_: ToTensor) -> Self {
        Self {}
    }
}

impl Transform for ToTensor {
    fn apply(&self, image: Image, _: &mut Generator) -> Result<Image> {
        Ok(image)
    }

    fn draw(&self, _: &mut PixelSteps, _: &mut Generator) -> Result<bool> {
        Ok(true)
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }
}
