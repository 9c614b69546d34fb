//! A transform that cuts out the middle.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_size;
use super::transform::{apply_drawn, by_cow};
use super::{
    Description, PaddingMode, PixelStep, PixelSteps, Size, Transform, TransformEntry, describe,
    functional,
};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

const NAME: &str = "center_crop";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<CenterCrop>(NAME, "cuts out the middle")
}

/// Cuts out the middle. An image that is too small is first padded with black.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    pub(super) size: Size,
}

impl CenterCrop {
    /// The side of a square in pixels, or `[height, width]`.
    pub fn new(size: impl Into<Size>) -> Self {
        Self { size: size.into() }
    }
}

impl Transform for CenterCrop {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, _: &mut Generator) -> Result<bool> {
        let (height, width) = self.size.square();
        let [rows, columns, _] = steps.shape();
        let [top, left] = functional::center_corner([rows, columns], [height, width]);
        let mode = PaddingMode::Constant;
        steps.push(PixelStep::Window { top, left, height, width, mode, fill: [0; 3] })?;
        Ok(true)
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn output_size(&self, _: Option<(usize, usize)>) -> Option<(usize, usize)> {
        Some(self.size.square())
    }

    fn validate(&self) -> Result<()> {
        check_size(NAME, self.size)
    }
}
