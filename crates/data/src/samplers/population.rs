//! The samples that a sampler chooses from.

use std::sync::{Arc, OnceLock};

use crate::dataset::{Dataset, labels};

/// The samples that a [`Sampler`](super::Sampler) chooses from: how many there are, and their classes.
///
/// Labels are read when a sampler asks for them first, because a data set may have to decode its images for them.
#[derive(Clone)]
pub struct Population {
    dataset: Option<Arc<dyn Dataset>>,
    labels: OnceLock<Vec<u32>>,
    len: usize,
    classes: usize,
}

impl Population {
    /// The samples of a data set.
    pub fn new(dataset: Arc<dyn Dataset>) -> Self {
        let (len, classes) = (dataset.len(), dataset.classes().len());
        Self { dataset: Some(dataset), labels: OnceLock::new(), len, classes }
    }

    /// Samples with these labels. A label that is not below `classes` belongs to no class.
    pub fn of_labels(labels: Vec<u32>, classes: usize) -> Self {
        let len = labels.len();
        Self { dataset: None, labels: OnceLock::from(labels), len, classes }
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

    /// The label of each sample. It is not below the number of classes if the sample cannot be read.
    pub fn labels(&self) -> &[u32] {
        self.labels.get_or_init(|| self.dataset.as_deref().map_or_else(Vec::new, labels))
    }

    pub(super) fn dataset(&self) -> Option<&dyn Dataset> {
        self.dataset.as_deref()
    }

    /// Number of samples of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        self.members().iter().map(Vec::len).collect()
    }

    /// The samples of each class, ascending.
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.classes];
        for (index, &label) in self.labels().iter().enumerate() {
            if let Some(of_class) = members.get_mut(label as usize) {
                of_class.push(index);
            }
        }
        members
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
