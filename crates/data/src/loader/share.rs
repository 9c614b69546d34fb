//! What one of several processes loads of an epoch.

use std::ops::Range;

use crate::error::{Error, Result};

/// Which part of an epoch a loader gives, if several processes ("ranks") load the same data set. All ranks have the same
/// settings and so the same order of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Share {
    /// All of it.
    #[default]
    All,
    /// For training: `batch_size` samples of each batch of `ranks * batch_size`. All ranks have as many batches, and each
    /// sample is in exactly one of them. The last batch is shared out evenly. If it has fewer samples than there are ranks,
    /// they belong to the batch before it.
    Samples {
        /// The number of this process, from 0.
        rank: usize,
        /// The number of processes.
        ranks: usize,
    },
    /// For evaluation: whole batches, the ranks in turns. A batch has the samples that it has in one process.
    Batches {
        /// The number of this process, from 0.
        rank: usize,
        /// The number of processes.
        ranks: usize,
    },
}

impl Share {
    /// The rank and the number of ranks.
    pub fn ranks(self) -> (usize, usize) {
        match self {
            Self::All => (0, 1),
            Self::Samples { rank, ranks } | Self::Batches { rank, ranks } => (rank, ranks),
        }
    }

    pub(super) fn check(self, samples: usize) -> Result<()> {
        let (rank, ranks) = self.ranks();
        let reason = if rank >= ranks {
            format!("of rank {rank} among {ranks}: a rank lies below their number")
        } else if matches!(self, Self::Samples { .. }) && samples < ranks {
            format!(
                "for {ranks} ranks needs as many samples, and there are {samples}; use fewer ranks"
            )
        } else {
            return Ok(());
        };
        Err(Error::InvalidSetting { setting: "share", reason })
    }
}

/// Checks that each rank can read files of its own, if the data set has `files` for that.
pub(super) fn check_files(files: Option<usize>, ranks: usize) -> Result<()> {
    match files {
        Some(files) if files < ranks && ranks > 1 => {
            let reason = format!(
                "for {ranks} ranks needs {ranks} shards, so that each rank reads its own, and there are {files}; pack the images \
                 into more shards, or use at most {files} ranks"
            );
            Err(Error::InvalidSetting { setting: "share", reason })
        }
        _ => Ok(()),
    }
}

/// Where the batches of an epoch lie in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) share: Share,
    pub(super) samples: usize,
    pub(super) batch_size: usize,
    pub(super) drop_last: bool,
}

impl Layout {
    /// Number of batches that this process gets.
    pub(super) fn batches(&self) -> usize {
        let whole = self.whole_batches();
        match self.share {
            Share::All | Share::Samples { .. } => whole,
            Share::Batches { rank, ranks } => whole.saturating_sub(rank).div_ceil(ranks),
        }
    }

    /// Number of batches of all processes together. A batch that ranks share counts once.
    pub(super) fn whole_batches(&self) -> usize {
        let size = self.whole_size();
        let (full, rest) = (self.samples / size, self.samples % size);
        let has_short = match self.share {
            Share::Samples { ranks, .. } => rest >= ranks || (rest > 0 && full == 0),
            Share::All | Share::Batches { .. } => rest > 0,
        };
        full + usize::from(has_short && !self.drop_last)
    }

    /// Number of samples of a full batch of all ranks that share it.
    pub(super) fn whole_size(&self) -> usize {
        match self.share {
            Share::Samples { ranks, .. } => self.batch_size * ranks,
            Share::All | Share::Batches { .. } => self.batch_size,
        }
    }

    /// Number of samples of batch number `batch` of all ranks that share it.
    pub(super) fn whole_len(&self, batch: usize) -> usize {
        match self.share {
            Share::All | Share::Batches { .. } => self.place(batch).len(),
            Share::Samples { ranks, .. } => {
                let of = |rank| Self { share: Share::Samples { rank, ranks }, ..*self };
                (0..ranks).map(|rank| of(rank).place(batch).len()).sum()
            }
        }
    }

