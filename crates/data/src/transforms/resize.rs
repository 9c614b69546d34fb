//! A transform that scales an image.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::arguments::Antialias;
use super::checks::{check, check_size};
use super::transform::by_cow;
use super::{
    CenterCrop, Description, Interpolation, PixelSteps, Size, Transform, TransformEntry, describe,
    functional,
};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

const NAME: &str = "resize";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<Resize>(NAME, "scales the image, with antialiasing as Pillow's")
}

/// Scales the image with antialiasing, as Pillow does.
///
/// If `size` is one number, it is the length of the shorter side, and the aspect ratio does not change. It may
/// also be `[height, width]`. Without a size, `max_size` is the length of the longer side.
///
/// ```
/// use candle_vision_data::transforms::{Interpolation, Resize, Transform};
///
/// let resize = Resize::new(256).interpolation(Interpolation::Bicubic);
/// assert_eq!(resize.output_size(Some((300, 400))), Some((256, 341)));
/// assert_eq!(Resize::new([224, 320]).output_size(None), Some((224, 320)));
/// assert_eq!(Resize::longest(200).output_size(Some((300, 400))), Some((150, 200)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
    #[serde(default)]
    interpolation: Interpolation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_size: Option<u32>,
    #[serde(default, skip_serializing)]
    antialias: Antialias,
}

impl Resize {
    /// Scales to this size in pixels, with bilinear interpolation.
    pub fn new(size: impl Into<Size>) -> Self {
        Self { size: Some(size.into()), ..Self::default() }
    }

    /// Scales so that the longer side has this length in pixels, with bilinear interpolation.
    pub fn longest(max_size: u32) -> Self {
        Self { max_size: Some(max_size), ..Self::default() }
    }

    /// Sets how values between pixels are computed. The default is bilinear.
    pub fn interpolation(self, interpolation: Interpolation) -> Self {
        Self { interpolation, ..self }
    }

    /// Sets the longest side. If the longer side would exceed it, it becomes `max_size`, and the shorter one is shorter than
    /// `size`.
    pub fn max_size(self, max_size: u32) -> Self {
        Self { max_size: Some(max_size), ..self }
    }

    /// Height and width of the scaled image.
    fn target(&self, height: usize, width: usize) -> (usize, usize) {
        let (high, wide) = match self.size {
            Some(size) => functional::resized_size(height, width, size),
            None => (height, width),
        };
        match self.max_size.map(|most| most as usize) {
            Some(most) if high.max(wide) > most || self.size.is_none() => {
                // The fraction is dropped, as in torchvision.
                let short = (most * high.min(wide) / high.max(wide).max(1)).max(1);
                if high < wide { (short, most) } else { (most, short) }
            }
            _ => (high, wide),
        }
    }

    /// The middle of the scaled image, for images whose scaled form would be too large. A long strip would be
    /// scaled to hundreds of megabytes, of which the crop uses only the middle. `None` if the two steps can be
    /// done one after the other.
    pub(super) fn with_center_crop(
        &self,
        crop: &CenterCrop,
        image: &Image,
    ) -> Option<Result<Image>> {
        let (height, width) = self.target(image.height(), image.width());
        if functional::fits(height, width) {
            return None;
        }
        let (rows, columns) = crop.size.square();
        let sizes = ([height, width], [rows, columns]);
        Some(functional::resized_center(image, sizes.0, sizes.1, self.interpolation))
    }
}

impl Transform for Resize {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, _: &mut Generator) -> Result<Cow<'a, Image>> {
        let (height, width) = self.target(image.height(), image.width());
        if (image.height(), image.width()) == (height, width) {
            return Ok(image);
        }
        functional::resize(&image, height, width, self.interpolation).map(Cow::Owned)
    }

    /// Only where it changes nothing. Scaling with Pillow's rounding is left to the host.
    fn draw(&self, steps: &mut PixelSteps, _: &mut Generator) -> Result<bool> {
        let [height, width, _] = steps.shape();
        Ok(self.target(height, width) == (height, width))
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        match self.size {
            Some(Size::HeightWidth([height, width])) => Some((height as usize, width as usize)),
            _ => before.map(|(height, width)| self.target(height, width)),
        }
    }

    fn validate(&self) -> Result<()> {
        let Some(size) = self.size else {
            let most = self.max_size.map(Size::One);
            check(NAME, most.is_some(), "needs `size`, or `max_size` for the longer side")?;
            return most.map_or(Ok(()), |most| check_size(NAME, most));
        };
        check_size(NAME, size)?;
        let fits = match (self.max_size, size) {
            (None, _) => true,
            (Some(most), Size::One(shorter)) => most > shorter,
            (Some(_), Size::HeightWidth(_)) => false,
        };
        check(NAME, fits, "`max_size` must be greater than `size`, which is one number then")
    }
}
