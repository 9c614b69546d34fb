//! Parts of a data set: chosen samples, and splits that keep the share of each class.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dataset::{Dataset, Fingerprint, Sample, check_index};
use crate::error::{Error, Result};
use crate::image::ChoosePart;
use crate::random::{self, Purpose};

/// Some samples of a data set, in a given order, with its classes.
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The samples at `indices`, in that order. An index may occur several times.
    ///
    /// # Errors
    /// If the data set has no sample at one of the indices.
    pub fn new(dataset: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        indices.iter().try_for_each(|&index| check_index(index, dataset.len()))?;
        Ok(Self { dataset, indices })
    }

    /// The places here of samples of the data set, in the order of these.
    fn places_of(&self, order: Vec<usize>) -> Vec<usize> {
        let mut places: HashMap<usize, Vec<usize>> = HashMap::new();
        for (place, &index) in self.indices.iter().enumerate() {
            places.entry(index).or_default().push(place);
        }
        order.into_iter().filter_map(|index| places.remove(&index)).flatten().collect()
    }
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (len, of) = (self.indices.len(), self.dataset.len());
        f.debug_struct("Subset").field("len", &len).field("of", &of).finish_non_exhaustive()
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        check_index(index, self.len())?;
        self.dataset.sample(self.indices[index])
    }

    fn sample_part(&self, index: usize, choose: &mut ChoosePart<'_>) -> Result<Sample> {
        check_index(index, self.len())?;
        self.dataset.sample_part(self.indices[index], choose)
    }

    fn image_file(&self, index: usize) -> Result<Option<Vec<u8>>> {
        check_index(index, self.len())?;
        self.dataset.image_file(self.indices[index])
    }

    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.dataset.label(self.indices[index])
    }

    fn label_set(&self, index: usize) -> Vec<u32> {
        self.dataset.label_set(self.indices[index])
    }

    fn is_multi_label(&self) -> bool {
        self.dataset.is_multi_label()
    }

    fn shuffled_order(&self, seed: u64, epoch: usize) -> Option<Vec<usize>> {
        Some(self.places_of(self.dataset.shuffled_order(seed, epoch)?))
    }

    fn shuffled_orders(&self, seed: u64, epoch: usize, ranks: usize) -> Option<Vec<Vec<usize>>> {
        let whole = self.dataset.shuffled_orders(seed, epoch, ranks)?.concat();
        // Ranks may have lost different numbers of samples.
        let mut places = self.places_of(whole).into_iter();
        let (each, larger) = (self.len() / ranks, self.len() % ranks);
        let own = |rank| places.by_ref().take(each + usize::from(rank < larger)).collect();
        Some((0..ranks).map(own).collect())
    }

    fn shuffled_files(&self) -> Option<usize> {
        self.dataset.shuffled_files()
    }

    fn name(&self, index: usize) -> String {
        self.dataset.name(self.indices[index])
    }

    fn fingerprint(&self) -> String {
        let whole = Fingerprint::new("subset").text(&self.dataset.fingerprint());
        self.indices.iter().fold(whole, |hash, &index| hash.number(index as u64)).finish()
    }

    fn exif_orientation(&self) -> bool {
        self.dataset.exif_orientation()
    }

    fn in_memory(&self) -> bool {
        self.dataset.in_memory()
    }

    fn is_cacheable(&self) -> bool {
        self.dataset.is_cacheable()
    }
}

