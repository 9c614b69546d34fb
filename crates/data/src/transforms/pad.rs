//! A transform that adds pixels at the sides.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check;
use super::transform::{apply_drawn, by_cow};
use super::{
    Description, Fill, Padding, PaddingMode, PixelStep, PixelSteps, Transform, TransformEntry,
    describe,
};
use crate::error::Result;
use crate::image::{Image, MAX_SIDE};
use crate::random::Generator;

const NAME: &str = "pad";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<Pad>(NAME, "adds pixels on the sides")
}

/// Adds pixels at the sides.
///
/// ```
/// use candle_vision_data::transforms::{Pad, PaddingMode, Transform};
///
/// let pad = Pad::new([1, 2, 3, 4]).padding_mode(PaddingMode::Edge);
/// assert_eq!(pad.output_size(Some((10, 10))), Some((16, 14)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    padding: Padding,
    #[serde(default)]
    fill: Fill,
    #[serde(default)]
    padding_mode: PaddingMode,
}

impl Pad {
    /// Number of pixels to add: on all sides, `[left and right, top and bottom]`, or `[left, top, right,
    /// bottom]`.
    pub fn new(padding: impl Into<Padding>) -> Self {
        Self { padding: padding.into(), fill: Fill::default(), padding_mode: PaddingMode::Constant }
    }

    /// Sets the colour of the added pixels in mode [`PaddingMode::Constant`]. The default is black.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }

    /// Sets the content of the added pixels. The default is [`PaddingMode::Constant`].
    pub fn padding_mode(self, padding_mode: PaddingMode) -> Self {
        Self { padding_mode, ..self }
    }
}

impl Transform for Pad {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, _: &mut Generator) -> Result<bool> {
        push(steps, self.padding.sides(), self.fill, self.padding_mode)?;
        Ok(true)
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        let [left, top, right, bottom] = self.padding.sides();
        before.map(|(height, width)| (height + top + bottom, width + left + right))
    }

    fn validate(&self) -> Result<()> {
        let fits = self.padding.sides().iter().all(|&side| side <= MAX_SIDE);
        check(NAME, fits, "`padding` must be at most 16384 a side")
    }
}

/// Adds the step that pads, unless there is nothing to add.
pub(super) fn push(
    steps: &mut PixelSteps,
    [left, top, right, bottom]: [usize; 4],
    fill: Fill,
    mode: PaddingMode,
) -> Result<()> {
    if [left, top, right, bottom] == [0; 4] {
        return Ok(());
    }
    let [rows, columns, _] = steps.shape();
    let (height, width) = (rows + top + bottom, columns + left + right);
    let [top, left] = [top, left].map(|side| -(side as isize));
    let fill = fill.color();
    steps.push(PixelStep::Window { top, left, height, width, mode, fill })
}
