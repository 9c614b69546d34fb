//! A transform that cuts out a random part.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_size;
use super::transform::{apply_drawn, by_cow};
use super::{
    Description, Fill, Padding, PaddingMode, PixelStep, PixelSteps, Size, Stream, Transform,
};
use super::{TransformEntry, describe, functional, pad};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

const NAME: &str = "random_crop";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomCrop>(NAME, "cuts out a random part")
}

/// Cuts out a random part.
///
/// ```
/// use candle_vision_data::transforms::{PaddingMode, RandomCrop};
///
/// // The usual augmentation for CIFAR-10.
/// let crop = RandomCrop::new(32).padding(4).padding_mode(PaddingMode::Reflect);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    size: Size,
    #[serde(default)]
    padding: Padding,
    #[serde(default)]
    pad_if_needed: bool,
    #[serde(default)]
    fill: Fill,
    #[serde(default)]
    padding_mode: PaddingMode,
}

impl RandomCrop {
    /// The side of a square in pixels, or `[height, width]`. By default the image is not padded, and an image
    /// that is too small is an error.
    pub fn new(size: impl Into<Size>) -> Self {
        Self {
            size: size.into(),
            padding: Padding::default(),
            pad_if_needed: false,
            fill: Fill::default(),
            padding_mode: PaddingMode::Constant,
        }
    }

    /// Sets how many pixels are added around the image before the crop.
    pub fn padding(self, padding: impl Into<Padding>) -> Self {
        Self { padding: padding.into(), ..self }
    }

    /// Sets whether an image that is still too small is padded up to the size.
    pub fn pad_if_needed(self, pad_if_needed: bool) -> Self {
        Self { pad_if_needed, ..self }
    }

    /// Sets the value of the added pixels in mode [`PaddingMode::Constant`]. The default is 0.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }

    /// Sets the content of the added pixels. The default is [`PaddingMode::Constant`].
    pub fn padding_mode(self, padding_mode: PaddingMode) -> Self {
        Self { padding_mode, ..self }
    }
}

impl Transform for RandomCrop {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let (height, width) = self.size.square();
        let [rows, columns, _] = steps.shape();
        let mut sides = self.padding.sides();
        let [left, top, right, bottom] = sides;
        if self.pad_if_needed {
            let missing_columns = width.saturating_sub(columns + left + right);
            let missing_rows = height.saturating_sub(rows + top + bottom);
            if missing_columns + missing_rows > 0 {
                // The second padding mirrors the first. So the two are not one.
                pad::push(steps, sides, self.fill, self.padding_mode)?;
                sides = [missing_columns, missing_rows, missing_columns, missing_rows];
            }
        }
        let [rows, columns, _] = steps.shape();
        let [left, top, right, bottom] = sides;
        let padded = [rows + top + bottom, columns + left + right];
        let corner = [top, left].map(|side| -(side as isize));
        if sides != [0; 4] {
            // A crop may miss pixels that cannot be added, but whether there is an error must not be random.
            functional::check_window(steps.shape(), corner, padded, self.padding_mode)?;
        }
        let drawn = functional::random_corner(padded, [height, width], rng)?;
        let [top, left] = [0, 1].map(|axis| corner[axis] + drawn[axis] as isize);
        let (fill, mode) = (self.fill.color(), self.padding_mode);
        steps.push(PixelStep::Window { top, left, height, width, mode, fill })?;
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn stream(&self) -> Stream {
        Stream::Sample
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
