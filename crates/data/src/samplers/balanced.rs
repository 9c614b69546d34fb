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
/// With several labels, each class has the same number of turns (class-aware sampling, Shen et al. 2016, "Relay Backpropagation for
/// Effective Learning of Deep Convolutional Neural Networks"). A sample is shown in the turns of each of its labels, so its chance is
/// mainly that of its rarest one. A class that comes with others is shown more often than its turns, because whole images
/// are chosen. Samples without a label keep their share of the data set.
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
        // With one label, a sample of no class is one that cannot be read.
        let without = match population.is_multi_label() {
            true => population.without_label(),
            false => Vec::new(),
        };
        let (classes, total) = (members.len(), self.samples_per_epoch(population));
        let without_before = |epoch: usize| share(epoch * total, without.len(), population.len());
        let mut order = Vec::with_capacity(total);
        for (class, of_class) in members.iter().enumerate() {
            // The parts of a whole number that are rounded down add up to it (Hermite's identity), so each epoch has
            // `total` samples.
            let shown_before =
                |epoch: usize| (epoch * total - without_before(epoch) + class) / classes;
            let mut turn = Turn { of_class, seed, class, number: None, shuffled: Vec::new() };
            order.extend((shown_before(epoch)..shown_before(epoch + 1)).map(|at| turn.sample(at)));
        }
        let of_class = &without;
        let mut turn = Turn { of_class, seed, class: classes, number: None, shuffled: Vec::new() };
        order.extend((without_before(epoch)..without_before(epoch + 1)).map(|at| turn.sample(at)));
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

/// The share `part / whole` of a count, rounded down.
fn share(count: usize, part: usize, whole: usize) -> usize {
    // A product of two counts may need more than 64 bits.
    (count as u128 * part as u128).checked_div(whole as u128).unwrap_or(0) as usize
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

    /// 60 samples: label 0 on all of the first 40, labels 1 and 2 on few of them, 20 without a label.
    fn several() -> Population {
        let set = |i: u32| match i {
            40.. => vec![],
            _ => [Some(0), (i < 8).then_some(1), (i == 3).then_some(2)]
                .into_iter()
                .flatten()
                .collect(),
        };
        Population::of_label_sets((0..60).map(set), 4)
    }

    #[test]
    fn with_several_labels_rare_ones_come_more_often_and_none_keeps_its_share() {
        let population = several();
        for epoch in 0..4 {
            let order = Balanced::new().order(&population, 1, epoch);
            assert_eq!(order.len(), 60);
            let shown = |label| {
                order.iter().filter(|&&index| population.labels_of(index).contains(&label)).count()
            };
            let without = order.iter().filter(|&&index| index >= 40).count();
            assert_eq!(without, 20);
            // 40 turns of three classes. All have label 0, so it comes in every turn.
            assert!(shown(0) == 40 && shown(1) >= 26 && shown(2) >= 13, "{order:?}");
        }
        let of_labels = Population::of_label_sets((0..30).map(|i| vec![u32::from(i >= 24)]), 2);
        let one = Population::of_labels((0..30).map(|i| u32::from(i >= 24)).collect(), 2);
        let order = |population| Balanced::new().order(population, 7, 3);
        assert_eq!(order(&of_labels), order(&one), "one label each is no special case");
    }
}
