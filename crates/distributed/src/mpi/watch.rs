//! Ends a job in which a rank does not come to a call.
//!
//! MPI waits for ever. A thread of each rank notices when a call takes too long. It tells the other ranks that this one
//! waits, by a communicator of its own. Ranks that are not heard of are those that are missing.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};

use super::MpiOptions;

/// How often the thread looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it listens for other ranks that wait. They began to wait at other times.
const LISTENING: Duration = Duration::from_secs(2);

/// The calls in which this rank waits, and the thread that looks at them.
pub(super) struct Watch {
    waits: Arc<Waits>,
    handle: Option<JoinHandle<()>>,
}

struct Waits {
    /// By the number of the wait.
    open: Mutex<Vec<(u64, &'static str, Instant)>>,
    is_over: AtomicBool,
}

/// A call that lasts. It ends when this is dropped.
pub(super) struct Waiting<'a> {
    waits: &'a Waits,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.open().retain(|(number, ..)| *number != self.number);
    }
}

impl Waits {
    fn open(&self) -> MutexGuard<'_, Vec<(u64, &'static str, Instant)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call that has taken longest.
    fn longest(&self) -> Option<(&'static str, Duration)> {
        let open = self.open();
        open.iter().map(|(_, call, since)| (*call, since.elapsed())).max_by_key(|(_, time)| *time)
    }
}

impl Watch {
    /// Starts the thread. All ranks call this at the same time.
    pub(super) fn start(rank: usize, hosts: Vec<String>, options: MpiOptions) -> Self {
        let waits = Arc::new(Waits { open: Mutex::default(), is_over: AtomicBool::new(false) });
        let of_thread = Arc::clone(&waits);
        let (said, answer) = channel();
        let handle = std::thread::spawn(move || {
            let ranks = SimpleCommunicator::world().duplicate();
            said.send(()).unwrap_or_default();
            let job = Job { ranks, rank, hosts, options };
            while !of_thread.is_over.load(Ordering::Acquire) {
                std::thread::sleep(PAUSE);
                if let Some((call, time)) = of_thread.longest()
                    && time > options.timeout
                {
                    job.end(call, time, &of_thread);
                }
            }
        });
        // Two duplicates at a time would be made in another order on each rank.
        answer.recv().unwrap_or_default();
        Self { waits, handle: Some(handle) }
    }

    pub(super) fn waiting(&self, call: &'static str) -> Waiting<'_> {
        let mut open = self.waits.open();
        let number = open.iter().map(|(number, ..)| number + 1).max().unwrap_or(0);
        open.push((number, call, Instant::now()));
        Waiting { waits: &self.waits, number }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.waits.is_over.store(true, Ordering::Release);
        if let Some(handle) = self.handle.take() {
            drop(handle.join());
        }
    }
}

struct Job {
    ranks: SimpleCommunicator,
    rank: usize,
    hosts: Vec<String>,
    options: MpiOptions,
}

impl Job {
    /// Finds out who else waits, says who does not, and ends all ranks, unless the call ends after all.
    fn end(&self, call: &'static str, time: Duration, waits: &Waits) {
        for other in (0..self.hosts.len()).filter(|other| *other != self.rank) {
            self.ranks.process_at_rank(other as i32).send(&(self.rank as u64));
        }
        let mut waiting = vec![false; self.hosts.len()];
        waiting[self.rank] = true;
        let started = Instant::now();
        // The rank with the lowest number speaks first, and ends the others before they do.
        let listening = LISTENING + PAUSE * self.rank.min(20) as u32;
        while started.elapsed() < listening && !waiting.iter().all(|waits| *waits) {
            while let Some(status) = self.ranks.any_process().immediate_probe() {
                let from = status.source_rank();
                self.ranks.process_at_rank(from).receive::<u64>();
                if let Some(waits) = usize::try_from(from).ok().and_then(|r| waiting.get_mut(r)) {
                    *waits = true;
                }
            }
            std::thread::sleep(PAUSE);
        }
        if waits.longest().is_none_or(|(_, time)| time < self.options.timeout) {
            return;
        }
        let name = |rank: usize| format!("rank {rank} ({})", self.hosts[rank]);
        let missing = (0..waiting.len()).filter(|rank| !waiting[*rank]).map(name);
        let missing: Vec<String> = missing.collect();
        let (own, seconds) = (name(self.rank), time.as_secs());
        let timeout = self.options.timeout.as_secs();
        if missing.is_empty() {
            say(format_args!(
                "{own} waited {seconds} s in {call}, and so did all other ranks, each in a call of its own; the job ends"
            ));
        } else {
            let missing = missing.join(", ");
            say(format_args!(
                "{missing} did not come to {call} within {seconds} s of {own}; the job ends (it hangs, or it is slower than \
                 the time-out of {timeout} s)"
            ));
        }
        SimpleCommunicator::world().abort(self.options.exit_code);
    }
}

/// The last words of a rank. They must not fail if nobody listens.
pub(super) fn say(what: fmt::Arguments<'_>) {
    // In one call, because other ranks write to the same place.
    drop(std::io::stderr().lock().write_all(format!("error: {what}\n").as_bytes()));
}
