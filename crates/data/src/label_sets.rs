//! The labels of many samples, one list behind the other.

/// A list of labels for each sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSets {
    /// Where the labels of each sample end.
    ends: Vec<usize>,
    labels: Vec<u32>,
}

impl LabelSets {
    /// Adds the labels of the next sample.
    pub(crate) fn push(&mut self, labels: impl IntoIterator<Item = u32>) {
        self.labels.extend(labels);
        self.ends.push(self.labels.len());
    }

    /// The labels of sample `index`.
    pub(crate) fn of(&self, index: usize) -> &[u32] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.labels[start..self.ends[index]]
    }

    /// The labels of each sample, in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        (0..self.ends.len()).map(|index| self.of(index))
    }

    /// The labels of all samples, one after the other.
    pub(crate) fn all(&self) -> &[u32] {
        &self.labels
    }
}

impl<S: IntoIterator<Item = u32>> FromIterator<S> for LabelSets {
    fn from_iter<I: IntoIterator<Item = S>>(sets: I) -> Self {
        let mut all = Self::default();
        sets.into_iter().for_each(|set| all.push(set));
        all
    }
}
