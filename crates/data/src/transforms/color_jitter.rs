//! A transform that changes colours at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_range;
use super::transform::{apply_drawn, by_cow};
use super::{
    Description, Jitter, PixelSteps, Stream, Transform, TransformEntry, describe, functional,
};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

const NAME: &str = "color_jitter";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<ColorJitter>(
        NAME,
        "changes brightness, contrast, saturation and hue by random factors",
    )
}

/// Changes brightness, contrast, saturation and hue by random amounts, in random order.
///
/// For brightness, contrast and saturation, a strength `s` means a factor between `max(0, 1 - s)` and `1 + s`.
/// A range `[least, most]` gives the factors directly. Parts without a strength do not change.
///
/// ```
/// use candle_vision_data::transforms::ColorJitter;
///
/// let jitter = ColorJitter::new().brightness(0.4).contrast([0.5, 1.5]).hue(0.1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColorJitter {
    brightness: Jitter,
    contrast: Jitter,
    saturation: Jitter,
    hue: Jitter,
}

impl ColorJitter {
    /// A jitter that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the strength for brightness.
    pub fn brightness(self, brightness: impl Into<Jitter>) -> Self {
        Self { brightness: brightness.into(), ..self }
    }

    /// Sets the strength for contrast.
    pub fn contrast(self, contrast: impl Into<Jitter>) -> Self {
        Self { contrast: contrast.into(), ..self }
    }

    /// Sets the strength for saturation.
    pub fn saturation(self, saturation: impl Into<Jitter>) -> Self {
        Self { saturation: saturation.into(), ..self }
    }

    /// Sets the strength for hue. One number `h` means a turn between `-h` and `h`, where a full circle is 1.
    /// Two numbers are the range of the turn, in `-0.5..=0.5`.
    pub fn hue(self, hue: impl Into<Jitter>) -> Self {
        Self { hue: hue.into(), ..self }
    }
}

impl Transform for ColorJitter {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let [brightness, contrast, saturation] =
            [self.brightness, self.contrast, self.saturation].map(Jitter::factors);
        let ranges = [brightness, contrast, saturation, self.hue.turns()];
        functional::random_jitter(ranges, rng).try_for_each(|step| steps.push(step))?;
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

    fn is_geometric(&self) -> bool {
        false
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }

    fn validate(&self) -> Result<()> {
        check_range(NAME, "brightness", self.brightness.factors(), [0.0, f64::MAX])?;
        check_range(NAME, "contrast", self.contrast.factors(), [0.0, f64::MAX])?;
        check_range(NAME, "saturation", self.saturation.factors(), [0.0, f64::MAX])?;
        check_range(NAME, "hue", self.hue.turns(), [-0.5, 0.5])
    }
}
