//! Threads that make batches ahead, and the putting back in order of what they make.

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
/// Workers take batch numbers from one channel and put batches into another. Both have room for
/// all numbers that are out at once, so nobody waits to put something in: the number of batches
/// out is what bounds the memory, and there is nothing to lock up.
pub(super) struct Workers {
    /// None once the epoch is given up.
    numbers: Option<Sender<usize>>,
    batches: Receiver<Numbered>,
    /// Numbers not given out yet.
    rest: Range<usize>,
    /// Batches that came before their turn.
    early: BTreeMap<usize, Result<HostBatch>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts up to `count` threads, which make at most `ahead` batches before one is taken. None
    /// if there are none to start or the system gives no thread: the caller's can do the same. They
    /// end early once `stop` is set.
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

    /// Waits for batch `number`; numbers must be asked for in order.
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
            // Fails only if all workers are gone, which `take` notices.
            let _ = numbers.send(number);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.numbers = None;
        for thread in self.threads.drain(..) {
            // A worker's panic was caught and handed on as an error already.
            let _ = thread.join();
        }
    }
}

fn work(plan: &Plan, numbers: &Receiver<usize>, batches: &Sender<Numbered>, stop: &AtomicBool) {
    for number in numbers {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // What a panicking data set leaves behind is not looked at again: the epoch ends.
        let batch = catch_unwind(AssertUnwindSafe(|| plan.load(number, stop)))
            .unwrap_or_else(|panic| Err(worker_panicked(number, panic.as_ref())));
        if batches.send((number, batch)).is_err() {
            return;
        }
    }
}

/// The error that a thread's panic becomes.
pub(super) fn worker_panicked(batch: usize, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Error::WorkerPanicked { batch, message: text.unwrap_or_else(|| "no message".to_owned()) }
}
