//! Ranks that an MPI launcher started.
//!
//! MPI's own handles stay in one thread each, because they may not change threads. The thread of a communicator makes its
//! calls, so callers may come from any thread.

mod watch;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives, Root};

use crate::buckets::Buckets;
use crate::communicator::{Communicator, Traffic, Values, WorksAlone};
use crate::error::{Error, Result};
use crate::one_process::{check_pieces, check_root};
use watch::Watch;
use worker::Worker;

const LIBRARY: &str = "MPI";

/// Most values of one call of MPI, which counts in 32 bits.
const MOST_VALUES: usize = 1 << 28;

/// Values of one sum over so many ranks: 1 MiB for each, which is much beside the latency of a message, and still lies in the caches
/// when it is read again. Open MPI 4.1 on two ranks of one machine takes 0.19 ms a MiB so, and 0.55 ms if it gets 43 MiB at once.
fn summed_at_once(ranks: usize) -> usize {
    ranks.saturating_mul(Buckets::LONG_FOR_EACH).min(MOST_VALUES)
}

/// Bytes of one part of a broadcast. After each part the limit for the call begins anew, so that it is no limit for what a slow
/// link brings.
const BROADCAST_AT_ONCE: usize = 16 << 20;

/// How a job behaves that MPI started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MpiOptions {
    /// How long a rank waits for the others before the job ends with the names of those that did not come.
    pub timeout: Duration,
    /// The exit code of a job that ends because a rank did not come, or panicked.
    pub exit_code: i32,
    /// What sets the timeout, for the message: an option of the program.
    pub timeout_option: &'static str,
}

impl Default for MpiOptions {
    /// 25 s, so that a job ends within 30 s of the moment in which a rank hangs; exit code 1.
    fn default() -> Self {
        let timeout_option = "MpiOptions::timeout";
        Self { timeout: Duration::from_secs(25), exit_code: 1, timeout_option }
    }
}

impl MpiOptions {
    /// Sets how long a rank waits for the others.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sets the name of what sets the timeout.
    pub fn timeout_option(self, name: &'static str) -> Self {
        Self { timeout_option: name, ..self }
    }

    /// Sets the exit code of a job that ends because a rank did not come, or panicked.
    pub fn exit_code(self, exit_code: i32) -> Self {
        Self { exit_code, ..self }
    }
}

/// A rank of a job that `mpirun`, `srun --mpi=pmix` or the like started.
///
/// The job ends at once on all ranks if one of them panics, and after [`MpiOptions::timeout`] if one of them does not come
/// to a call. Then the names of ranks and hosts are written to the standard error. A rank that ends because of an error calls
/// [`abort`](Communicator::abort), because MPI would let the others wait for it for ever.
pub struct Mpi {
    worker: Worker,
    /// The threads of MPI. They end when the last communicator has gone.
    library: Arc<Library>,
    rank: usize,
    size: usize,
}

/// MPI as a whole, from its start to its end.
struct Library {
    host: String,
    watch: Watch,
    /// Keeps the library. It is the last to go.
    _universe: Worker,
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Mpi");
        text.field("rank", &self.rank).field("size", &self.size).field("host", &self.host());
        text.finish_non_exhaustive()
    }
}

impl Mpi {
    /// Starts MPI in this process. Without a launcher, this is a job of one rank.
    ///
    /// It can be called once in a process. From then on a panic in any thread ends the job.
    ///
    /// # Errors
    /// If MPI was started before, or does not allow calls from several threads.
    pub fn start(options: MpiOptions) -> Result<Arc<Self>> {
        let (said, answer) = channel();
        let universe = Worker::start(move |serve| {
            // What it is handed lives in this thread alone.
            let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Multiple)
            else {
                drop(said.send(Err("it was started before in this process".to_owned())));
                return;
            };
            if threading < Threading::Multiple {
                let reason =
                    format!("it allows {threading:?}, but calls come from several threads");
                drop(said.send(Err(reason)));
                return;
            }
            let world = universe.world();
            let host = mpi::environment::processor_name().unwrap_or_else(|_| "?".to_owned());
            drop(said.send(Ok((world.rank() as usize, world.size() as usize, host))));
            serve(&world);
        });
        let failed = |reason| Error::Library { library: LIBRARY, reason };
        let (rank, size, host) =
            answer.recv().unwrap_or_else(|_| Err("its thread ended".to_owned())).map_err(failed)?;
        let hosts = universe.run("all_gather", {
            let host = host.clone();
            move |world| all_gather(world, host.into_bytes())
        })?;
        let hosts = hosts?.into_iter().map(|host| String::from_utf8_lossy(&host).into_owned());
        let watch = Watch::start(rank, hosts.collect(), options);
        end_with_panics(rank, host.clone(), options.exit_code);
        let library = Arc::new(Library { host, watch, _universe: universe });
        Self::of_duplicate(library, rank, size).map(Arc::new)
    }

    /// A communicator with MPI's duplicate of the world. All ranks call this.
    fn of_duplicate(library: Arc<Library>, rank: usize, size: usize) -> Result<Self> {
        let (said, answer) = channel();
        let worker = Worker::start(move |serve| {
            let duplicate = SimpleCommunicator::world().duplicate();
            said.send(()).unwrap_or_default();
            serve(&duplicate);
        });
        let waiting = library.watch.waiting("duplicate");
        let is_there = answer.recv();
        drop(waiting);
        is_there.map_err(|_| Error::Library {
            library: LIBRARY,
            reason: "the thread of a communicator ended".to_owned(),
        })?;
        Ok(Self { worker, library, rank, size })
    }

    /// Makes a call in the communicator's thread.
    fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        bytes: usize,
        call: impl FnOnce(&SimpleCommunicator) -> T + Send + 'static,
    ) -> Result<T> {
        let _waiting = self.library.watch.waiting(name);
        self.worker.run_counted(name, bytes, call)
    }
}