/// Divides samples into parts so that each part has about the same share of every class.
///
/// - `labels`: the class of each sample
/// - `fractions`: the share of each part, in `0.0..=1.0`; their sum is at most 1, and the rest is in no part
/// - returns the sample indices of each part, ascending; no sample is in two parts
///
/// Each part whose fraction is not 0 gets at least one sample of every class that occurs. For samples with several labels there is
/// [`stratified_split_of_sets`](crate::stratified_split_of_sets).
///
/// # Errors
/// If a fraction is out of range, or a class has fewer samples than there are parts.
///
/// # Example
/// ```
/// let labels = [0, 0, 0, 0, 1, 1, 1, 1];
/// let parts = candle_vision_data::stratified_split(&labels, &[0.75, 0.25], 42)?;
/// assert_eq!((parts[0].len(), parts[1].len()), (6, 2));
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
pub fn stratified_split(labels: &[u32], fractions: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    check_fractions(fractions)?;
    let classes = labels.iter().max().map_or(0, |&most| most as usize + 1);
    let mut parts = vec![Vec::new(); fractions.len()];
    for class in 0..classes {
        let mut members: Vec<usize> =
            (0..labels.len()).filter(|&index| labels[index] as usize == class).collect();
        if members.is_empty() {
            continue;
        }
        random::shuffle(&mut random::stream(seed, Purpose::Split, class as u64), &mut members);
        let mut rest = members.as_slice();
        for (part, count) in parts.iter_mut().zip(part_sizes(members.len(), fractions, class)?) {
            let (taken, left) = rest.split_at(count);
            part.extend_from_slice(taken);
            rest = left;
        }
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    Ok(parts)
}

pub(crate) fn check_fractions(fractions: &[f64]) -> Result<()> {
    let in_range = fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction));
    // A small tolerance is needed, because 0.7 + 0.2 + 0.1 is not exactly 1 in binary.
    if in_range && fractions.iter().sum::<f64>() <= 1.0 + 1e-9 {
        return Ok(());
    }
    let reason = format!("{fractions:?} must be in 0..=1 each and at most 1 in all");
    Err(Error::InvalidSetting { setting: "fractions", reason })
}

/// How many of a class's `members` each part gets. The ends of the parts are rounded. Then every part gets at
/// least one.
pub(crate) fn part_sizes(members: usize, fractions: &[f64], class: usize) -> Result<Vec<usize>> {
    let wanted = fractions.iter().filter(|&&fraction| fraction > 0.0).count();
    if members < wanted {
        let reason = format!("ask for {wanted} parts, but class {class} has {members} samples");
        return Err(Error::InvalidSetting { setting: "fractions", reason });
    }
    let end = |part: usize| {
        let share: f64 = fractions[..part].iter().sum();
        ((members as f64 * share).round() as usize).min(members)
    };
    let mut sizes: Vec<usize> =
        (0..fractions.len()).map(|part| end(part + 1) - end(part)).collect();
    for part in 0..sizes.len() {
        if sizes[part] > 0 || fractions[part] == 0.0 {
            continue;
        }
        // Samples that are in no part are used first. After that the largest part gives one up.
        if sizes.iter().sum::<usize>() == members {
            let largest = (0..sizes.len()).max_by_key(|&other| sizes[other]).unwrap_or(part);
            sizes[largest] -= 1;
        }
        sizes[part] = 1;
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_sizes(members: usize, fractions: &[f64], expected: &[usize]) {
        assert_eq!(part_sizes(members, fractions, 0).unwrap(), expected);
    }

    #[test]
    fn parts_have_their_shares() {
        check_sizes(10, &[0.8, 0.2], &[8, 2]);
        check_sizes(10, &[0.7, 0.2, 0.1], &[7, 2, 1]);
        check_sizes(2, &[0.9, 0.1], &[1, 1]);
        check_sizes(3, &[0.98, 0.01, 0.01], &[1, 1, 1]);
        check_sizes(10, &[0.5, 0.0], &[5, 0]);
        check_sizes(4, &[0.1], &[1]);
    }

    #[test]
    fn split_is_disjoint_stratified_and_seeded() {
        let labels: Vec<u32> = (0..100).map(|index| u32::from(index % 5 == 0)).collect();
        let parts = stratified_split(&labels, &[0.8, 0.2], 1).unwrap();
        let of_class_1 = |part: &[usize]| part.iter().filter(|&&i| labels[i] == 1).count();
        assert_eq!((parts[0].len(), parts[1].len()), (80, 20));
        assert_eq!((of_class_1(&parts[0]), of_class_1(&parts[1])), (16, 4));
        let mut all = parts.concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(parts, stratified_split(&labels, &[0.8, 0.2], 1).unwrap());
        assert_ne!(parts, stratified_split(&labels, &[0.8, 0.2], 2).unwrap());
    }

    #[test]
    fn impossible_fractions_are_errors() {
        assert!(stratified_split(&[0, 1], &[0.5, 0.5], 0).is_err());
        assert!(stratified_split(&[0, 0], &[0.9, 0.2], 0).is_err());
        assert!(stratified_split(&[0, 0], &[f64::NAN], 0).is_err());
        assert!(stratified_split(&[0, 0], &[-0.1], 0).is_err());
        assert!(stratified_split(&[], &[0.5, 0.5], 0).unwrap().concat().is_empty());
    }
}
