//! What automatic augmentations have in common: a chain of operations that is drawn for each image.

use std::borrow::Cow;
use std::fmt::Debug;

use super::Transform;
use super::augment_op::{AugmentOp, Look};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

/// An augmentation that draws a chain of operations for an image of `[height, width]`.
pub(super) trait Augmentation: Debug + Send + Sync + 'static {
    fn ops(&self, size: [usize; 2], rng: &mut Generator) -> Vec<AugmentOp>;

    fn look(&self) -> Look;
}

/// Applies the chain that is drawn.
pub(super) fn apply_all<'a>(
    augmentation: &impl Augmentation,
    image: Cow<'a, Image>,
    rng: &mut Generator,
) -> Result<Cow<'a, Image>> {
    let ops = augmentation.ops([image.height(), image.width()], rng);
    ops.into_iter().try_fold(image, |image, op| op.apply(image, augmentation.look()))
}

/// The operations of an augmentation that move pixels, for a mask.
#[derive(Debug)]
pub(super) struct ForMasks<A>(pub(super) A);

impl<A: Augmentation> Transform for ForMasks<A> {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        let ops = self.0.ops([image.height(), image.width()], rng);
        let moving = ops.into_iter().filter(|op| op.is_geometric());
        let image = Cow::Owned(image);
        Ok(moving
            .into_iter()
            .try_fold(image, |image, op| op.apply(image, self.0.look()))?
            .into_owned())
    }

    fn is_random(&self) -> bool {
        true
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }
}
