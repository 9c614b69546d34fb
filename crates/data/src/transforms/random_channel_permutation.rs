//! A transform that exchanges the colour channels at random.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::same_size::SameSize;
use super::{TransformEntry, functional};
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

impl SameSize for RandomChannelPermutation {
    const NAME: &'static str = NAME;
    const MOVES_PIXELS: bool = false;

    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        Ok(Cow::Owned(functional::permute_channels(&image, random_order(rng))))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A random order of three channels.
pub(super) fn random_order(rng: &mut Generator) -> [usize; 3] {
    let mut order = [0, 1, 2];
    random::shuffle(rng, &mut order);
    order
}
