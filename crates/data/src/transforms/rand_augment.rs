//! RandAugment.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::augment_op::{AugmentOp, Kind, Look, auto_augment_choice};
use super::augmentation::{Augmentation, ForMasks, apply_all};
use super::checks::check;
use super::same_size::SameSize;
use super::{Fill, Interpolation, Transform, TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "rand_augment";

/// What it chooses from.
const KINDS: [Kind; 14] = [
    Kind::Identity,
    Kind::ShearX,
    Kind::ShearY,
    Kind::TranslateX,
    Kind::TranslateY,
    Kind::Rotate,
    Kind::Brightness,
    Kind::Color,
    Kind::Contrast,
    Kind::Sharpness,
    Kind::Posterize,
    Kind::Solarize,
    Kind::AutoContrast,
    Kind::Equalize,
];

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandAugment>(NAME, "applies random operations of equal strength")
}

/// Applies operations of a fixed strength that are chosen at random (Cubuk et al. 2019,
/// <https://arxiv.org/abs/1909.13719>).
///
/// ```
/// use candle_vision_data::transforms::RandAugment;
///
/// let augment = RandAugment::new().num_ops(2).magnitude(9);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    num_ops: usize,
    magnitude: usize,
    num_magnitude_bins: usize,
    interpolation: Interpolation,
    fill: Fill,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self::new()
    }
}

impl RandAugment {
    /// torchvision's defaults: two operations of strength 9 of 30.
    pub fn new() -> Self {
        Self {
            num_ops: 2,
            magnitude: 9,
            num_magnitude_bins: 31,
            interpolation: Interpolation::Nearest,
            fill: Fill::default(),
        }
    }

    /// Sets how many operations follow each other.
    pub fn num_ops(self, num_ops: usize) -> Self {
        Self { num_ops, ..self }
    }

    /// Sets the strength: a number below [`RandAugment::num_magnitude_bins`].
    pub fn magnitude(self, magnitude: usize) -> Self {
        Self { magnitude, ..self }
    }

    /// Sets the number of strengths. The default is 31.
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

impl Augmentation for RandAugment {
    fn ops(&self, size: [usize; 2], rng: &mut Generator) -> Vec<AugmentOp> {
        let op = |_| {
            let kind = KINDS[random::below(rng, KINDS.len())];
            auto_augment_choice(kind).draw(self.magnitude, self.num_magnitude_bins, size, rng)
        };
        (0..self.num_ops).map(op).collect()
    }

    fn look(&self) -> Look {
        Look { interpolation: self.interpolation, fill: self.fill.color() }
    }
}

impl SameSize for RandAugment {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = true;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_all(self, image, rng)
    }

    fn check(&self) -> Result<()> {
        functional::check_warp(NAME, self.interpolation)?;
        let is_below = self.magnitude < self.num_magnitude_bins && self.num_magnitude_bins >= 2;
        check(
            NAME,
            is_below,
            "`magnitude` must be below `num_magnitude_bins`, which is 2 or more",
        )?;
        check(NAME, self.num_ops <= 100, "`num_ops` must be at most 100")
    }

    fn for_masks(&self) -> Option<Arc<dyn Transform>> {
        Some(Arc::new(ForMasks(*self)))
    }
}
