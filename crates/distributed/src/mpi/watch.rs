//! Ends a job in which a rank does not come to a call.
//!
//! MPI waits for ever. A thread of each rank notices when a call takes too long. It asks the other ranks who waits, by a
//! communicator of its own. Ranks that do not answer are those that are missing. A rank that works alone answers that it does, and
//! is waited for.

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
use crate::communicator::WorksAlone;

/// How often the thread looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it listens for answers.
const LISTENING: Duration = Duration::from_secs(2);

/// What ranks tell each other: that a call takes too long, which asks who waits, and the answers.
const ASKS: u64 = 0;
const WAITS: u64 = 1;
const WORKS: u64 = 2;

/// The calls in which this rank waits, and the thread that looks at them.
pub(super) struct Watch {
    waits: Arc<Waits>,
    handle: Option<JoinHandle<()>>,
}

struct Waits {
    /// By the number of the wait.
    open: Mutex<Vec<(u64, &'static str, Instant)>>,
    is_over: AtomicBool,
    /// It has more owners while this rank works alone.
    alone: Arc<()>,
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

    /// What this rank answers, if it waits or works.
    fn answer(&self) -> Option<u64> {
        let works = Arc::strong_count(&self.alone) > 1;
        if self.open().is_empty() { works.then_some(WORKS) } else { Some(WAITS) }
    }

    /// From now on, calls have taken no time.
    fn start_anew(&self) {
        self.open().iter_mut().for_each(|(.., since)| *since = Instant::now());
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
        let is_over = AtomicBool::new(false);
        let waits = Arc::new(Waits { open: Mutex::default(), is_over, alone: Arc::default() });
        let of_thread = Arc::clone(&waits);
        let (said, answer) = channel();
        let handle = std::thread::spawn(move || {
            let ranks = SimpleCommunicator::world().duplicate();
            said.send(()).unwrap_or_default();
            let job = Job { ranks, rank, hosts, options };
            while !of_thread.is_over.load(Ordering::Acquire) {
                std::thread::sleep(PAUSE);
                job.hear(&of_thread, |_, _| ());
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

    /// A call has brought a part of what it brings.
    pub(super) fn goes_on(&self) {
        self.waits.start_anew();
    }

    pub(super) fn works_alone(&self) -> WorksAlone {
        WorksAlone::counted(&self.waits.alone)
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
    /// Hands over what other ranks said, and answers them.
    fn hear(&self, waits: &Waits, mut heard: impl FnMut(usize, u64)) {
        while let Some(status) = self.ranks.any_process().immediate_probe() {
            let from = status.source_rank();
            let (word, _) = self.ranks.process_at_rank(from).receive::<u64>();
            if let Some(answer) = waits.answer().filter(|_| word == ASKS) {
                self.ranks.process_at_rank(from).send(&answer);
            }
            heard(from as usize, word);
        }
    }

    /// Finds out who else waits, says who does not, and ends all ranks, unless the call ends after all or another rank works.
    fn end(&self, call: &'static str, time: Duration, waits: &Waits) {
        for other in (0..self.hosts.len()).filter(|other| *other != self.rank) {
            self.ranks.process_at_rank(other as i32).send(&ASKS);
        }
        // Of a rank that asks, a call takes too long as well.
        let (mut asks, mut waiting) =
            (vec![false; self.hosts.len()], vec![false; self.hosts.len()]);
        (asks[self.rank], waiting[self.rank]) = (true, true);
        let mut works = false;
        let started = Instant::now();
        // The rank with the lowest number speaks first, and ends the others before they do.
        let listening = LISTENING + PAUSE * self.rank.min(20) as u32;
        while started.elapsed() < listening && !works && !asks.iter().all(|asks| *asks) {
            self.hear(waits, |from, word| {
                works |= word == WORKS;
                asks[from] |= word == ASKS;
                waiting[from] |= word != WORKS;
            });
            std::thread::sleep(PAUSE);
        }
        if waits.longest().is_none_or(|(_, time)| time < self.options.timeout) {
            return;
        }
        if works {
            return waits.start_anew();
        }
        let all = |of: &[bool]| of.iter().all(|is| *is);
        if all(&waiting) && !all(&asks) {
            // Some have just come: the call is about to end. Otherwise this rank asks again until the others do.
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
                 the time-out of {timeout} s, which `{}` sets)",
                self.options.timeout_option
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
