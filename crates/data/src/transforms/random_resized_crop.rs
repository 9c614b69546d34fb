//! A transform that cuts out a part of random area and aspect ratio and scales it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::arguments::Antialias;
use super::checks::{check_range, check_size};
use super::transform::by_cow;
use super::{Cropping, Description, Interpolation, Size, Stream, Transform, TransformEntry};
use super::{describe, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

const NAME: &str = "random_resized_crop";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomResizedCrop>(
        NAME,
        "cuts out a part of random area and aspect ratio and scales it to a size",
    )
}

/// Cuts out a part of random area and aspect ratio and scales it to `size`. This is the usual augmentation for
/// ImageNet.
///
/// ```
/// use candle_vision_data::transforms::RandomResizedCrop;
///
/// let crop = RandomResizedCrop::new(224).scale(0.35, 1.0).ratio(0.75, 1.33);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    size: Size,
    #[serde(default = "default_scale")]
    scale: [f64; 2],
    #[serde(default = "default_ratio")]
    ratio: [f64; 2],
    #[serde(default)]
    interpolation: Interpolation,
    #[serde(default, skip_serializing)]
    antialias: Antialias,
}

fn default_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

impl RandomResizedCrop {
    /// The side of a square in pixels, or `[height, width]`. The other settings are torchvision's defaults.
    pub fn new(size: impl Into<Size>) -> Self {
        Self {
            size: size.into(),
            scale: default_scale(),
            ratio: default_ratio(),
            interpolation: Interpolation::default(),
            antialias: Antialias,
        }
    }

    /// Sets the least and largest share of the image's area, in `0.0..=1.0`. The default is 0.08 and 1.
    pub fn scale(self, least: f64, most: f64) -> Self {
        Self { scale: [least, most], ..self }
    }

    /// Sets the least and largest aspect ratio, width / height. It is drawn log-uniformly. The default is 3/4
    /// and 4/3.
    pub fn ratio(self, least: f64, most: f64) -> Self {
        Self { ratio: [least, most], ..self }
    }

    /// Sets how values between pixels are computed. The default is bilinear.
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }
}

impl Cropping for RandomResizedCrop {
    fn part(&self, size: [usize; 2], rng: &mut Generator) -> [usize; 4] {
        functional::random_part(size, self.scale, self.ratio, rng)
    }

    fn finish(&self, part: Image) -> Result<Image> {
        let (height, width) = self.size.square();
        functional::resize(&part, height, width, self.interpolation)
    }
}

impl Transform for RandomResizedCrop {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let (height, width) = self.size.square();
        let part = self.part([image.height(), image.width()], rng);
        functional::resized_crop(&image, part, height, width, self.interpolation).map(Cow::Owned)
    }

    fn as_cropping(&self) -> Option<&dyn Cropping> {
        Some(self)
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
        check_size(NAME, self.size)?;
        check_range(NAME, "scale", self.scale, [f64::MIN_POSITIVE, 1.0])?;
        check_range(NAME, "ratio", self.ratio, [f64::MIN_POSITIVE, f64::MAX])
    }
}
