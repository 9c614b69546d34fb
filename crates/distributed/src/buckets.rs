//! Sums over all ranks of values that come one after the other.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use half::bf16;
use half::slice::HalfFloatSliceExt;

use crate::communicator::{Communicator, Traffic, Values};
use crate::error::{Error, Result};
use crate::part::even_part;

/// In which form values go to other ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// As `bf16`, in half of the bytes. Each value is rounded to 8 bits twice, before and after the sum, which itself is
    /// made in `f32`.
    Bf16,
}

/// Gradients that are summed over all ranks while more of them are computed.
///
/// Small rows of values share a bucket, because a call takes long beside the transfer of a few values (Li et al. 2020,
/// "PyTorch Distributed", section 3.2). Long rows can go [alone](Buckets::push_shared), without a copy. A thread sums buckets and
/// long rows as soon as they are there. All ranks push the same rows in the same order.
///
/// ```
/// use std::sync::Arc;
///
/// use candle_vision_distributed::{Buckets, Communicator, Compression, threads};
///
/// let sum_on = |rank| {
///     let communicator: Arc<dyn Communicator> = Arc::new(rank);
///     let mut buckets = Buckets::new(communicator, Compression::None, 4)?;
///     buckets.push(&[1.0, 2.0, 3.0]);
///     buckets.push(&[4.0]);
///     buckets.finish()
/// };
/// let sums = std::thread::scope(|scope| {
///     let ranks: Vec<_> = threads(2).into_iter().map(|r| scope.spawn(move || sum_on(r))).collect();
///     ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
/// })?;
/// assert_eq!(sums[1], [vec![2.0, 4.0, 6.0], vec![8.0]]);
/// # candle_vision_distributed::Result::Ok(())
/// ```
pub struct Buckets {
    /// Number of values from which a bucket is full.
    full: usize,
    bucket: Vec<f32>,
    /// The rows of the bucket: indices into `rows`.
    in_bucket: Vec<usize>,
    /// Where the rows are that were pushed.
    rows: Vec<Place>,
    /// Number of buckets and long rows that were sent.
    sent: usize,
    exposed: Duration,
    /// By which the thread makes its calls.
    communicator: Arc<dyn Communicator>,
    /// `None` with one rank, and after the end.
    thread: Option<Summing>,
    /// What was sent, if there is no thread.
    own: Vec<Vec<f32>>,
}

/// Where a row is: the number of what was sent with it, and its values there.
struct Place {
    sent: usize,
    values: Range<usize>,
}

struct Summing {
    rows: Sender<Box<dyn Values>>,
    sums: Receiver<Result<Vec<f32>>>,
    handle: JoinHandle<()>,
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Buckets");
        text.field("full", &self.full).field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl Buckets {
    /// The values of a bucket unless a program says otherwise: 25 MiB of `f32`, as in PyTorch.
    pub const USUAL: usize = (25 << 20) / size_of::<f32>();

    /// Number of values for each rank from which a row is long: 1 MiB of `f32`, beside whose transfer a message takes no time.
    pub const LONG_FOR_EACH: usize = (1 << 20) / size_of::<f32>();

    /// Buckets of at least `full` values. The thread that sums them makes its calls by a
    /// [duplicate](Communicator::duplicate) of `communicator`.
    ///
    /// # Errors
    /// If there can be no duplicate.
    pub fn new(
        communicator: Arc<dyn Communicator>,
        compression: Compression,
        full: usize,
    ) -> Result<Self> {
        let communicator = communicator.duplicate()?;
        let thread = (communicator.size() > 1)
            .then(|| Summing::start(Arc::clone(&communicator), compression));
        Ok(Self {
            full: full.max(1),
            bucket: Vec::new(),
            in_bucket: Vec::new(),
            rows: Vec::new(),
            sent: 0,
            exposed: Duration::ZERO,
            communicator,
            thread,
            own: Vec::new(),
        })
    }

    /// Adds a row of values to the sums.
    pub fn push(&mut self, values: &[f32]) {
        let start = self.bucket.len();
        self.bucket.extend_from_slice(values);
        self.in_bucket.push(self.rows.len());
        self.rows.push(Place { sent: self.sent, values: start..self.bucket.len() });
        if self.bucket.len() >= self.full {
            self.send_bucket();
        }
    }

    /// Adds a row of `len` values that nobody changes until they are dropped here. From [`LONG_FOR_EACH`](Buckets::LONG_FOR_EACH)
    /// values for each rank on, and from those of a full bucket on, it goes alone and is not copied.
    pub fn push_shared(&mut self, values: impl Values + 'static, len: usize) {
        if len < self.full.min(Self::LONG_FOR_EACH.saturating_mul(self.communicator.size())) {
            return values.read(&mut |values| self.push(values));
        }
        self.rows.push(Place { sent: self.sent, values: 0..len });
        self.send(Box::new(values));
    }

    fn send_bucket(&mut self) {
        if self.in_bucket.is_empty() {
            return;
        }
        for row in self.in_bucket.drain(..) {
            self.rows[row].sent = self.sent;
        }
        let bucket = std::mem::take(&mut self.bucket);
        self.send(Box::new(bucket));
    }

    fn send(&mut self, values: Box<dyn Values>) {
        self.sent += 1;
        match &self.thread {
            // A thread that has ended left its error among the sums.
            Some(thread) => drop(thread.rows.send(values)),
            None => values.read(&mut |values| self.own.push(values.to_vec())),
        }
    }

    /// The sums of the rows since the last call, in the order in which they were pushed.
    ///
    /// # Errors
    /// Those of [`Communicator::all_reduce`]. The thread ends with the first.
    pub fn finish(&mut self) -> Result<Vec<Vec<f32>>> {
        self.send_bucket();
        let (rows, sent) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.sent));
        let mut sums = match &self.thread {
            None => std::mem::take(&mut self.own),
            Some(thread) => {
                let started = Instant::now();
                let sums: Result<Vec<Vec<f32>>> = (0..sent).map(|_| thread.next_sums()).collect();
                self.exposed += started.elapsed();
                sums?
            }
        };
        let row = |Place { sent, values }| {
            let sums: &mut Vec<f32> = &mut sums[sent];
            if values.len() == sums.len() {
                return Ok(std::mem::take(sums));
            }
            let (rank, found, expected) = (self.communicator.rank(), sums.len(), values.end);
            let short = Error::Mismatch { call: "all_reduce", rank, found, expected };
            sums.get(values).map(<[f32]>::to_vec).ok_or(short)
        };
        rows.into_iter().map(row).collect()
    }

    /// What this rank sent so far.
    pub fn traffic(&self) -> Traffic {
        self.communicator.traffic()
    }

    /// How long calls of [`Buckets::finish`] waited: the part of the sums' time that no computation hid.
    pub fn exposed(&self) -> Duration {
        self.exposed
    }
}

