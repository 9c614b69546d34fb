//! A new order for each epoch.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Population, Sampler, SamplerEntry, described};
use crate::random;

const NAME: &str = "shuffled";

/// Shows each sample once, in a new order in each epoch. It is what
/// [`LoaderConfig::shuffle`](crate::LoaderConfig::shuffle) asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shuffled {}

impl Shuffled {
    /// A new order for each epoch.
    pub fn new() -> Self {
        Self {}
    }
}

impl Sampler for Shuffled {
    fn order(&self, population: &Population, seed: u64, epoch: usize) -> Vec<usize> {
        // A data set may be slow to read in any order but its own.
        if let Some(order) = population.dataset().and_then(|set| set.shuffled_order(seed, epoch)) {
            return order;
        }
        // Runs from before there were samplers have this order, and must keep it when they go on.
        let mut order: Vec<usize> = (0..population.len()).collect();
        random::shuffle(&mut random::of_epoch(seed, epoch), &mut order);
        order
    }

    fn orders_of_ranks(
        &self,
        population: &Population,
        seed: u64,
        epoch: usize,
        ranks: usize,
    ) -> Option<Vec<Vec<usize>>> {
        population.dataset()?.shuffled_orders(seed, epoch, ranks)
    }

    fn files_of_ranks(&self, population: &Population) -> Option<usize> {
        population.dataset()?.shuffled_files()
    }

    fn describe(&self) -> Description {
        described(NAME, self)
    }
}

pub(super) fn entry() -> SamplerEntry {
    SamplerEntry::of::<Shuffled>(NAME, "each sample once, in a new order in each epoch")
}