    /// An order in which each rank's samples of each batch are the next of its own order.
    pub(super) fn in_batches(&self, orders: Vec<Vec<usize>>) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.samples);
        let (ranks, mut orders) = (orders.len(), orders);
        let mut orders: Vec<_> = orders.iter_mut().map(|order| order.drain(..)).collect();
        for batch in 0..self.whole_batches() {
            for (rank, own) in orders.iter_mut().enumerate() {
                let place = Self { share: Share::Samples { rank, ranks }, ..*self }.place(batch);
                order.extend(own.by_ref().take(place.len()));
            }
        }
        // With `drop_last` these are in no batch.
        orders.into_iter().for_each(|rest| order.extend(rest));
        order
    }

    /// The place in the order of this process's batch number `batch`.
    pub(super) fn place(&self, batch: usize) -> Range<usize> {
        let size = self.whole_size();
        let of = |batch: usize| {
            let is_last = batch + 1 == self.whole_batches() && !self.drop_last;
            let end = if is_last { self.samples } else { (batch + 1) * size };
            batch * size..end.min(self.samples)
        };
        match self.share {
            Share::All => of(batch),
            Share::Batches { rank, ranks } => of(rank + batch * ranks),
            Share::Samples { rank, ranks } => {
                let whole = of(batch);
                let (each, larger) = (whole.len() / ranks, whole.len() % ranks);
                let start = whole.start + rank * each + rank.min(larger);
                start..start + each + usize::from(rank < larger)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layouts() -> impl Iterator<Item = (usize, usize, usize, bool)> {
        let sizes = (1..40).flat_map(|samples| (1..8).map(move |size| (samples, size)));
        let with_ranks = sizes.flat_map(|(samples, size)| (1..5).map(move |r| (samples, size, r)));
        with_ranks.flat_map(|(samples, size, r)| [false, true].map(|drop| (samples, size, r, drop)))
    }

    fn sizes_of(places: &[Range<usize>]) -> usize {
        places.iter().map(Range::len).sum()
    }

    #[test]
    fn ranks_see_each_sample_once_in_as_many_batches() {
        for (samples, batch_size, ranks, drop_last) in layouts().filter(|l| l.0 >= l.2) {
            let of = |rank| {
                let share = Share::Samples { rank, ranks };
                Layout { share, samples, batch_size, drop_last }
            };
            let batches = of(0).batches();
            let mut seen = Vec::new();
            for batch in 0..batches {
                let places: Vec<_> = (0..ranks).map(|rank| of(rank).place(batch)).collect();
                let sizes = places.iter().map(|place| place.len());
                assert!(sizes.clone().min() > Some(0), "an empty batch");
                assert!(sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0) <= 1);
                assert_eq!(of(0).whole_len(batch), sizes_of(&places));
                seen.extend(places.into_iter().flatten());
            }
            let whole = batch_size * ranks;
            let expected = if drop_last { samples / whole * whole } else { samples };
            assert_eq!(seen, (0..expected).collect::<Vec<_>>(), "{samples} {batch_size} {ranks}");
            assert!((0..ranks).all(|rank| of(rank).batches() == batches));
        }
    }

    #[test]
    fn ranks_find_their_own_orders_in_the_batches() {
        for (samples, batch_size, ranks, drop_last) in layouts().filter(|l| l.0 >= l.2) {
            let own = |rank: usize| (0..samples).filter(|index| index % ranks == rank).collect();
            let orders: Vec<Vec<usize>> = (0..ranks).map(own).collect();
            let of = |rank| {
                let share = Share::Samples { rank, ranks };
                Layout { share, samples, batch_size, drop_last }
            };
            let order = of(0).in_batches(orders.clone());
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..samples).collect::<Vec<_>>());
            for (rank, own) in orders.iter().enumerate() {
                let places = (0..of(rank).batches()).flat_map(|batch| of(rank).place(batch));
                let seen: Vec<usize> = places.map(|place| order[place]).collect();
                assert_eq!(seen, own[..seen.len()], "{samples} {batch_size} {ranks}");
                assert!(drop_last || seen.len() == own.len());
            }
        }
    }

    #[test]
    fn files_fewer_than_ranks_are_refused_with_the_number_needed() {
        assert!(check_files(None, 9).is_ok() && check_files(Some(0), 1).is_ok());
        assert!(check_files(Some(4), 4).is_ok());
        let error = check_files(Some(3), 4).expect_err("too few").to_string();
        assert!(error.contains("needs 4 shards") && error.contains("at most 3 ranks"), "{error}");
    }

    #[test]
    fn whole_batches_are_those_of_one_process() {
        for (samples, batch_size, ranks, drop_last) in layouts() {
            let one = Layout { share: Share::All, samples, batch_size, drop_last };
            let mut seen = vec![None; one.batches()];
            for rank in 0..ranks {
                let share = Share::Batches { rank, ranks };
                let own = Layout { share, ..one };
                for batch in 0..own.batches() {
                    seen[rank + batch * ranks] = Some(own.place(batch));
                }
            }
            let expected: Vec<_> = (0..one.batches()).map(|batch| Some(one.place(batch))).collect();
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn too_few_samples_are_refused() {
        let share = Share::Samples { rank: 0, ranks: 4 };
        let message = share.check(3).expect_err("3 for 4").to_string();
        assert!(message.contains("4 ranks needs as many samples, and there are 3"), "{message}");
        assert!(Share::Batches { rank: 3, ranks: 4 }.check(1).is_ok());
        assert!(Share::Batches { rank: 4, ranks: 4 }.check(9).is_err());
    }
}
