//! Where the samples of a shard lie, and their labels.

use crate::label_sets::LabelSets;

/// Where an image lies in its shard, and its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) bytes: u32,
    /// Its first label or 0, if it has a list of labels.
    pub(super) label: u32,
}

/// The samples of a shard.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) places: Vec<Place>,
    /// All labels of each sample, if a sample of the shard has a list of labels.
    pub(super) lists: Option<LabelSets>,
}

impl Placed {
    /// The labels of sample `number`.
    pub(super) fn labels_of(&self, number: usize) -> &[u32] {
        match &self.lists {
            Some(lists) => lists.of(number),
            None => std::slice::from_ref(&self.places[number].label),
        }
    }

    /// The largest label, if there is any.
    pub(super) fn largest_label(&self) -> Option<u32> {
        match &self.lists {
            Some(lists) => lists.all().iter().copied().max(),
            None => self.places.iter().map(|place| place.label).max(),
        }
    }
}
