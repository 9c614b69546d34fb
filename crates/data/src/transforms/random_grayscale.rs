//! A transform that makes an image grey at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::checks::check_probability;
use super::transform::{apply_drawn, by_cow};
use super::{Description, PixelStep, PixelSteps, Transform, TransformEntry, describe};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_grayscale";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomGrayscale>(NAME, "makes the image grey with probability p")
}

/// Makes the image grey with probability `p`. The number of channels does not change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomGrayscale {
    p: f64,
}

impl RandomGrayscale {
    /// Grey with this probability, in `0.0..=1.0`.
    pub fn new(p: f64) -> Self {
        Self { p }
    }
}

impl Default for RandomGrayscale {
    /// Probability 0.1, as in torchvision.
    fn default() -> Self {
        Self { p: 0.1 }
    }
}

impl Transform for RandomGrayscale {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        apply_drawn(self, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        if random::chance(rng, self.p) {
            let [_, _, channels] = steps.shape();
            steps.push(PixelStep::Grayscale { channels })?;
        }
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
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
        check_probability(NAME, self.p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_a_share_of_p_becomes_grey_and_keeps_its_channels() -> Result<()> {
        let image = Image::new(1, 1, 3, vec![255, 0, 0])?;
        let mut grey = 0;
        for seed in 0..400 {
            let rng = &mut random::generator(seed);
            let result = RandomGrayscale::new(0.25).apply(image.clone(), rng)?;
            // Pillow's luma of pure red.
            let is_grey = result.pixels() == [76; 3];
            assert!(is_grey || result == image);
            grey += usize::from(is_grey);
        }
        // Expected 100 with a deviation of 9.
        assert!((60..140).contains(&grey), "{grey}");
        Ok(())
    }
}
