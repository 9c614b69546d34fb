//! What stops a run from growing.

use candle_vision::distributed::PlannedStep;

use super::{Break, Row};

/// What must not be exceeded.
#[derive(Debug)]
pub(super) struct Limits {
    /// The largest batch for which there is a recipe, and where that is from.
    pub(super) largest_batch: usize,
    pub(super) source: &'static str,
    pub(super) files_per_s: Option<f64>,
    pub(super) storage_gbit: Option<f64>,
}

impl Limits {
    /// Each limit that is exceeded, with the smallest number of ranks that does so, the smallest first. `all` goes through the
    /// numbers of ranks in ascending order.
    pub(super) fn broken(&self, all: impl Iterator<Item = (PlannedStep, Row)>) -> Vec<Break> {
        let mut found: [Option<Break>; 4] = Default::default();
        for (step, row) in all {
            for (broken, what) in found.iter_mut().zip(self.of(&step, &row)) {
                if broken.is_none() {
                    *broken = what.map(|what| Break { ranks: row.ranks, what });
                }
            }
        }
        let mut found: Vec<Break> = found.into_iter().flatten().collect();
        found.sort_by_key(|broken| broken.ranks);
        found
    }

    /// What each limit says of a number of ranks.
    fn of(&self, step: &PlannedStep, row: &Row) -> [Option<String>; 4] {
        let (sums, backward) = (step.all_reduce * 1e3, step.backward * 1e3);
        let Self { largest_batch, source, files_per_s, storage_gbit } = self;
        let sums = (sums > backward).then(|| {
            format!("the sums of a step take {sums:.1} ms, longer than its backward pass of {backward:.1} ms")
        });
        let batch = (row.batch > *largest_batch).then(|| {
            format!(
                "a batch of {} images; known recipes go to {largest_batch} ({source})",
                row.batch
            )
        });
        let files = files_per_s.filter(|limit| row.images_per_s > *limit).map(|limit| {
            format!("{:.0} files/s are read; the storage gives {limit:.0}", row.images_per_s)
        });
        let speed = storage_gbit.filter(|limit| row.storage_gbit > *limit).map(|limit| {
            format!("{:.1} Gbit/s are read; the storage gives {limit}", row.storage_gbit)
        });
        [sums, batch, files, speed]
    }
}
