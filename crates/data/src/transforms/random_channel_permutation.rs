//! A transform that exchanges the colour channels at random.

use serde::{Deserialize, Serialize};

use super::{Description, Transform, TransformEntry, describe, functional};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_channel_permutation";

pub(super) fn entry() -> TransformEntry {
    TransformEntry::of::<RandomChannelPermutation>(NAME, "puts the channels into a random order")
}

/// Puts the channels into a random order. A grey image does not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomChannelPermutation {}

impl Transform for RandomChannelPermutation {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        Ok(functional::permute_channels(&image, random_order(rng)))
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
}

/// A random order of three channels.
pub(super) fn random_order(rng: &mut Generator) -> [usize; 3] {
    let mut order = [0, 1, 2];
    random::shuffle(rng, &mut order);
    order
}
