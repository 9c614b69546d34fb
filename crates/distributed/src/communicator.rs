//! The trait of everything that ranks talk by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Result;

/// What a rank sent and how long it waited for others.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// Bytes that this rank handed over.
    pub bytes: u64,
    /// Number of calls.
    pub calls: u64,
    /// Time in calls: waiting for the other ranks, and the transfer.
    pub waited: Duration,
}

/// Work of one rank for which the others wait without a limit, until this is dropped. [`Communicator::works_alone`] gives it.
#[derive(Debug, Clone, Default)]
#[must_use = "the work is over when this is dropped"]
pub struct WorksAlone {
    _counter: Option<Arc<()>>,
}

impl WorksAlone {
    /// Work that goes on for as long as `counter` has another owner.
    pub fn counted(counter: &Arc<()>) -> Self {
        Self { _counter: Some(Arc::clone(counter)) }
    }
}

/// Values that lie somewhere until they are read, such as those of a tensor. They may go to another thread.
pub trait Values: Send {
    /// Hands the values to `then`, once.
    fn read(&self, then: &mut dyn FnMut(&[f32]));
}

impl Values for Vec<f32> {
    fn read(&self, then: &mut dyn FnMut(&[f32])) {
        then(self);
    }
}

/// The ranks of a job, as one of them sees them.
///
/// Every call is collective: all ranks make it, in the same order, and with as many values. It may be shared by
/// threads, but then it is up to them that the order is the same on every rank;
/// [`duplicate`](Communicator::duplicate) gives each thread a communicator of its own.
pub trait Communicator: fmt::Debug + Send + Sync {
    /// The number of this rank, below [`size`](Communicator::size).
    fn rank(&self) -> usize;

    /// The number of ranks, at least 1.
    fn size(&self) -> usize;

    /// The computer on which this rank runs, for messages.
    fn host(&self) -> &str;

    /// Adds up the values of all ranks, in place. Every rank gets the same bits.
    ///
    /// # Errors
    /// If a rank has ended, gave another number of values, or the library fails.
    fn all_reduce(&self, values: &mut [f32]) -> Result<()>;

    /// The sums of the values of all ranks, as by [`all_reduce`](Communicator::all_reduce). A communicator that hands values to
    /// another thread need not copy these.
    ///
    /// # Errors
    /// Those of `all_reduce`.
    fn all_reduce_shared(&self, values: Box<dyn Values>) -> Result<Vec<f32>> {
        let mut sums = Vec::new();
        values.read(&mut |values| sums = values.to_vec());
        self.all_reduce(&mut sums)?;
        Ok(sums)
    }

    /// Every rank's bytes, by rank. Ranks may give different numbers of bytes.
    ///
    /// # Errors
    /// If a rank has ended, or the library fails.
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Gives each rank one piece of this rank's: piece `r` goes to rank `r`. Returns what the ranks gave this one, by
    /// rank.
    ///
    /// # Errors
    /// If a rank has ended, there are not as many pieces as ranks, or the library fails.
    fn all_to_all(&self, pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>>;

    /// Replaces the bytes of all ranks by those of rank `root`.
    ///
    /// # Errors
    /// If a rank has ended, `root` is none, or the library fails.
    fn broadcast(&self, bytes: &mut Vec<u8>, root: usize) -> Result<()>;

    /// Waits until all ranks are here.
    ///
    /// # Errors
    /// If a rank has ended, or the library fails.
    fn barrier(&self) -> Result<()>;

    /// Another communicator of the same ranks. Its calls and those of this one do not wait for each other.
    ///
    /// # Errors
    /// If a rank has ended, or the library fails.
    fn duplicate(&self) -> Result<Arc<dyn Communicator>>;

    /// What this rank sent so far, by this communicator alone.
    fn traffic(&self) -> Traffic;

    /// Says that this rank works alone for a while, such as on a file. A communicator that ends a job in which a rank does not
    /// come waits for it then, for as long as its process lives. The default has no such limit.
    fn works_alone(&self) -> WorksAlone {
        WorksAlone::default()
    }

    /// Ends all ranks of the job at once, because the others would wait for this one for ever. The default ends this
    /// process.
    ///
    /// Say why before: nothing is printed here.
    fn abort(&self, exit_code: i32) -> ! {
        std::process::exit(exit_code)
    }
}
