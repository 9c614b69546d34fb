//! A thread that brings batches to the device while the previous batch is in use.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::host_batches::{HostBatches, Plan};
use super::upload::Uploader;
use super::workers::worker_panicked;
use super::{Batch, LoaderConfig};
use crate::error::Result;

/// A batch with its number in the epoch.
type Numbered = Result<(usize, Batch)>;

/// The batches of an epoch that are already on the device or on the way to it.
pub(super) struct Ahead {
    /// `None` after the epoch was given up.
    batches: Option<Receiver<Numbered>>,
    /// `None` after the thread has ended.
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    /// The number of the next batch, if no batch is left out.
    next: usize,
}

impl Ahead {
    /// Starts the thread. `None` if the system gives no thread; the caller's thread can then do the work.
    pub(super) fn start(
        plan: &Arc<Plan>,
        batches: Range<usize>,
        config: &LoaderConfig,
        uploader: &Uploader,
    ) -> Option<Self> {
        // One batch waits while the next is on its way. More would only take memory of the device.
        let (sender, receiver) = bounded(1);
        let (stop, next) = (Arc::new(AtomicBool::new(false)), batches.start);
        let thread = std::thread::Builder::new().name("data-upload".to_owned());
        let host = {
            let (plan, config, stop) = (Arc::clone(plan), config.clone(), Arc::clone(&stop));
            move || HostBatches::new(plan, batches, &config, stop)
        };
        let (plan, uploader) = (Arc::clone(plan), uploader.clone());
        let thread = thread.spawn(move || upload_all(host(), &plan, &uploader, &sender)).ok()?;
        Some(Self { batches: Some(receiver), thread: Some(thread), stop, next })
    }

    fn end(&mut self) -> std::thread::Result<()> {
        self.batches = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Iterator for Ahead {
    type Item = Numbered;

    fn next(&mut self) -> Option<Self::Item> {
        let batches = self.batches.as_ref()?;
        self.next += 1;
        match batches.recv() {
            Ok(batch) => Some(batch),
            // The thread has ended: it has finished or it panicked.
            Err(_) => self.end().err().map(|panic| Err(worker_panicked(self.next - 1, &*panic))),
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Nobody is left who could receive a panic.
        let _ = self.end();
    }
}

fn upload_all(host: HostBatches, plan: &Plan, uploader: &Uploader, batches: &Sender<Numbered>) {
    for batch in host {
        let batch =
            batch.and_then(|(number, batch)| Ok((number, uploader.batch(batch, &plan.source)?)));
        let failed = batch.is_err();
        if batches.send(batch).is_err() || failed {
            return;
        }
    }
}
