//! Every class equally often.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Population, Sampler, SamplerEntry, described, invalid};
use crate::error::Result;
use crate::random::{self, Purpose};

const NAME: &str = "balanced";

/// Shows every class equally often, up to one sample.
///
/// A class goes through all its samples before one comes again, and goes on in the next epoch where it was. So a rare
/// class repeats its samples within an epoch, each time augmented anew, and a frequent class shows other samples in each
/// epoch. Over many epochs, all samples of a class are shown equally often. Drawing with replacement ([`Weighted`]
/// with balanced weights) has the same shares, but leaves some samples out by chance.
///
/// In a recipe: `data.sampler = "balanced"`.
///
/// [`Weighted`]: super::Weighted
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balanced {
    /// Number of samples in an epoch.
    #[serde(default)]
    samples: Option<usize>,
}

impl Balanced {
    /// Every class equally often, in epochs as long as the data set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of samples in an epoch.
    pub fn samples(self, samples: usize) -> Self {
        Self { samples: Some(samples) }
    }
}

impl Sampler for Balanced {
    fn order(&self, population: &Population, seed: u64, epoch: usize) -> Vec<usize> {
        let mut members = population.members();
        members.retain(|of_class| !of_class.is_empty());
        let (classes, total) = (members.len(), self.samples_per_epoch(population));
        let mut order = Vec::with_capacity(total);
        for (class, of_class) in members.iter().enumerate() {
            // The parts of a whole number that are rounded down add up to it (Hermite's identity), so each epoch has
            // `total` samples.
            let shown_before = |epoch: usize| (epoch * total + class) / classes;
            let mut turn = Turn { of_class, seed, class, number: None, shuffled: Vec::new() };
            order.extend((shown_before(epoch)..shown_before(epoch + 1)).map(|at| turn.sample(at)));
        }
        random::shuffle(&mut random::of_epoch(seed, epoch), &mut order);
        order
    }

    fn samples_per_epoch(&self, population: &Population) -> usize {
        self.samples.unwrap_or(population.len())
    }

    fn describe(&self) -> Description {
        described(NAME, self)
    }

    fn check(&self, population: &Population) -> Result<()> {
        if self.samples == Some(0) {
            return Err(invalid("`balanced` has `samples` of 0; give at least 1"));
        }
        match population.class_counts().iter().any(|count| *count > 0) {
            true => Ok(()),
            false => Err(invalid("`balanced` needs a sample with a class")),
        }
    }
}

/// The endless sequence of a class's samples: all of them in one order, then all in another, and so on.
struct Turn<'a> {
    of_class: &'a [usize],
    seed: u64,
    class: usize,
    /// Which order `shuffled` is.
    number: Option<usize>,
    shuffled: Vec<usize>,
}

impl Turn<'_> {
    fn sample(&mut self, at: usize) -> usize {
        let number = at / self.of_class.len();
        if self.number != Some(number) {
            self.number = Some(number);
            self.shuffled = self.of_class.to_vec();
            let stream = random::pair(number, self.class);
            let rng = &mut random::stream(self.seed, Purpose::Sample, stream);
            random::shuffle(rng, &mut self.shuffled);
        }
        self.shuffled[at % self.of_class.len()]
    }
}

pub(super) fn entry() -> SamplerEntry {
    SamplerEntry::of::<Balanced>(NAME, "every class equally often; rare ones repeat their samples")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10, 3, 1 and 0 samples of four classes.
    fn skewed() -> Population {
        let labels = [[0; 10].as_slice(), &[1; 3], &[2; 1]].concat();
        Population::of_labels(labels, 4)
    }

    #[test]
    fn classes_differ_by_at_most_one_sample() {
        let population = skewed();
        for (samples, epoch) in [(14, 0), (14, 1), (14, 7), (5, 2), (100, 3)] {
            let order = Balanced::new().samples(samples).order(&population, 1, epoch);
            assert_eq!(order.len(), samples);
            let mut counts = [0; 3];
            order.iter().for_each(|&index| counts[population.labels()[index] as usize] += 1);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{counts:?}");
        }
    }

    #[test]
    fn over_many_epochs_all_samples_of_a_class_come_equally_often() {
        let population = skewed();
        let mut shown = [0_usize; 14];
        for epoch in 0..30 {
            for index in Balanced::new().order(&population, 5, epoch) {
                shown[index] += 1;
            }
        }
        let spread = |part: &[usize]| part.iter().max().unwrap() - part.iter().min().unwrap();
        assert!(spread(&shown[..10]) <= 1 && spread(&shown[10..13]) <= 1, "{shown:?}");
    }
}
