//! A thread that owns a communicator of MPI and makes its calls.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use mpi::topology::SimpleCommunicator;

use super::LIBRARY;
use crate::communicator::Traffic;
use crate::error::{Error, Result};

type Call = Box<dyn FnOnce(&SimpleCommunicator) + Send>;

pub(super) struct Worker {
    /// `None` when the thread is to end.
    calls: Mutex<Option<Sender<Call>>>,
    handle: Option<JoinHandle<()>>,
    traffic: Mutex<Traffic>,
}

impl Worker {
    /// Starts a thread that runs `own`, which gets a function that serves calls until this is dropped.
    pub(super) fn start(own: impl FnOnce(&dyn Fn(&SimpleCommunicator)) + Send + 'static) -> Self {
        let (calls, work): (Sender<Call>, Receiver<Call>) = channel();
        let handle = std::thread::spawn(move || {
            own(&|ranks| work.iter().for_each(|call| call(ranks)));
        });
        Self { calls: Mutex::new(Some(calls)), handle: Some(handle), traffic: Mutex::default() }
    }

    pub(super) fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        call: impl FnOnce(&SimpleCommunicator) -> T + Send + 'static,
    ) -> Result<T> {
        self.run_counted(name, 0, call)
    }

    /// Makes a call in the thread and waits for it. `bytes` are what this rank hands over.
    pub(super) fn run_counted<T: Send + 'static>(
        &self,
        name: &'static str,
        bytes: usize,
        call: impl FnOnce(&SimpleCommunicator) -> T + Send + 'static,
    ) -> Result<T> {
        let started = Instant::now();
        let (done, result) = channel();
        let call: Call = Box::new(move |ranks| drop(done.send(call(ranks))));
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = || Error::Library {
            library: LIBRARY,
            reason: format!("its thread ended before a call of {name}"),
        };
        let sender = calls.as_ref().ok_or_else(ended)?;
        sender.send(call).map_err(|_| ended())?;
        drop(calls);
        let result = result.recv().map_err(|_| ended());
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.bytes += bytes as u64;
        traffic.calls += 1;
        traffic.waited += started.elapsed();
        result
    }

    pub(super) fn traffic(&self) -> Traffic {
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = self.handle.take() {
            // A panic in it has ended the job.
            drop(handle.join());
        }
    }
}
