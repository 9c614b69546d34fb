//! Samples drawn by weights.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{ClassWeights, Population, Sampler, SamplerEntry, described, invalid};
use crate::dataset::Fingerprint;
use crate::error::Result;
use crate::random::{self, Generator, Purpose};

const NAME: &str = "weighted";

/// Draws samples by weights, as PyTorch's `WeightedRandomSampler`.
///
/// With replacement (the default), each draw takes a sample with a probability proportional to its weight. Without
/// replacement, each sample comes at most once, and those of larger weight tend to come earlier (Efraimidis and
/// Spirakis 2006).
///
/// The weight of a sample with several labels is the largest of theirs, as in repeat factor sampling (Mahajan et al. 2018; Gupta
/// et al. 2019, "LVIS"): with a mean, frequent labels on the same image would take away what a rare one needs. Samples
/// without a label have the mean weight of the others, so they keep their share of the data set.
///
/// In a recipe: `data.sampler = { name = "weighted", weights = [1.0, 3.0] }`, one weight for each class, or
/// `weights = "balanced"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    /// The weight of a sample of each class.
    #[serde(default = "balanced")]
    weights: ClassWeights,
    /// Number of samples in an epoch.
    #[serde(default)]
    samples: Option<usize>,
    #[serde(default = "yes")]
    replacement: bool,
    /// The weight of each sample, in place of `weights`.
    #[serde(skip)]
    of_samples: Option<Vec<f64>>,
}

fn balanced() -> ClassWeights {
    ClassWeights::Balanced
}

fn yes() -> bool {
    true
}

impl Weighted {
    /// Weights of classes: that of a sample is the weight of its class, or the largest of those of its classes.
    pub fn new(weights: ClassWeights) -> Self {
        Self { weights, samples: None, replacement: true, of_samples: None }
    }

    /// One weight for each sample of the data set.
    pub fn of_samples(weights: impl Into<Vec<f64>>) -> Self {
        Self { of_samples: Some(weights.into()), ..Self::new(ClassWeights::Balanced) }
    }

    /// Sets the number of samples in an epoch. By default it is the size of the data set.
    pub fn samples(self, samples: usize) -> Self {
        Self { samples: Some(samples), ..self }
    }

    /// Sets whether a sample may come several times in an epoch.
    pub fn replacement(self, replacement: bool) -> Self {
        Self { replacement, ..self }
    }

    fn weights(&self, population: &Population) -> Vec<f64> {
        if let Some(weights) = &self.of_samples {
            return weights.clone();
        }
        let weights = self.weights.of(&population.class_counts());
        let weight = |&label: &u32| weights.get(label as usize).copied().unwrap_or(0.0);
        let largest = |index| population.labels_of(index).iter().map(weight).reduce(f64::max);
        let of_samples: Vec<Option<f64>> = (0..population.len()).map(largest).collect();
        let labelled = of_samples.iter().flatten();
        let without = match population.is_multi_label() {
            true => labelled.clone().sum::<f64>() / (labelled.count() as f64).max(1.0),
            // With one label, a sample of no class is one that cannot be read.
            false => 0.0,
        };
        of_samples.into_iter().map(|weight| weight.unwrap_or(without)).collect()
    }
}

impl Sampler for Weighted {
    fn order(&self, population: &Population, seed: u64, epoch: usize) -> Vec<usize> {
        let rng = &mut random::stream(seed, Purpose::Sample, epoch as u64);
        let (weights, count) = (self.weights(population), self.samples_per_epoch(population));
        match self.replacement {
            true => with_replacement(&weights, count, rng),
            false => without_replacement(&weights, count, rng),
        }
    }

    fn samples_per_epoch(&self, population: &Population) -> usize {
        let asked = self.samples.unwrap_or(population.len());
        if self.replacement {
            return asked;
        }
        let possible = self.weights(population).iter().filter(|weight| **weight > 0.0).count();
        asked.min(possible)
    }

    fn describe(&self) -> Description {
        let described = described(NAME, self);
        let Some(weights) = &self.of_samples else { return described };
        // A million weights have no place in a checkpoint. Their hash tells whether they are the same.
        let hash = Fingerprint::new("weights");
        let hash = weights.iter().fold(hash, |hash, weight| hash.number(weight.to_bits()));
        described.with("weights", format!("{} of samples, {}", weights.len(), hash.finish()))
    }

    fn check(&self, population: &Population) -> Result<()> {
        if self.samples == Some(0) {
            return Err(invalid("`weighted` has `samples` of 0; give at least 1"));
        }
        match &self.of_samples {
            None => self.weights.check(population.classes())?,
            Some(weights) if weights.len() != population.len() => {
                let (found, expected) = (weights.len(), population.len());
                return Err(invalid(format!(
                    "has {found} weights of samples; give {expected}, one for each sample"
                )));
            }
            Some(_) => {}
        }
        let weights = self.weights(population);
        let is_weight = |weight: &f64| *weight >= 0.0 && weight.is_finite();
        if weights.iter().all(is_weight) && weights.iter().any(|weight| *weight > 0.0) {
            return Ok(());
        }
        Err(invalid(
            "has impossible weights; give numbers that are not negative, and one above 0 of a class with samples",
        ))
    }
}

