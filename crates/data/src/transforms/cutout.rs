//! A transform that covers a random square.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check;
use super::transform::{apply_drawn, by_cow};
use super::{Description, PixelStep, PixelSteps, Transform, TransformEntry, describe};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "cutout";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<Cutout>(NAME, "covers a random square")
}

/// Covers a square at a random place (DeVries and Taylor 2017, <https://arxiv.org/abs/1708.04552>).
///
/// The square lies within the image, as in Jordan 2024 (<https://arxiv.org/abs/2404.00498>). In the paper of 2017 it
/// may reach over the edge.
///
/// ```
/// use candle_vision_data::transforms::Cutout;
///
/// // The mean colour of CIFAR-10, which `normalize` then makes zero.
/// let cutout = Cutout::new(12).fill([125, 123, 114]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutout {
    size: usize,
    #[serde(default = "black")]
    fill: Vec<u8>,
}

fn black() -> Vec<u8> {
    vec![0]
}

impl Cutout {
    /// A black square with this side in pixels.
    pub fn new(size: usize) -> Self {
        Self { size, fill: black() }
    }

    /// Sets the colour of the square: one value for each channel, or one for all.
    pub fn fill(self, fill: impl Into<Vec<u8>>) -> Self {
        Self { fill: fill.into(), ..self }
    }
}

impl Transform for Cutout {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let ([height, width, channels], side) = (steps.shape(), self.size);
        if height < side || width < side {
            let reason =
                format!("cannot cover {side}x{side} pixels of an image of {height}x{width}");
            return Err(Error::transform(NAME, reason));
        }
        if ![1, channels].contains(&self.fill.len()) {
            let colours = self.fill.len();
            let reason = format!("`fill` has {colours} values for an image of {channels} channels");
            return Err(Error::transform(NAME, reason));
        }
        let top = random::below(rng, height - side + 1);
        let left = random::below(rng, width - side + 1);
        // Images have 1 or 3 channels, so that there is one value or one for each.
        let color = [0, 1, 2].map(|channel| self.fill[channel % self.fill.len()]);
        steps.push(PixelStep::Fill { top, left, height: side, width: side, color })?;
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe(NAME, self)
    }

    /// A mask keeps what it says about the covered pixels.
    fn is_geometric(&self) -> bool {
        false
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }

    fn validate(&self) -> Result<()> {
        check(NAME, self.size > 0, "`size` must be at least 1")?;
        check(
            NAME,
            !self.fill.is_empty(),
            "`fill` must have a value for each channel, or one for all",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_square_within_the_image_is_covered() -> Result<()> {
        let image = Image::new(7, 5, 3, vec![9; 7 * 5 * 3])?;
        let cutout = Cutout::new(3).fill([1, 2, 3]);
        let mut corners = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let covered = cutout.apply(image.clone(), &mut random::generator(seed))?;
            let places = (0..5).flat_map(|y| (0..7).map(move |x| (y, x)));
            let square: Vec<_> =
                places.filter(|&(y, x)| covered.pixel(x, y) == [1, 2, 3]).collect();
            let (top, left) = square[0];
            let expected: Vec<_> =
                (top..top + 3).flat_map(|y| (left..left + 3).map(move |x| (y, x))).collect();
            assert_eq!(square, expected);
            let rest = covered.pixels().iter().filter(|value| **value == 9).count();
            assert_eq!(rest, (7 * 5 - 9) * 3);
            corners.insert((top, left));
        }
        assert_eq!(corners.len(), 3 * 5);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() -> Result<()> {
        let image = Image::new(4, 3, 3, vec![0; 36])?;
        let message = |cutout: Cutout| {
            let error = cutout.apply(image.clone(), &mut random::generator(0)).unwrap_err();
            error.to_string()
        };
        assert!(message(Cutout::new(4)).contains("cannot cover 4x4 pixels of an image of 3x4"));
        assert!(
            message(Cutout::new(2).fill([1, 2])).contains("2 values for an image of 3 channels")
        );
        assert!(Cutout::new(0).validate().is_err() && Cutout::new(1).fill([]).validate().is_err());
        Ok(())
    }
}