impl Drop for Buckets {
    fn drop(&mut self) {
        let Some(Summing { rows, sums, handle }) = self.thread.take() else { return };
        drop((rows, sums));
        // A panic of the thread was told where it happened.
        drop(handle.join());
    }
}

impl Summing {
    fn start(communicator: Arc<dyn Communicator>, compression: Compression) -> Self {
        let ((rows, work), (done, sums)) = (channel(), channel());
        let handle = std::thread::spawn(move || {
            for values in work {
                let summed = sum(communicator.as_ref(), compression, values);
                let is_over = summed.is_err();
                if done.send(summed).is_err() || is_over {
                    break;
                }
            }
        });
        Self { rows, sums, handle }
    }

    fn next_sums(&self) -> Result<Vec<f32>> {
        self.sums.recv().unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> Error {
    Error::Library {
        library: "the thread that sums gradients",
        reason: "it ended before its work was done".to_owned(),
    }
}

/// The sums of the values over all ranks.
fn sum(
    communicator: &dyn Communicator,
    by: Compression,
    values: Box<dyn Values>,
) -> Result<Vec<f32>> {
    match by {
        Compression::None => communicator.all_reduce_shared(values),
        Compression::Bf16 => {
            let mut sums = Ok(Vec::new());
            values.read(&mut |values| sums = sum_rounded(communicator, values));
            sums
        }
    }
}

/// Each rank sums one part of the values, and then gives the sums to the others.
fn sum_rounded(communicator: &dyn Communicator, values: &[f32]) -> Result<Vec<f32>> {
    let ranks = communicator.size();
    let part = |rank| even_part(values.len(), rank, ranks);
    let check = |call, rank, piece: &[u8], len: usize| {
        let (found, expected) = (piece.len(), len * size_of::<bf16>());
        if found == expected {
            Ok(())
        } else {
            Err(Error::Mismatch { call, rank, found, expected })
        }
    };
    let pieces: Vec<Vec<u8>> = (0..ranks).map(|rank| rounded(&values[part(rank)])).collect();
    let mut own = vec![0f32; part(communicator.rank()).len()];
    for (rank, piece) in communicator.all_to_all(&pieces)?.iter().enumerate() {
        check("all_to_all", rank, piece, own.len())?;
        own.iter_mut().zip(widened(piece)).for_each(|(sum, value)| *sum += value);
    }
    let mut sums = Vec::with_capacity(values.len());
    for (rank, piece) in communicator.all_gather(&rounded(&own))?.iter().enumerate() {
        check("all_gather", rank, piece, part(rank).len())?;
        sums.extend(widened(piece));
    }
    Ok(sums)
}

fn rounded(values: &[f32]) -> Vec<u8> {
    let mut half = vec![bf16::ZERO; values.len()];
    half.convert_from_f32_slice(values);
    let mut bytes = vec![0; size_of_val(half.as_slice())];
    bytes.as_chunks_mut().0.iter_mut().zip(&half).for_each(|(b, value)| *b = value.to_le_bytes());
    bytes
}

fn widened(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32())
}