/// After the usual message of a panic, ends all ranks: they would wait for this one for ever.
fn end_with_panics(rank: usize, host: String, exit_code: i32) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        watch::say(format_args!("rank {rank} ({host}) panicked; the job ends"));
        SimpleCommunicator::world().abort(exit_code);
    }));
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> &str {
        &self.library.host
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&self.all_reduce_shared(Box::new(values.to_vec()))?);
        Ok(())
    }

    fn all_reduce_shared(&self, values: Box<dyn Values>) -> Result<Vec<f32>> {
        let mut len = 0;
        values.read(&mut |values| len = values.len());
        let library = Arc::clone(&self.library);
        self.call("all_reduce", len * size_of::<f32>(), move |ranks| {
            let mut sums = vec![0f32; len];
            let at_once = summed_at_once(ranks.size() as usize);
            values.read(&mut |values| {
                for (own, sums) in values.chunks(at_once).zip(sums.chunks_mut(at_once)) {
                    ranks.all_reduce_into(own, sums, SystemOperation::sum());
                    library.watch.goes_on();
                }
            });
            sums
        })
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let own = bytes.to_vec();
        self.call("all_gather", bytes.len(), move |ranks| all_gather(ranks, own))?
    }

    fn all_to_all(&self, pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        check_pieces(pieces, self.size)?;
        let pieces = pieces.to_vec();
        let bytes = pieces.iter().map(Vec::len).sum();
        self.call("all_to_all", bytes, move |ranks| all_to_all(ranks, &pieces))?
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, root: usize) -> Result<()> {
        check_root(root, self.size)?;
        let own = std::mem::take(bytes);
        let sent = if self.rank == root { own.len() } else { 0 };
        let library = Arc::clone(&self.library);
        *bytes = self.call("broadcast", sent, move |ranks| {
            let root = ranks.process_at_rank(root as i32);
            let mut len = own.len() as u64;
            root.broadcast_into(&mut len);
            let mut all = own;
            all.resize(len as usize, 0);
            for part in all.chunks_mut(BROADCAST_AT_ONCE) {
                root.broadcast_into(part);
                library.watch.goes_on();
            }
            all
        })?;
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        self.call("barrier", 0, |ranks| ranks.barrier())
    }

    fn duplicate(&self) -> Result<Arc<dyn Communicator>> {
        let library = Arc::clone(&self.library);
        Ok(Arc::new(Self::of_duplicate(library, self.rank, self.size)?))
    }

    fn traffic(&self) -> Traffic {
        self.worker.traffic()
    }

    fn works_alone(&self) -> WorksAlone {
        self.library.watch.works_alone()
    }

    fn abort(&self, exit_code: i32) -> ! {
        SimpleCommunicator::world().abort(exit_code)
    }
}

/// The places of pieces of these lengths that lie one behind the other, as MPI counts them.
fn places(lens: &[u64]) -> Result<(Vec<i32>, Vec<i32>)> {
    let total: u64 = lens.iter().sum();
    if i32::try_from(total).is_err() {
        let reason = format!("{total} bytes in one call are more than its 2 GiB");
        return Err(Error::Library { library: LIBRARY, reason });
    }
    let starts = lens.iter().scan(0, |start, len| Some(std::mem::replace(start, *start + len)));
    let as_counts = |values: Vec<u64>| values.into_iter().map(|value| value as i32).collect();
    Ok((as_counts(lens.to_vec()), as_counts(starts.collect())))
}

fn cut(bytes: &[u8], lens: &[u64]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let cut = lens.iter().map(|&len| {
        let (piece, left) = rest.split_at(len as usize);
        rest = left;
        piece.to_vec()
    });
    cut.collect()
}

/// The bytes at an address of their own. An empty `Vec` has the address 1, which means `MPI_IN_PLACE` to Open MPI.
fn placed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reserve(1);
    bytes
}

fn all_gather(ranks: &SimpleCommunicator, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
    let own = placed(own);
    let mut lens = vec![0u64; ranks.size() as usize];
    ranks.all_gather_into(&(own.len() as u64), &mut lens[..]);
    let (counts, starts) = places(&lens)?;
    let mut all = placed(vec![0u8; lens.iter().sum::<u64>() as usize]);
    ranks.all_gather_varcount_into(&own[..], &mut PartitionMut::new(&mut all[..], counts, starts));
    Ok(cut(&all, &lens))
}

fn all_to_all(ranks: &SimpleCommunicator, pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let sent: Vec<u64> = pieces.iter().map(|piece| piece.len() as u64).collect();
    let mut lens = vec![0u64; pieces.len()];
    ranks.all_to_all_into(&sent[..], &mut lens[..]);
    let (counts, starts) = places(&sent)?;
    let given = placed(pieces.concat());
    let given = mpi::datatype::Partition::new(&given[..], counts, starts);
    let (counts, starts) = places(&lens)?;
    let mut all = placed(vec![0u8; lens.iter().sum::<u64>() as usize]);
    ranks.all_to_all_varcount_into(&given, &mut PartitionMut::new(&mut all[..], counts, starts));
    Ok(cut(&all, &lens))
}
