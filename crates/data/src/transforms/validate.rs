//! The ranges of the transforms' arguments.

use super::{Interpolation, Size, Transform};
use crate::error::{Error, Result};
use crate::image::MAX_SIDE;

impl Transform {
    /// Checks the arguments.
    ///
    /// # Errors
    /// If one is out of its range.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Resize { size, .. }
            | Self::CenterCrop { size }
            | Self::RandomCrop { size, .. } => self.check_size(*size),
            Self::RandomResizedCrop { size, scale, ratio, .. } => {
                self.check_size(*size)?;
                self.check_range("scale", *scale, f64::MIN_POSITIVE, 1.0)?;
                self.check_range("ratio", *ratio, f64::MIN_POSITIVE, f64::MAX)
            }
            Self::RandomHorizontalFlip { p } | Self::RandomVerticalFlip { p } => {
                self.check_range("p", [*p, *p], 0.0, 1.0)
            }
            Self::RandomRotation { degrees, interpolation, .. } => {
                self.check(
                    *interpolation != Interpolation::Bicubic,
                    "`interpolation` must be `nearest` or `bilinear`",
                )?;
                self.check_range("degrees", degrees.range(), f64::MIN, f64::MAX)
            }
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                self.check_range("brightness", brightness.factors(), 0.0, f64::MAX)?;
                self.check_range("contrast", contrast.factors(), 0.0, f64::MAX)?;
                self.check_range("saturation", saturation.factors(), 0.0, f64::MAX)?;
                self.check_range("hue", hue.turns(), -0.5, 0.5)
            }
            Self::Grayscale { channels } => {
                self.check(matches!(channels, 1 | 3), "`channels` must be 1 or 3")
            }
            Self::Pad { padding, .. } => {
                let fits = padding.sides().iter().all(|&side| side <= MAX_SIDE);
                self.check(fits, "`padding` must be at most 16384 a side")
            }
            Self::ToTensor => Ok(()),
            Self::Normalize { mean, std } => {
                let lengths = [mean.len(), std.len()];
                let possible = lengths.iter().all(|length| matches!(length, 1 | 3));
                self.check(possible, "`mean` and `std` must have one number a channel, or one")?;
                let finite = mean.iter().chain(std).all(|value| value.is_finite());
                self.check(finite, "`mean` and `std` must be finite numbers")?;
                self.check(std.iter().all(|&value| value > 0.0), "`std` must be greater than 0")
            }
        }
    }

    fn check(&self, holds: bool, rule: &str) -> Result<()> {
        if holds { Ok(()) } else { Err(Error::transform(self.op(), rule)) }
    }

    fn check_size(&self, size: Size) -> Result<()> {
        let (height, width) = size.square();
        let sides = 1..=MAX_SIDE;
        let possible = sides.contains(&height) && sides.contains(&width);
        self.check(possible, "`size` must be 1 to 16384 pixels a side")
    }

    fn check_range(&self, name: &str, [low, high]: [f64; 2], least: f64, most: f64) -> Result<()> {
        // Written so that NaN fails.
        if least <= low && low <= high && high <= most {
            return Ok(());
        }
        let found = if low == high { format!("{low}") } else { format!("{low} to {high}") };
        let reason = format!("`{name}` is out of range or not ascending: {found}");
        Err(Error::transform(self.op(), reason))
    }
}
