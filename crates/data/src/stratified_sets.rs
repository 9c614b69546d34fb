//! Splits of samples with several labels that keep the share of each label.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::random::{self, Generator, Purpose};
use crate::subset::{check_fractions, part_sizes};

/// Numbers that differ by less count as equal: shares such as 0.2 are not exact in binary.
const TOLERANCE: f64 = 1e-9;

/// Divides samples with several labels or none into parts so that each part has about the same share of every label.
///
/// This is the iterative stratification of Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data": of
/// the labels with samples left, the one with the fewest is dealt out first, because later there would be no choice left for it.
/// Each of its samples goes to the part that still wants most of this label, then to the one that wants most samples, then to one
/// by chance. Samples without a label are dealt out as if that were a label of its own.
///
/// - `label_sets`: the labels of each sample
/// - `fractions`: the share of each part, in `0.0..=1.0`; their sum is at most 1, and the rest is in no part
/// - returns the sample indices of each part, ascending; no sample is in two parts
///
/// A part whose fraction is not 0 wants at least one sample of every label that has as many samples as there are parts. The
/// samples of rarer labels go to the largest parts.
///
/// # Errors
/// If a fraction is out of range.
///
/// # Example
/// ```
/// // Two labels that each half of the samples has, in all combinations.
/// let combinations = [&[][..], &[0], &[1], &[0, 1]];
/// let sets: Vec<&[u32]> = combinations.into_iter().cycle().take(40).collect();
/// let parts = candle_vision_data::stratified_split_of_sets(&sets, &[0.8, 0.2], 42)?;
/// let with = |label, part: usize| parts[part].iter().filter(|&&i| sets[i].contains(&label)).count();
/// assert_eq!([with(0, 0), with(0, 1), with(1, 0), with(1, 1)], [16, 4, 16, 4]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub fn stratified_split_of_sets(
    label_sets: &[impl AsRef<[u32]>],
    fractions: &[f64],
    seed: u64,
) -> Result<Vec<Vec<usize>>> {
    check_fractions(fractions)?;
    let rng = &mut random::stream(seed, Purpose::Split, u64::MAX);
    let mut order: Vec<usize> = (0..label_sets.len()).collect();
    random::shuffle(rng, &mut order);
    let mut by_label = BTreeMap::<Option<u32>, Vec<usize>>::new();
    for index in order {
        let mut labels: Vec<Option<u32>> =
            label_sets[index].as_ref().iter().copied().map(Some).collect();
        labels.sort_unstable();
        labels.dedup();
        if labels.is_empty() {
            labels.push(None);
        }
        labels.into_iter().for_each(|label| by_label.entry(label).or_default().push(index));
    }
    let groups: Vec<Vec<usize>> = by_label.into_values().collect();
    let mut parts = dealt(&groups, label_sets.len(), fractions, rng)?;
    // What is in no part was dealt out as the last one.
    parts.truncate(fractions.len());
    parts.iter_mut().for_each(|part| part.sort_unstable());
    Ok(parts)
}

/// The samples of each part, and of one more for the rest. `groups` are the samples of each label.
fn dealt(
    groups: &[Vec<usize>],
    samples: usize,
    fractions: &[f64],
    rng: &mut Generator,
) -> Result<Vec<Vec<usize>>> {
    let mut of_sample = vec![Vec::new(); samples];
    for (group, members) in groups.iter().enumerate() {
        members.iter().for_each(|&index| of_sample[index].push(group));
    }
    let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
    let wanted = sizes.iter().map(|&members| wanted(members, fractions));
    let mut wanted = wanted.collect::<Result<Vec<_>>>()?;
    let mut wanted_in_all = shares(samples, fractions);
    let mut left = sizes;
    let mut waiting: BTreeSet<(usize, usize)> = left.iter().copied().zip(0..).collect();
    let mut parts = vec![Vec::new(); fractions.len() + 1];
    let mut is_dealt = vec![false; samples];
    while let Some((_, group)) = waiting.pop_first() {
        for &index in &groups[group] {
            if std::mem::replace(&mut is_dealt[index], true) {
                continue;
            }
            let part = neediest(&wanted[group], &wanted_in_all, rng);
            parts[part].push(index);
            wanted_in_all[part] -= 1.0;
            for &other in &of_sample[index] {
                wanted[other][part] -= 1.0;
                if waiting.remove(&(left[other], other)) {
                    left[other] -= 1;
                    if left[other] > 0 {
                        waiting.insert((left[other], other));
                    }
                }
            }
        }
    }
    Ok(parts)
}

