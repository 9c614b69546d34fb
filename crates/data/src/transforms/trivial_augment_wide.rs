//! TrivialAugment.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::augment_op::{AugmentOp, Choice, Kind, Look, Strength};
use super::augmentation::{Augmentation, ForMasks, apply_all};
use super::checks::check;
use super::same_size::SameSize;
use super::{Fill, Interpolation, Transform, TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "trivial_augment_wide";

/// What it chooses from: the paper's wide space.
const CHOICES: [Choice; 14] = [
    Choice(Kind::Identity, Strength::None),
    Choice(Kind::ShearX, Strength::UpTo(0.99)),
    Choice(Kind::ShearY, Strength::UpTo(0.99)),
    Choice(Kind::TranslateX, Strength::UpTo(32.0)),
    Choice(Kind::TranslateY, Strength::UpTo(32.0)),
    Choice(Kind::Rotate, Strength::UpTo(135.0)),
    Choice(Kind::Brightness, Strength::UpTo(0.99)),
    Choice(Kind::Color, Strength::UpTo(0.99)),
    Choice(Kind::Contrast, Strength::UpTo(0.99)),
    Choice(Kind::Sharpness, Strength::UpTo(0.99)),
    Choice(Kind::Posterize, Strength::Bits(8.0, 2.0)),
    Choice(Kind::Solarize, Strength::Falling),
    Choice(Kind::AutoContrast, Strength::None),
    Choice(Kind::Equalize, Strength::None),
];

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<TrivialAugmentWide>(
        NAME,
        "applies one random operation of random strength",
    )
}

/// Applies one operation of a strength, both chosen at random (Müller and Hutter 2021,
/// <https://arxiv.org/abs/2103.10158>). It has nothing to tune.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrivialAugmentWide {
    num_magnitude_bins: usize,
    interpolation: Interpolation,
    fill: Fill,
}

impl Default for TrivialAugmentWide {
    fn default() -> Self {
        Self::new()
    }
}

impl TrivialAugmentWide {
    /// torchvision's defaults: 31 strengths.
    pub fn new() -> Self {
        let interpolation = Interpolation::Nearest;
        Self { num_magnitude_bins: 31, interpolation, fill: Fill::default() }
    }

    /// Sets the number of strengths, 2 or more.
    pub fn num_magnitude_bins(self, num_magnitude_bins: usize) -> Self {
        Self { num_magnitude_bins, ..self }
    }

    /// Sets the interpolation: nearest, the default, bilinear or bicubic.
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets the colour of pixels that come from outside the image. The default is black.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }
}

impl Augmentation for TrivialAugmentWide {
    fn ops(&self, size: [usize; 2], rng: &mut Generator) -> Vec<AugmentOp> {
        let choice = CHOICES[random::below(rng, CHOICES.len())];
        let bin = random::below(rng, self.num_magnitude_bins);
        vec![choice.draw(bin, self.num_magnitude_bins, size, rng)]
    }

    fn look(&self) -> Look {
        Look { interpolation: self.interpolation, fill: self.fill.color() }
    }
}

impl SameSize for TrivialAugmentWide {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = true;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_all(self, image, rng)
    }

    fn check(&self) -> Result<()> {
        functional::check_warp(NAME, self.interpolation)?;
        check(NAME, self.num_magnitude_bins >= 2, "`num_magnitude_bins` must be 2 or more")
    }

    fn for_masks(&self) -> Option<Arc<dyn Transform>> {
        Some(Arc::new(ForMasks(*self)))
    }
}
