//! The batches of one epoch, in order, on the device.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::ahead::Ahead;
use super::host_batches::{HostBatches, Plan};
use super::mixing::Mixing;
use super::upload::Uploader;
use super::{Batch, LoaderConfig};
use crate::error::Result;

/// The batches of one epoch, in order. The iterator ends after the first error. Dropping it stops its workers
/// and waits until they have finished their current sample.
pub struct EpochIter {
    batches: Batches,
    /// The largest number of batches still to come.
    most: usize,
    skip_broken: bool,
    mixing: Mixing,
}

impl std::fmt::Debug for EpochIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpochIter").field("most", &self.most).finish_non_exhaustive()
    }
}

enum Batches {
    /// Each batch is brought to the device when it is requested.
    Asked { host: HostBatches, plan: Arc<Plan>, uploader: Uploader },
    /// Batches are brought to the device in advance.
    Ahead(Ahead),
}

impl EpochIter {
    pub(super) fn new(
        plan: Plan,
        batches: Range<usize>,
        config: &LoaderConfig,
        uploader: Uploader,
        mixing: Mixing,
    ) -> Self {
        let (plan, most) = (Arc::new(plan), batches.len());
        // Without a hook, a copy to a device is ordered with the caller's work only in the caller's thread.
        let is_ordered = uploader.hook.is_some() || uploader.on_device.is_some();
        let is_ahead = is_ordered && config.workers > 0;
        let ahead = is_ahead.then(|| Ahead::start(&plan, batches.clone(), config, &uploader));
        let batches = match ahead.flatten() {
            Some(ahead) => Batches::Ahead(ahead),
            None => {
                let stop = Arc::new(AtomicBool::new(false));
                let host = HostBatches::new(Arc::clone(&plan), batches, config, stop);
                Batches::Asked { host, plan, uploader }
            }
        };
        Self { batches, most, skip_broken: config.skip_broken, mixing }
    }
}

impl Iterator for EpochIter {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.most == 0 {
            return None;
        }
        let batch = match &mut self.batches {
            Batches::Ahead(ahead) => ahead.next(),
            Batches::Asked { host, plan, uploader } => {
                let upload = |(number, batch)| Ok((number, uploader.batch(batch, &plan.source)?));
                host.next().map(|batch| batch.and_then(upload))
            }
        };
        let mix = |(number, batch)| self.mixing.apply(number, batch);
        let batch = batch.map(|batch| batch.and_then(mix));
        let is_last = !matches!(batch, Some(Ok(_)));
        self.most = if is_last { 0 } else { self.most - 1 };
        batch
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (if self.skip_broken { 0 } else { self.most }, Some(self.most))
    }
}

impl std::iter::FusedIterator for EpochIter {}
