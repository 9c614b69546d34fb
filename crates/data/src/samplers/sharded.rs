//! The share of one process among several.

use std::sync::Arc;

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Population, Sampler, SamplerEntry, Shuffled, invalid};
use crate::error::{Error, Result};

const NAME: &str = "sharded";

/// Shows the share of one process, its rank, of another sampler's order, as PyTorch's `DistributedSampler`.
///
/// Rank `r` of `n` takes places `r`, `r + n`, `r + 2 n` and so on. So the batches of all ranks together are a batch of
/// the other sampler. All ranks have equally many samples: the order goes on from its beginning until it can be divided,
/// or with [`Sharded::drop_last`] its end is left out.
///
/// In a recipe: `data.sampler = { name = "sharded", rank = 0, ranks = 4, of = { name = "balanced" } }`.
#[derive(Clone, Debug)]
pub struct Sharded {
    of: Arc<dyn Sampler>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    rank: usize,
    ranks: usize,
    #[serde(default)]
    drop_last: bool,
}

impl Sharded {
    /// The share of `rank`, counted from 0, of `ranks`, of a shuffled order.
    pub fn new(rank: usize, ranks: usize) -> Self {
        let place = Place { rank, ranks, drop_last: false };
        Self { of: Arc::new(Shuffled::new()), place }
    }

    /// Sets the sampler whose order is divided.
    pub fn of(self, sampler: Arc<dyn Sampler>) -> Self {
        Self { of: sampler, ..self }
    }

    /// Sets whether samples that cannot be divided evenly are left out, instead of some coming twice.
    pub fn drop_last(self, drop_last: bool) -> Self {
        Self { place: Place { drop_last, ..self.place }, ..self }
    }

    fn share(&self, samples: usize) -> usize {
        let Place { ranks, drop_last, .. } = self.place;
        if drop_last { samples / ranks } else { samples.div_ceil(ranks) }
    }
}

impl Sampler for Sharded {
    fn order(&self, population: &Population, seed: u64, epoch: usize) -> Vec<usize> {
        let whole = self.of.order(population, seed, epoch);
        let Place { rank, ranks, .. } = self.place;
        let endless = whole.iter().cycle().skip(rank).step_by(ranks);
        endless.take(self.share(whole.len())).copied().collect()
    }

    fn samples_per_epoch(&self, population: &Population) -> usize {
        self.share(self.of.samples_per_epoch(population))
    }

    fn describe(&self) -> Description {
        let of = serde_json::to_value(self.of.describe());
        let of = of.expect("a description is a table of plain values");
        super::described(NAME, &self.place).with("of", of)
    }

    fn check(&self, population: &Population) -> Result<()> {
        let Place { rank, ranks, .. } = self.place;
        if rank >= ranks {
            let reason = format!("`sharded` has rank {rank} of {ranks}; ranks count from 0");
            return Err(invalid(reason));
        }
        self.of.check(population)?;
        match self.samples_per_epoch(population) {
            0 => Err(invalid(format!("`sharded` leaves nothing for each of {ranks} ranks"))),
            _ => Ok(()),
        }
    }
}

pub(super) fn entry() -> SamplerEntry {
    let summary = "one process's share of another sampler's order, by its rank";
    SamplerEntry::new(NAME, summary, |description, samplers| {
        let mut own = description.clone();
        let of = match own.settings.remove("of") {
            None => Arc::new(Shuffled::new()),
            // A name alone, as in `data.sampler` itself.
            Some(Value::String(name)) => samplers.build(&Description::named(name))?,
            Some(table) => {
                let of = serde_json::from_value(table).map_err(Error::other)?;
                samplers.build(&of)?
            }
        };
        Ok(Arc::new(Sharded { of, place: own.settings()? }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Balanced, Samplers};
    use super::*;

    #[test]
    fn ranks_together_show_the_whole_order() {
        let population = Population::of_labels(vec![0; 10], 1);
        let whole = Shuffled::new().order(&population, 7, 2);
        let rank = |rank| Sharded::new(rank, 4).order(&population, 7, 2);
        let ranks: Vec<Vec<usize>> = (0..4).map(rank).collect();
        assert!(ranks.iter().all(|order| order.len() == 3));
        let woven: Vec<usize> =
            (0..3).flat_map(|at| ranks.iter().map(move |order| order[at])).collect();
        assert_eq!(woven[..10], whole);
        assert_eq!(woven[10..], whole[..2]);
        let dropping = Sharded::new(3, 4).drop_last(true).order(&population, 7, 2);
        assert_eq!(dropping, [whole[3], whole[7]]);
    }

    #[test]
    fn its_description_builds_it_again() -> Result<()> {
        let sharded = Sharded::new(1, 2).of(Arc::new(Balanced::new().samples(6)));
        let built = Samplers::standard().build(&sharded.describe())?;
        assert_eq!(built.describe(), sharded.describe());
        let population = Population::of_labels(vec![0, 0, 0, 1], 2);
        assert_eq!(built.order(&population, 0, 0), sharded.order(&population, 0, 0));
        Ok(())
    }

    #[test]
    fn a_rank_that_is_none_is_an_error() {
        let population = Population::of_labels(vec![0; 2], 1);
        let error = |sampler: Sharded| sampler.check(&population).unwrap_err().to_string();
        assert!(error(Sharded::new(2, 2)).contains("rank 2 of 2"));
        assert!(error(Sharded::new(0, 3).drop_last(true)).contains("leaves nothing"));
    }
}