fn with_replacement(weights: &[f64], count: usize, rng: &mut Generator) -> Vec<usize> {
    let mut sum = 0.0;
    let ends: Vec<f64> = weights
        .iter()
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    // The last sample that can be drawn, for a draw that rounding puts at the very end.
    let last = weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0);
    let draw = |rng: &mut Generator| {
        let at = random::unit(rng) * sum;
        ends.partition_point(|end| *end <= at).min(last)
    };
    (0..count).map(|_| draw(rng)).collect()
}

fn without_replacement(weights: &[f64], count: usize, rng: &mut Generator) -> Vec<usize> {
    let mut keys: Vec<(f64, usize)> = Vec::with_capacity(weights.len());
    for (index, weight) in weights.iter().enumerate() {
        // Drawn for every sample, so that a weight of 0 does not move the draws of the others.
        let draw = 1.0 - random::unit(rng);
        if *weight > 0.0 {
            keys.push((-draw.ln() / weight, index));
        }
    }
    keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keys.into_iter().take(count).map(|(_, index)| index).collect()
}

pub(super) fn entry() -> SamplerEntry {
    SamplerEntry::of::<Weighted>(NAME, "samples drawn by weights of their classes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(order: &[usize], samples: usize) -> Vec<usize> {
        let mut counts = vec![0; samples];
        order.iter().for_each(|&index| counts[index] += 1);
        counts
    }

    #[test]
    fn draws_go_by_the_weights() {
        let population = Population::of_labels(vec![0, 0, 1, 1], 2);
        let weighted = Weighted::of_samples([1.0, 0.0, 2.0, 5.0]).samples(8000);
        let counts = counts(&weighted.order(&population, 3, 0), 4);
        // 1000, 2000 and 5000 expected, with deviations of 30, 39 and 43.
        assert_eq!(counts[1], 0);
        assert!(counts[0].abs_diff(1000) < 120 && counts[2].abs_diff(2000) < 160, "{counts:?}");
    }

    #[test]
    fn balanced_weights_give_every_class_the_same_share() {
        let labels: Vec<u32> = (0..100).map(|i| u32::from(i >= 90)).collect();
        let population = Population::of_labels(labels.clone(), 2);
        let order = Weighted::new(ClassWeights::Balanced).samples(4000).order(&population, 0, 1);
        let rare = order.iter().filter(|&&index| labels[index] == 1).count();
        assert!(rare.abs_diff(2000) < 130, "{rare}");
    }

    #[test]
    fn the_rarest_label_of_a_sample_counts() {
        let sets = [vec![0], vec![0, 1], vec![], vec![0], vec![2, 0], vec![0]];
        let population = Population::of_label_sets(sets, 3);
        let weighted = Weighted::new(ClassWeights::List(vec![1.0, 4.0, 0.5]));
        assert_eq!(weighted.weights(&population), [1.0, 4.0, 8.0 / 5.0, 1.0, 1.0, 1.0]);
        let balanced = Weighted::new(ClassWeights::Balanced).weights(&population);
        assert!(balanced[1] == balanced[4] && balanced[1] > 4.0 * balanced[0], "{balanced:?}");
        let none = Population::of_label_sets([vec![], vec![]], 3);
        assert!(weighted.check(&none).is_err());
    }

    #[test]
    fn without_replacement_no_sample_comes_twice() {
        let population = Population::of_labels(vec![0, 1, 1, 0, 1], 2);
        let weighted = Weighted::new(ClassWeights::List(vec![1.0, 0.0])).replacement(false);
        assert_eq!(weighted.samples_per_epoch(&population), 2);
        let mut order = weighted.order(&population, 0, 0);
        order.sort_unstable();
        assert_eq!(order, [0, 3]);
        // A heavy sample comes first most of the time.
        let heavy = Weighted::of_samples([1.0, 1.0, 8.0, 1.0, 1.0]).replacement(false);
        let first = |epoch| heavy.order(&population, 0, epoch)[0];
        let firsts = (0..600).filter(|&epoch| first(epoch) == 2).count();
        // Two thirds of 600 are 400, with a deviation of 12.
        assert!(firsts.abs_diff(400) < 48, "{firsts}");
    }

    #[test]
    fn impossible_weights_are_errors() {
        let population = Population::of_labels(vec![0, 1, 1], 3);
        let check = |sampler: Weighted, part: &str| {
            let error = sampler.check(&population).unwrap_err().to_string();
            assert!(error.starts_with("`sampler` ") && error.contains(part), "{error}");
        };
        check(Weighted::new(ClassWeights::List(vec![1.0])), "3 numbers, one for each class");
        check(Weighted::new(ClassWeights::List(vec![0.0, 0.0, 1.0])), "of a class with samples");
        check(Weighted::of_samples([1.0, 2.0]), "give 3, one for each sample");
        check(Weighted::of_samples([1.0, f64::NAN, 1.0]), "not negative");
        check(Weighted::new(ClassWeights::Balanced).samples(0), "`samples` of 0");
    }
}
