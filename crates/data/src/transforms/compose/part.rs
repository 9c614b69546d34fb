//! Lists that begin with a transform that uses only a part of its image.

use std::borrow::Cow;

use super::{Compose, Positions};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;
use crate::transforms::Cropping;

/// A list whose first transform uses only a part of its image, while it is applied to one image. First comes
/// [`PartFirst::part`], once. The image of this part goes to one of the others.
pub(crate) struct PartFirst<'a> {
    compose: &'a Compose,
    first: &'a dyn Cropping,
    own: Positions,
}

impl<'a> PartFirst<'a> {
    /// `None` if the first transform needs the whole image.
    pub(crate) fn of(compose: &'a Compose, rng: &Generator) -> Option<Self> {
        let first = compose.steps.first()?.transform.as_cropping()?;
        let steps = &compose.steps[..compose.to_tensor_position().ok()?];
        Some(Self { compose, first, own: Positions::before(steps, rng) })
    }

    /// The part `[top, left, height, width]` of an image of `[height, width]`.
    pub(crate) fn part(&self, size: [usize; 2], rng: &mut Generator) -> [usize; 4] {
        match self.own.generator(&self.compose.steps[0]) {
            Some(mut own) => self.first.part(size, &mut own),
            None => self.first.part(size, rng),
        }
    }

    /// As [`Compose::append`], for the part.
    pub(crate) fn append(
        self,
        part: Image,
        rng: &mut Generator,
        values: &mut Vec<f32>,
    ) -> Result<[usize; 3]> {
        let compose = self.compose;
        compose.append_values(&self.rest(part, rng)?, values)
    }

    /// As [`Compose::append_pixels`], for the part.
    pub(crate) fn append_pixels(
        self,
        part: Image,
        rng: &mut Generator,
        pixels: &mut Vec<u8>,
    ) -> Result<[usize; 3]> {
        let compose = self.compose;
        compose.append_bytes(&self.rest(part, rng)?, pixels)
    }

    fn rest(self, part: Image, rng: &mut Generator) -> Result<Image> {
        let image = self.first.finish(part)?;
        let steps = &self.compose.steps[1..self.compose.to_tensor_position()?];
        Compose::apply_steps(steps, self.own, Cow::Owned(image), rng).map(Cow::into_owned)
    }
}
