//! A transform that shifts and scales the values of each channel.

use serde::{Deserialize, Serialize};

use super::checks::check;
use super::{Description, PixelSteps, Transform, TransformEntry, describe};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::random::Generator;

const NAME: &str = "normalize";

/// Mean of ImageNet's training images: red, green and blue, in `0.0..=1.0`.
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's training images.
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<Normalize>(NAME, "subtracts the mean and divides by the deviation")
}

/// Subtracts `mean` and divides by `std`, for each channel. It comes after [`ToTensor`](super::ToTensor). The
/// [`Compose`](super::Compose) does the work. As an image transform it changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Normalize {
    /// Mean and standard deviation: one number for each channel or one for all, for values in `0.0..=1.0`. No
    /// deviation may be 0.
    pub fn new(mean: impl Into<Vec<f64>>, std: impl Into<Vec<f64>>) -> Self {
        Self { mean: mean.into(), std: std.into() }
    }

    /// The mean and standard deviation of ImageNet's training images.
    pub fn imagenet() -> Self {
        Self::new(IMAGENET_MEAN, IMAGENET_STD)
    }

    /// Mean and standard deviation of one channel.
    pub(super) fn of_channel(&self, channel: usize, channels: usize) -> Result<(f64, f64)> {
        let value = |values: &[f64]| match values {
            [one] => Ok(*one),
            values if values.len() == channels => Ok(values[channel]),
            values => {
                let reason =
                    format!("{} numbers for an image of {channels} channels", values.len());
                Err(Error::transform(NAME, reason))
            }
        };
        Ok((value(&self.mean)?, value(&self.std)?))
    }
}

impl Transform for Normalize {
    fn apply(&self, image: Image, _: &mut Generator) -> Result<Image> {
        Ok(image)
    }

    fn draw(&self, _: &mut PixelSteps, _: &mut Generator) -> Result<bool> {
        Ok(true)
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
        let possible = [&self.mean, &self.std].iter().all(|values| matches!(values.len(), 1 | 3));
        check(NAME, possible, "`mean` and `std` must have one number a channel, or one")?;
        let finite = self.mean.iter().chain(&self.std).all(|value| value.is_finite());
        check(NAME, finite, "`mean` and `std` must be finite numbers")?;
        check(NAME, self.std.iter().all(|&value| value > 0.0), "`std` must be greater than 0")
    }
}
