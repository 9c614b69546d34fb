//! Batches with the class shares of the data set.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Population, Sampler, SamplerEntry, described};
use crate::random::{self, Purpose};

const NAME: &str = "stratified";

/// Shows each sample once, with every class spread evenly over the epoch.
///
/// So a batch has about the class shares of the data set: of each class as many samples as its share gives, up to one
/// more or less. A rare class does not come in clusters.
///
/// A sample with several labels is spread with those of its rarest one, because frequent labels are everywhere anyway (that rare
/// labels go first is the idea of Sechidis et al. 2011, "On the Stratification of Multi-Label Data"). Samples without a label are spread
/// as if they were a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stratified {}

impl Stratified {
    /// Every class evenly spread.
    pub fn new() -> Self {
        Self {}
    }
}

impl Sampler for Stratified {
    fn order(&self, population: &Population, seed: u64, epoch: usize) -> Vec<usize> {
        let counts = population.class_counts();
        // Samples without a class are spread as if they were one.
        let mut groups = vec![Vec::new(); counts.len() + 1];
        for index in 0..population.len() {
            let labels = population.labels_of(index).iter().map(|&label| label as usize);
            let rarest = labels.min_by_key(|&label| (counts[label], label));
            groups[rarest.unwrap_or(counts.len())].push(index);
        }
        let mut places = Vec::with_capacity(population.len());
        for (class, mut members) in groups.into_iter().enumerate() {
            let rng = &mut random::stream(seed, Purpose::Sample, random::pair(epoch, class));
            random::shuffle(rng, &mut members);
            let start = random::unit(rng);
            let count = members.len() as f64;
            places.extend(members.into_iter().enumerate().map(|(rank, index)| {
                let place = (rank as f64 + start) / count;
                (place, class, index)
            }));
        }
        places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        places.into_iter().map(|(_, _, index)| index).collect()
    }

    fn describe(&self) -> Description {
        described(NAME, self)
    }
}

pub(super) fn entry() -> SamplerEntry {
    let summary = "each sample once, with every class spread evenly over the epoch";
    SamplerEntry::of::<Stratified>(NAME, summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_batch_has_about_the_shares_of_the_data_set() {
        let labels: Vec<u32> = (0..200).map(|i| u32::from(i % 10 == 0)).collect();
        let population = Population::of_labels(labels.clone(), 2);
        for epoch in 0..5 {
            let order = Stratified::new().order(&population, 3, epoch);
            for batch in order.chunks(20) {
                let rare = batch.iter().filter(|&&index| labels[index] == 1).count();
                assert!((1..=3).contains(&rare), "{rare}");
            }
        }
    }

    #[test]
    fn samples_without_a_class_come_too() {
        let population = Population::of_labels(vec![0, u32::MAX, 1, 0], 2);
        let mut order = Stratified::new().order(&population, 0, 0);
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
    }

    #[test]
    fn rare_labels_are_spread_among_several() {
        // Label 0 on every second sample, 1 on every tenth, 2 on every fortieth, in all combinations.
        let set = |i: u32| {
            [(0, 2), (1, 10), (2, 40)].into_iter().filter(move |n| (i + n.0).is_multiple_of(n.1))
        };
        let sets: Vec<Vec<u32>> = (0..400).map(|i| set(i).map(|n| n.0).collect()).collect();
        let population = Population::of_label_sets(sets.clone(), 3);
        let order = Stratified::new().order(&population, 3, 1);
        for half in order.chunks(200) {
            for (label, expected) in [(0, 100_usize), (1, 20), (2, 5)] {
                let found = half.iter().filter(|&&i| sets[i].contains(&label)).count();
                assert!(found.abs_diff(expected) <= 2, "{found} of label {label}");
            }
        }
        let mut all = order;
        all.sort_unstable();
        assert_eq!(all, (0..400).collect::<Vec<_>>());
    }
}
