//! The samples that a sampler chooses from.

use std::sync::{Arc, OnceLock};

use crate::dataset::{Dataset, labels};
use crate::label_sets::LabelSets;

/// The samples that a [`Sampler`](super::Sampler) chooses from: how many there are, and their classes.
///
/// Labels are read when a sampler asks for them first, because a data set may have to decode its images for them.
///
/// ```
/// use candle_vision_data::samplers::Population;
///
/// let population = Population::of_label_sets([vec![0, 2], vec![], vec![2]], 3);
/// assert_eq!((population.labels_of(0), population.labels_of(1)), (&[0, 2][..], &[][..]));
/// assert_eq!(population.class_counts(), [1, 0, 2]);
/// assert_eq!(population.without_label(), [1]);
/// ```
#[derive(Clone)]
pub struct Population {
    dataset: Option<Arc<dyn Dataset>>,
    known: OnceLock<Known>,
    len: usize,
    classes: usize,
}

/// The labels of all samples.
#[derive(Clone)]
struct Known {
    /// The only label of each sample, or its first.
    labels: Vec<u32>,
    /// All labels of each sample, if a sample may have several.
    sets: Option<LabelSets>,
}

impl Known {
    fn of_dataset(dataset: &dyn Dataset) -> Self {
        if !dataset.is_multi_label() {
            return Self { labels: labels(dataset), sets: None };
        }
        let sets = (0..dataset.len()).map(|index| dataset.label_set(index));
        Self::of_sets(sets, dataset.classes().len())
    }

    fn of_sets(sets: impl Iterator<Item = Vec<u32>>, classes: usize) -> Self {
        let once = |set: Vec<u32>| {
            let mut kept = Vec::with_capacity(set.len());
            for label in set {
                if (label as usize) < classes && !kept.contains(&label) {
                    kept.push(label);
                }
            }
            kept
        };
        let sets: LabelSets = sets.map(once).collect();
        let first = |set: &[u32]| set.first().copied().unwrap_or(u32::MAX);
        Self { labels: sets.iter().map(first).collect(), sets: Some(sets) }
    }
}

impl Population {
    /// The samples of a data set.
    pub fn new(dataset: Arc<dyn Dataset>) -> Self {
        let (len, classes) = (dataset.len(), dataset.classes().len());
        Self { dataset: Some(dataset), known: OnceLock::new(), len, classes }
    }

    /// Samples with these labels. A label that is not below `classes` belongs to no class.
    pub fn of_labels(labels: Vec<u32>, classes: usize) -> Self {
        let len = labels.len();
        let known = OnceLock::from(Known { labels, sets: None });
        Self { dataset: None, known, len, classes }
    }

    /// Samples of which each has several labels or none. Labels that are not below `classes` are left out.
    pub fn of_label_sets(sets: impl IntoIterator<Item = Vec<u32>>, classes: usize) -> Self {
        let known = Known::of_sets(sets.into_iter(), classes);
        let len = known.labels.len();
        Self { dataset: None, known: OnceLock::from(known), len, classes }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(|| {
            let none = || Known { labels: Vec::new(), sets: None };
            self.dataset.as_deref().map_or_else(none, Known::of_dataset)
        })
    }

    /// Whether a sample may have several labels or none ([`Dataset::is_multi_label`]).
    pub fn is_multi_label(&self) -> bool {
        match &self.dataset {
            Some(dataset) => dataset.is_multi_label(),
            None => self.known().sets.is_some(),
        }
    }

    /// The label of each sample, or its first label if a sample may have several. It is not below the number of classes if the
    /// sample cannot be read or has no label. [`Population::labels_of`] has all labels.
    pub fn labels(&self) -> &[u32] {
        &self.known().labels
    }

    /// All labels of a sample, each once. There are none if the sample has no label or cannot be read.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn labels_of(&self, index: usize) -> &[u32] {
        let known = self.known();
        match &known.sets {
            Some(sets) => sets.of(index),
            None if (known.labels[index] as usize) < self.classes => &known.labels[index..=index],
            None => &[],
        }
    }

    pub(super) fn dataset(&self) -> Option<&dyn Dataset> {
        self.dataset.as_deref()
    }

    /// Number of samples of each class. A sample of several labels counts for each of them.
    pub fn class_counts(&self) -> Vec<usize> {
        self.members().iter().map(Vec::len).collect()
    }

    /// How often each class comes in an order of samples. A sample of several labels counts for each of them.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn counts_in(&self, order: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        let labels = order.iter().flat_map(|&index| self.labels_of(index));
        labels.for_each(|&label| counts[label as usize] += 1);
        counts
    }

    /// The samples of each class, ascending. A sample of several labels is in each of their classes.
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.classes];
        for index in 0..self.len {
            self.labels_of(index).iter().for_each(|&label| members[label as usize].push(index));
        }
        members
    }

    /// The samples of no class, ascending: those without a label, and those that cannot be read.
    pub fn without_label(&self) -> Vec<usize> {
        (0..self.len).filter(|&index| self.labels_of(index).is_empty()).collect()
    }
}

impl std::fmt::Debug for Population {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Population")
            .field("len", &self.len)
            .field("classes", &self.classes)
            .finish()
    }
}
