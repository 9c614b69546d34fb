//! The batches of one epoch, in order, before they go to a device.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::LoaderConfig;
use super::on_device::OnDevice;
use super::share::Layout;
use super::source::{HostBatch, Pick, Source};
use super::workers::Workers;
use crate::error::Result;

/// The samples of the batches of an epoch, and the form of their values.
pub(super) struct Plan {
    pub(super) source: Arc<Source>,
    pub(super) picks: Vec<Pick>,
    pub(super) epoch: usize,
    /// Where batches lie in the order.
    pub(super) layout: Layout,
    /// Whether images stay 8-bit values.
    pub(super) pixels: bool,
    /// The images, if a device has them.
    pub(super) on_device: Option<Arc<OnDevice>>,
}

impl Plan {
    /// Reads and transforms batch number `batch`, or draws what a device does for it.
    pub(super) fn load(&self, batch: usize, stop: &AtomicBool) -> Result<HostBatch> {
        // A sampler whose order is shorter than it says has empty batches at the end, which are left out.
        let place = self.layout.place(batch);
        let end = place.end.min(self.picks.len());
        let picks = self.picks.get(place.start..end).unwrap_or_default();
        match &self.on_device {
            Some(on_device) => self.source.draw(self.epoch, picks, on_device),
            None => self.source.load(self.epoch, picks, self.pixels, stop),
        }
    }
}

/// The batches of one epoch, made by workers or on request. The iterator ends after the first error.
pub(super) struct HostBatches {
    plan: Arc<Plan>,
    batches: Range<usize>,
    /// `None` if batches are made in the caller's thread.
    workers: Option<Workers>,
    stop: Arc<AtomicBool>,
}

impl HostBatches {
    /// Starts an epoch. After `stop` is set, no new batch is started, and the current ones are returned
    /// incomplete.
    pub(super) fn new(
        plan: Arc<Plan>,
        batches: Range<usize>,
        config: &LoaderConfig,
        stop: Arc<AtomicBool>,
    ) -> Self {
        // Drawing takes too little time to hand it to others.
        let workers = if plan.on_device.is_some() { 0 } else { config.workers };
        let count = workers.min(batches.len());
        // At most as many as there are batches, because the channels reserve memory for all of them.
        let ahead = config.prefetch.clamp(count, batches.len());
        let workers = Workers::start(&plan, count, batches.clone(), ahead, &stop);
        Self { plan, batches, workers, stop }
    }

    fn load(&mut self, batch: usize) -> Result<HostBatch> {
        match &mut self.workers {
            Some(workers) => workers.take(batch),
            None => self.plan.load(batch, &self.stop),
        }
    }

    fn end(&mut self) {
        self.batches.start = self.batches.end;
        self.workers = None;
    }
}

impl Iterator for HostBatches {
    /// A batch with its number.
    type Item = Result<(usize, HostBatch)>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(number) = self.batches.next() {
            match self.load(number) {
                // All images of the batch were broken.
                Ok(batch) if batch.samples.indices.is_empty() => {}
                Ok(batch) => return Some(Ok((number, batch))),
                Err(error) => {
                    self.end();
                    return Some(Err(error));
                }
            }
        }
        self.end();
        None
    }
}
