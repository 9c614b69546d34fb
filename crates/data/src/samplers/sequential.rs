//! The order of the data set.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Population, Sampler, SamplerEntry, described};

const NAME: &str = "sequential";

/// Shows each sample once, in the order of the data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequential {}

impl Sequential {
    /// The order of the data set.
    pub fn new() -> Self {
        Self {}
    }
}

impl Sampler for Sequential {
    fn order(&self, population: &Population, _seed: u64, _epoch: usize) -> Vec<usize> {
        (0..population.len()).collect()
    }

    fn describe(&self) -> Description {
        described(NAME, self)
    }
}

pub(super) fn entry() -> SamplerEntry {
    SamplerEntry::of::<Sequential>(NAME, "each sample once, in the order of the data set")
}
