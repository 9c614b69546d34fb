//! AugMix.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::augment_op::{AugmentOp, Choice, Kind, Look, Strength};
use super::checks::{check, check_range};
use super::same_size::SameSize;
use super::{Fill, Interpolation, TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "aug_mix";

/// Strengths are drawn from the first `severity` of these many.
const BINS: usize = 10;

/// What it chooses from. The last four only with `all_ops`: they overlap with the corruptions of the usual test sets.
const CHOICES: [Choice; 13] = [
    Choice(Kind::ShearX, Strength::UpTo(0.3)),
    Choice(Kind::ShearY, Strength::UpTo(0.3)),
    Choice(Kind::TranslateX, Strength::UpToShare(1.0 / 3.0)),
    Choice(Kind::TranslateY, Strength::UpToShare(1.0 / 3.0)),
    Choice(Kind::Rotate, Strength::UpTo(30.0)),
    Choice(Kind::Posterize, Strength::Bits(4.0, 0.0)),
    Choice(Kind::Solarize, Strength::Falling),
    Choice(Kind::AutoContrast, Strength::None),
    Choice(Kind::Equalize, Strength::None),
    Choice(Kind::Brightness, Strength::UpTo(0.9)),
    Choice(Kind::Color, Strength::UpTo(0.9)),
    Choice(Kind::Contrast, Strength::UpTo(0.9)),
    Choice(Kind::Sharpness, Strength::UpTo(0.9)),
];

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<AugMix>(NAME, "mixes the image with several chains of operations on it")
}

/// Mixes the image with several versions of itself, each changed by a random chain of operations (Hendrycks et al. 2019,
/// <https://arxiv.org/abs/1912.02781>).
///
/// ```
/// use candle_vision_data::transforms::AugMix;
///
/// let mix = AugMix::new().severity(5).mixture_width(2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugMix {
    severity: usize,
    mixture_width: usize,
    chain_depth: i64,
    alpha: f64,
    all_ops: bool,
    interpolation: Interpolation,
    fill: Fill,
}

impl Default for AugMix {
    fn default() -> Self {
        Self::new()
    }
}

impl AugMix {
    /// torchvision's defaults: severity 3, three chains of one to three operations, `alpha` 1, all operations.
    pub fn new() -> Self {
        Self {
            severity: 3,
            mixture_width: 3,
            chain_depth: -1,
            alpha: 1.0,
            all_ops: true,
            interpolation: Interpolation::Bilinear,
            fill: Fill::default(),
        }
    }

    /// Sets the largest strength, from 1 to 10.
    pub fn severity(self, severity: usize) -> Self {
        Self { severity, ..self }
    }

    /// Sets the number of chains, at least 1.
    pub fn mixture_width(self, mixture_width: usize) -> Self {
        Self { mixture_width, ..self }
    }

    /// Sets the length of each chain. With -1, the default, it is drawn from 1 to 3.
    pub fn chain_depth(self, chain_depth: i64) -> Self {
        Self { chain_depth, ..self }
    }

    /// Sets the concentration of the weights of the mixture, above 0.
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// Sets whether brightness, color, contrast and sharpness change too.
    pub fn all_ops(self, all_ops: bool) -> Self {
        Self { all_ops, ..self }
    }

    /// Sets the interpolation: nearest, bilinear, the default, or bicubic.
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets the colour of pixels that come from outside the image. The default is black.
    pub fn fill(self, fill: impl Into<Fill>) -> Self {
        Self { fill: fill.into(), ..self }
    }
}

impl AugMix {
    /// The operations of one chain.
    pub(super) fn chain(&self, size: [usize; 2], rng: &mut Generator) -> Vec<AugmentOp> {
        let choices = if self.all_ops { &CHOICES[..] } else { &CHOICES[..9] };
        let depth = match usize::try_from(self.chain_depth) {
            Ok(depth) if depth > 0 => depth,
            _ => 1 + random::below(rng, 3),
        };
        let op = |_| {
            let choice = choices[random::below(rng, choices.len())];
            let bin = random::below(rng, self.severity);
            choice.draw(bin, BINS, size, rng)
        };
        (0..depth).map(op).collect()
    }
}

impl SameSize for AugMix {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = true;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let size = [image.height(), image.width()];
        let look = Look { interpolation: self.interpolation, fill: self.fill.color() };
        let shares = random::dirichlet(rng, self.alpha, 2);
        let weights = random::dirichlet(rng, self.alpha, self.mixture_width);
        let scaled = |image: &Image, weight: f64| {
            let weight = weight as f32;
            image.pixels().iter().map(|&value| weight * f32::from(value)).collect::<Vec<_>>()
        };
        let mut mix = scaled(&image, shares[0]);
        for weight in weights {
            let mut changed = Cow::Borrowed(image.as_ref());
            for op in self.chain(size, rng) {
                changed = op.apply(changed, look)?;
            }
            let part = scaled(&changed, weight * shares[1]);
            mix.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        // The cast drops the fraction, as torchvision's does.
        let pixels = mix.into_iter().map(|value| value as u8).collect();
        Image::new(image.width(), image.height(), image.channels(), pixels).map(Cow::Owned)
    }

    fn check(&self) -> Result<()> {
        functional::check_warp(NAME, self.interpolation)?;
        check(NAME, (1..=BINS).contains(&self.severity), "`severity` must be 1 to 10")?;
        check(NAME, (1..=100).contains(&self.mixture_width), "`mixture_width` must be 1 to 100")?;
        check(NAME, self.chain_depth <= 100, "`chain_depth` must be at most 100")?;
        check_range(NAME, "alpha", [self.alpha; 2], [1e-6, 1e6])
    }
}
