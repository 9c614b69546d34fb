//! Threads that make batches in advance. The batches are put back in order.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::host_batches::Plan;
use super::source::HostBatch;
use crate::error::{Error, Result};

type Numbered = (usize, Result<HostBatch>);

/// Threads that make the batches of one epoch.
///
/// Workers take batch numbers from one channel and put batches into another. Both channels have room for all
/// numbers given out at a time, so no thread ever waits to send. The count of numbers given out limits the
/// memory, and a deadlock is impossible.
pub(super) struct Workers {
    /// `None` after the epoch was given up.
    numbers: Option<Sender<usize>>,
    batches: Receiver<Numbered>,
    /// Numbers that have not been given out yet.
    rest: Range<usize>,
    /// Batches that arrived before their turn.
    early: BTreeMap<usize, Result<HostBatch>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts up to `count` threads. They make at most `ahead` batches before one is taken, and end early after
    /// `stop` is set. `None` if `count` is 0 or the system gives no thread; the caller's thread can then do the
    /// work.
    pub(super) fn start(
        plan: &Arc<Plan>,
        count: usize,
        batches: Range<usize>,
        ahead: usize,
        stop: &Arc<AtomicBool>,
    ) -> Option<Self> {
        let (number_sender, number_receiver) = bounded(ahead);
        let (batch_sender, batch_receiver) = bounded(ahead);
        let start_thread = |_| {
            let (plan, stop) = (Arc::clone(plan), Arc::clone(stop));
            let (numbers, batches) = (number_receiver.clone(), batch_sender.clone());
            let thread = std::thread::Builder::new().name("data-loader".to_owned());
            thread.spawn(move || work(&plan, &numbers, &batches, &stop)).ok()
        };
        let threads: Vec<_> = (0..count).filter_map(start_thread).collect();
        if threads.is_empty() {
            return None;
        }
        let mut workers = Self {
            numbers: Some(number_sender),
            batches: batch_receiver,
            rest: batches,
            early: BTreeMap::new(),
            stop: Arc::clone(stop),
            threads,
        };
        (0..ahead).for_each(|_| workers.give_out_next());
        Some(workers)
    }

    /// Waits for batch `number`. Numbers must be requested in order.
    pub(super) fn take(&mut self, number: usize) -> Result<HostBatch> {
        loop {
            if let Some(batch) = self.early.remove(&number) {
                self.give_out_next();
                return batch;
            }
            let Ok((arrived, batch)) = self.batches.recv() else {
                return Err(worker_panicked(number, &"its threads ended"));
            };
            self.early.insert(arrived, batch);
        }
    }

    fn give_out_next(&mut self) {
        if let (Some(numbers), Some(number)) = (&self.numbers, self.rest.next()) {
            // This fails only if all workers have ended, which `take` notices.
            let _ = numbers.send(number);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.numbers = None;
        for thread in self.threads.drain(..) {
            // A panic of a worker was already caught and returned as an error.
            let _ = thread.join();
        }
    }
}

fn work(plan: &Plan, numbers: &Receiver<usize>, batches: &Sender<Numbered>, stop: &AtomicBool) {
    for number in numbers {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // The state of a data set after a panic does not matter, because the epoch ends.
        let batch = catch_unwind(AssertUnwindSafe(|| plan.load(number, stop)))
            .unwrap_or_else(|panic| Err(worker_panicked(number, panic.as_ref())));
        if batches.send((number, batch)).is_err() {
            return;
        }
    }
}

/// The error for the panic of a thread.
pub(super) fn worker_panicked(batch: usize, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Error::WorkerPanicked { batch, message: text.unwrap_or_else(|| "no message".to_owned()) }
}
