//! Each sample several times in a row.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Population, Sampler, SamplerEntry, Shuffled, described, invalid};
use crate::error::Result;

const NAME: &str = "repeated_augmentation";

/// Shows each sample several times in a row, augmented anew each time (Hoffer et al. 2020, "Augment your batch").
///
/// An epoch is as long as the data set. So it shows only a share of the samples, another one in each epoch, as
/// torchvision's and timm's `RASampler`.
///
/// In a recipe: `data.sampler = { name = "repeated_augmentation", repeats = 3 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeatedAugmentation {
    #[serde(default = "three")]
    repeats: usize,
}

fn three() -> usize {
    3
}

impl RepeatedAugmentation {
    /// Each sample `repeats` times in a row, at least once. torchvision's default is 3.
    pub fn new(repeats: usize) -> Self {
        Self { repeats }
    }
}

impl Sampler for RepeatedAugmentation {
    fn order(&self, population: &Population, seed: u64, epoch: usize) -> Vec<usize> {
        let shuffled = Shuffled::new().order(population, seed, epoch).into_iter();
        let repeated = shuffled.flat_map(|index| std::iter::repeat_n(index, self.repeats));
        repeated.take(population.len()).collect()
    }

    fn describe(&self) -> Description {
        described(NAME, self)
    }

    fn check(&self, _population: &Population) -> Result<()> {
        match self.repeats {
            0 => Err(invalid("`repeated_augmentation` has `repeats` of 0; give at least 1")),
            _ => Ok(()),
        }
    }
}

pub(super) fn entry() -> SamplerEntry {
    let summary = "a share of the samples, each several times in a row, augmented anew";
    SamplerEntry::of::<RepeatedAugmentation>(NAME, summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_as_long_as_the_data_set() {
        let population = Population::of_labels(vec![0; 10], 1);
        let order = RepeatedAugmentation::new(3).order(&population, 1, 0);
        assert_eq!(order.len(), 10);
        let runs: Vec<usize> = order.chunk_by(|a, b| a == b).map(<[usize]>::len).collect();
        assert_eq!(runs, [3, 3, 3, 1]);
        assert!(RepeatedAugmentation::new(0).check(&population).is_err());
    }
}
