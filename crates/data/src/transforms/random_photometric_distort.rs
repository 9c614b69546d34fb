//! A transform that changes colours as the SSD detector's training does.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::{check_probability, check_range};
use super::random_channel_permutation::random_order;
use super::same_size::SameSize;
use super::{PixelStep, TransformEntry, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_photometric_distort";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomPhotometricDistort>(
        NAME,
        "changes brightness, contrast, saturation, hue and the order of channels, each with probability p",
    )
}

/// Changes brightness, contrast, saturation and hue by random factors and exchanges the channels, each with probability `p`
/// (Liu et al. 2016, <https://arxiv.org/abs/1512.02325>).
///
/// The ranges are those of the factors, and that of the turn of the hue. Contrast changes before or after saturation
/// and hue, at random.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomPhotometricDistort {
    brightness: [f64; 2],
    contrast: [f64; 2],
    saturation: [f64; 2],
    hue: [f64; 2],
    p: f64,
}

impl Default for RandomPhotometricDistort {
    fn default() -> Self {
        Self::new()
    }
}

impl RandomPhotometricDistort {
    /// torchvision's defaults.
    pub fn new() -> Self {
        Self {
            brightness: [0.875, 1.125],
            contrast: [0.5, 1.5],
            saturation: [0.5, 1.5],
            hue: [-0.05, 0.05],
            p: 0.5,
        }
    }

    /// Sets the range of the factor for brightness.
    pub fn brightness(self, least: f64, most: f64) -> Self {
        Self { brightness: [least, most], ..self }
    }

    /// Sets the range of the factor for contrast.
    pub fn contrast(self, least: f64, most: f64) -> Self {
        Self { contrast: [least, most], ..self }
    }

    /// Sets the range of the factor for saturation.
    pub fn saturation(self, least: f64, most: f64) -> Self {
        Self { saturation: [least, most], ..self }
    }

    /// Sets the range of the turn of the hue, in `-0.5..=0.5`.
    pub fn hue(self, least: f64, most: f64) -> Self {
        Self { hue: [least, most], ..self }
    }

    /// Sets the probability of each change, in `0.0..=1.0`. The default is 0.5.
    pub fn p(self, p: f64) -> Self {
        Self { p, ..self }
    }

    /// The changes of colour, in their order.
    pub(super) fn draw_steps(&self, rng: &mut Generator) -> Vec<PixelStep> {
        let mut factor = |[least, most]: [f64; 2]| {
            random::chance(rng, self.p).then(|| random::between(rng, least, most))
        };
        let brightness = factor(self.brightness).map(|by| PixelStep::Brightness(by as f32));
        let contrast = factor(self.contrast).map(|by| PixelStep::Contrast(by as f32));
        let saturation = factor(self.saturation).map(|by| PixelStep::Saturation(by as f32));
        let hue = factor(self.hue).map(|turn| PixelStep::Hue(functional::hue_shift(turn)));
        let is_first = random::chance(rng, 0.5);
        let (before, after) = if is_first { (contrast, None) } else { (None, contrast) };
        [brightness, before, saturation, hue, after].into_iter().flatten().collect()
    }
}

impl SameSize for RandomPhotometricDistort {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = false;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let steps = self.draw_steps(rng);
        let order = random::chance(rng, self.p).then(|| random_order(rng));
        let changed = steps.into_iter().try_fold(image, |image, step| step.apply(image))?;
        Ok(match order {
            Some(order) => Cow::Owned(functional::permute_channels(&changed, order)),
            None => changed,
        })
    }

    fn check(&self) -> Result<()> {
        check_range(NAME, "brightness", self.brightness, [0.0, f64::MAX])?;
        check_range(NAME, "contrast", self.contrast, [0.0, f64::MAX])?;
        check_range(NAME, "saturation", self.saturation, [0.0, f64::MAX])?;
        check_range(NAME, "hue", self.hue, [-0.5, 0.5])?;
        check_probability(NAME, self.p)
    }
}
