//! The batches of one epoch, in order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};

use super::source::{HostBatch, Source};
use super::workers::Workers;
use super::{Batch, LoaderConfig};
use crate::error::Result;
use crate::transforms::batch_tensor;

/// Which samples make up the batches of an epoch.
pub(super) struct Plan {
    pub(super) source: Arc<Source>,
    pub(super) order: Vec<usize>,
    pub(super) epoch: usize,
    pub(super) batch_size: usize,
}

impl Plan {
    /// Reads and transforms batch number `batch`.
    pub(super) fn load(&self, batch: usize, stop: &AtomicBool) -> Result<HostBatch> {
        let start = batch * self.batch_size;
        let end = (start + self.batch_size).min(self.order.len());
        self.source.load(self.epoch, &self.order[start..end], stop)
    }
}

/// The batches of one epoch, in order. It ends after the first error. Dropping it stops its
/// workers and waits for them, at most as long as they take for the sample they are at.
pub struct EpochIter {
    plan: Arc<Plan>,
    batches: Range<usize>,
    /// None: batches are made in the caller's thread.
    workers: Option<Workers>,
    device: Device,
    skip_broken: bool,
}

impl EpochIter {
    pub(super) fn new(
        plan: Plan,
        batches: Range<usize>,
        config: &LoaderConfig,
        device: Device,
    ) -> Self {
        let plan = Arc::new(plan);
        let count = config.workers.min(batches.len());
        // No more than there are, because the channels reserve room for all.
        let ahead = config.prefetch.clamp(count, batches.len());
        let workers = Workers::start(&plan, count, batches.clone(), ahead);
        Self { plan, batches, workers, device, skip_broken: config.skip_broken }
    }

    fn load(&mut self, batch: usize) -> Result<HostBatch> {
        match &mut self.workers {
            Some(workers) => workers.take(batch),
            None => self.plan.load(batch, &AtomicBool::new(false)),
        }
    }

    fn to_tensors(&self, batch: HostBatch) -> Result<Batch> {
        let HostBatch { values, shape, labels, indices } = batch;
        let images = batch_tensor(values, indices.len(), shape, &self.device)?;
        let labels = Tensor::from_vec(labels, indices.len(), &self.device)?;
        Ok(Batch { images, labels, indices })
    }

    fn end(&mut self) {
        self.batches.start = self.batches.end;
        self.workers = None;
    }
}

impl Iterator for EpochIter {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(batch) = self.batches.next() {
            let loaded = match self.load(batch) {
                // All its pictures were broken.
                Ok(batch) if batch.indices.is_empty() => continue,
                loaded => loaded.and_then(|batch| self.to_tensors(batch)),
            };
            if loaded.is_err() {
                self.end();
            }
            return Some(loaded);
        }
        self.end();
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self.batches.len();
        (if self.skip_broken { 0 } else { most }, Some(most))
    }
}

impl std::iter::FusedIterator for EpochIter {}