/// How many of a label's samples each part wants, and the rest.
fn wanted(members: usize, fractions: &[f64]) -> Result<Vec<f64>> {
    let parts = fractions.iter().filter(|&&fraction| fraction > 0.0).count();
    if members < parts {
        return Ok(shares(members, fractions));
    }
    let mut sizes = part_sizes(members, fractions, 0)?;
    sizes.push(members - sizes.iter().sum::<usize>());
    Ok(sizes.into_iter().map(|size| size as f64).collect())
}

/// The share of each part, and the rest.
fn shares(samples: usize, fractions: &[f64]) -> Vec<f64> {
    let rest = 1.0 - fractions.iter().sum::<f64>();
    fractions.iter().chain([&rest]).map(|fraction| fraction * samples as f64).collect()
}

/// The part that wants most samples of a label, then most samples, then one by chance.
fn neediest(of_label: &[f64], of_all: &[f64], rng: &mut Generator) -> usize {
    let most = |among: Vec<usize>, wanted: &[f64]| -> Vec<usize> {
        let most = among.iter().map(|&part| wanted[part]).fold(f64::NEG_INFINITY, f64::max);
        among.into_iter().filter(|&part| wanted[part] >= most - TOLERANCE).collect()
    };
    let best = most(most((0..of_label.len()).collect(), of_label), of_all);
    if best.len() == 1 { best[0] } else { best[random::below(rng, best.len())] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 400 samples: label `n` has each with a chance of `1 / 2^(n + 1)`, so a sixteenth or so has none.
    fn skewed() -> Vec<Vec<u32>> {
        let rng = &mut random::generator(3);
        let set = |rng: &mut Generator| {
            (0..6_u32)
                .filter(|&label| random::chance(rng, 0.5_f64.powi(label as i32 + 1)))
                .collect()
        };
        (0..400).map(|_| set(rng)).collect()
    }

    #[test]
    fn every_label_has_its_share_in_every_part() -> Result<()> {
        let sets = skewed();
        for fractions in [&[0.8, 0.2][..], &[0.7, 0.2, 0.1], &[0.5, 0.0, 0.25]] {
            let parts = stratified_split_of_sets(&sets, fractions, 1)?;
            let has = |index: usize, label: Option<u32>| match label {
                Some(label) => sets[index].contains(&label),
                None => sets[index].is_empty(),
            };
            for label in (0..6).map(Some).chain([None]) {
                let all = (0..400).filter(|&index| has(index, label)).count() as f64;
                for (part, &fraction) in parts.iter().zip(fractions) {
                    let found = part.iter().filter(|&&index| has(index, label)).count();
                    assert!((found as f64 - fraction * all).abs() <= 2.0, "{found} of {all}");
                }
            }
            let mut all = parts.concat();
            let dealt = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), dealt, "no sample is in two parts");
            assert!(
                dealt.abs_diff((400.0 * fractions.iter().sum::<f64>()) as usize) <= 6,
                "{dealt}"
            );
        }
        Ok(())
    }

    #[test]
    fn the_seed_decides_and_rare_labels_are_in_each_part() -> Result<()> {
        let sets = [skewed(), vec![vec![0, 7], vec![7, 1], vec![8]]].concat();
        let parts = stratified_split_of_sets(&sets, &[0.8, 0.2], 1)?;
        assert_eq!(parts, stratified_split_of_sets(&sets, &[0.8, 0.2], 1)?);
        assert_ne!(parts, stratified_split_of_sets(&sets, &[0.8, 0.2], 2)?);
        // Of two samples each part gets one, and the only one of a label is to train on.
        assert!(parts[0].contains(&400) != parts[0].contains(&401), "{parts:?}");
        assert!(parts[0].contains(&402));
        assert!(stratified_split_of_sets(&sets, &[0.8, 0.3], 1).is_err());
        assert!(stratified_split_of_sets(&[[0_u32; 0]; 0], &[0.8], 1)?.concat().is_empty());
        Ok(())
    }
}
