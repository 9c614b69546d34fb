//! Ranks that are threads of one process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::communicator::{Communicator, Traffic};
use crate::error::{Error, Result};
use crate::one_process::{check_pieces, check_root};

/// Ranks that are threads of this process, by their numbers. They take the place of processes in tests, and let a
/// program train several copies of a network on its own threads.
///
/// A rank that waits blocks its thread. If the ranks compute with rayon, each needs a pool of its own: within one pool, a
/// thread that waits may have taken work that another rank needs first.
///
/// A rank that is dropped, for example by a panic, ends the calls of the others with [`Error::RankEnded`].
///
/// # Panics
/// If `size` is 0.
///
/// ```
/// use candle_vision_distributed::{Communicator, threads};
///
/// let gathered = std::thread::scope(|scope| {
///     let ranks: Vec<_> = threads(3)
///         .into_iter()
///         .map(|rank| scope.spawn(move || rank.all_gather(&[rank.rank() as u8; 2])))
///         .collect();
///     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
/// })?;
/// assert_eq!(gathered[2], [[0, 0], [1, 1], [2, 2]]);
/// # candle_vision_distributed::Result::Ok(())
/// ```
pub fn threads(size: usize) -> Vec<ThreadRank> {
    assert!(size > 0, "a job has at least one rank");
    let group = Arc::new(Group::new(size));
    (0..size).map(|rank| ThreadRank::new(rank, Arc::clone(&group))).collect()
}

/// A rank that is a thread. [`threads`] makes them.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    group: Arc<Group>,
    /// Number of duplicates that this rank made.
    duplicates: AtomicUsize,
    traffic: Mutex<Traffic>,
}

#[derive(Debug)]
struct Group {
    size: usize,
    meeting: Mutex<Meeting>,
    changed: Condvar,
    /// The groups of duplicates, in the order in which they were made.
    duplicates: Mutex<Vec<Arc<Group>>>,
}

/// A call in which ranks meet.
#[derive(Debug)]
struct Meeting {
    given: Vec<Option<Vec<u8>>>,
    /// What all ranks gave, until all of them have taken it.
    taken: Option<Arc<Vec<Vec<u8>>>>,
    /// Number of ranks that have not taken it.
    waiting: usize,
    /// The first rank that ended.
    ended: Option<usize>,
}

impl Group {
    fn new(size: usize) -> Self {
        let meeting = Meeting { given: vec![None; size], taken: None, waiting: 0, ended: None };
        let (meeting, changed) = (Mutex::new(meeting), Condvar::new());
        Self { size, meeting, changed, duplicates: Mutex::default() }
    }

    /// Every rank's bytes. Returns when all ranks have given theirs.
    fn meet(&self, rank: usize, bytes: Vec<u8>, call: &'static str) -> Result<Arc<Vec<Vec<u8>>>> {
        let mut meeting = locked(&self.meeting);
        // The ranks of the call before may still take what it gave.
        while meeting.taken.is_some() {
            if let Some(ended) = meeting.ended {
                return Err(Error::RankEnded { rank: ended, waiting: rank, call });
            }
            meeting = self.wait(meeting);
        }
        meeting.given[rank] = Some(bytes);
        if meeting.given.iter().all(Option::is_some) {
            let all = meeting.given.iter_mut().filter_map(Option::take).collect();
            (meeting.taken, meeting.waiting) = (Some(Arc::new(all)), self.size);
            self.changed.notify_all();
        }
        loop {
            if let Some(all) = meeting.taken.clone() {
                meeting.waiting -= 1;
                if meeting.waiting == 0 {
                    meeting.taken = None;
                    self.changed.notify_all();
                }
                return Ok(all);
            }
            if let Some(ended) = meeting.ended {
                return Err(Error::RankEnded { rank: ended, waiting: rank, call });
            }
            meeting = self.wait(meeting);
        }
    }

    fn wait<'a>(&self, meeting: MutexGuard<'a, Meeting>) -> MutexGuard<'a, Meeting> {
        self.changed.wait(meeting).unwrap_or_else(PoisonError::into_inner)
    }

    fn duplicate(&self, number: usize) -> Arc<Self> {
        let mut duplicates = locked(&self.duplicates);
        while duplicates.len() <= number {
            duplicates.push(Arc::new(Self::new(self.size)));
        }
        Arc::clone(&duplicates[number])
    }
}

impl ThreadRank {
    fn new(rank: usize, group: Arc<Group>) -> Self {
        let (duplicates, traffic) = (AtomicUsize::new(0), Mutex::default());
        Self { rank, group, duplicates, traffic }
    }

    fn meet(&self, bytes: Vec<u8>, call: &'static str) -> Result<Arc<Vec<Vec<u8>>>> {
        let (started, sent) = (Instant::now(), bytes.len());
        let all = self.group.meet(self.rank, bytes, call);
        let mut traffic = locked(&self.traffic);
        traffic.bytes += sent as u64;
        traffic.calls += 1;
        traffic.waited += started.elapsed();
        all
    }
}

impl Drop for ThreadRank {
    fn drop(&mut self) {
        locked(&self.group.meeting).ended.get_or_insert(self.rank);
        self.group.changed.notify_all();
    }
}

impl Communicator for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.group.size
    }

    fn host(&self) -> &str {
        "this computer"
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        const CALL: &str = "all_reduce";
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = self.meet(bytes, CALL)?;
        let expected = all[0].len();
        if let Some((rank, bytes)) = all.iter().enumerate().find(|(_, b)| b.len() != expected) {
            return Err(Error::Mismatch { call: CALL, rank, found: bytes.len(), expected });
        }
        values.fill(0.0);
        // In the order of ranks, so that every rank gets the same bits.
        for bytes in all.iter() {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value += f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(self.meet(bytes.to_vec(), "all_gather")?.as_ref().clone())
    }

    fn all_to_all(&self, pieces: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        check_pieces(pieces, self.size())?;
        // Each piece behind its length.
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend((piece.len() as u64).to_le_bytes());
            bytes.extend(piece);
        }
        let all = self.meet(bytes, "all_to_all")?;
        let of_rank = |bytes: &Vec<u8>| {
            let mut rest = bytes.as_slice();
            for _ in 0..self.rank {
                (_, rest) = first_piece(rest);
            }
            first_piece(rest).0.to_vec()
        };
        Ok(all.iter().map(of_rank).collect())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, root: usize) -> Result<()> {
        check_root(root, self.size())?;
        let given = if self.rank == root { bytes.clone() } else { Vec::new() };
        bytes.clone_from(&self.meet(given, "broadcast")?[root]);
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        self.meet(Vec::new(), "barrier").map(drop)
    }

    fn duplicate(&self) -> Result<Arc<dyn Communicator>> {
        let number = self.duplicates.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Self::new(self.rank, self.group.duplicate(number))))
    }

    fn traffic(&self) -> Traffic {
        *locked(&self.traffic)
    }
}

/// The first piece, and what follows it.
fn first_piece(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (len, rest) = bytes.split_first_chunk().expect("a piece begins with its length");
    rest.split_at(u64::from_le_bytes(*len) as usize)
}

/// A panic of another rank leaves nothing half-finished here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
