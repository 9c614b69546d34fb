//! Sums over all ranks of values that come one after the other.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use half::bf16;
use half::slice::HalfFloatSliceExt;

use crate::communicator::{Communicator, Traffic};
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
/// "PyTorch Distributed", section 3.2). A thread of its own sums a bucket as soon as it is full. All ranks push the
/// same rows in the same order.
///
/// ```
/// use std::sync::Arc;
///
/// use candle_vision_distributed::{Buckets, Communicator, Compression, threads};
///
/// let sum_on = |rank| {
///     let communicator: Arc<dyn Communicator> = Arc::new(rank);
///     let mut buckets = Buckets::new(communicator, Compression::None, 4)?;
///     buckets.push(&[1.0, 2.0, 3.0])?;
///     buckets.push(&[4.0])?;
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
    /// The lengths of the rows that were pushed.
    rows: Vec<usize>,
    /// Number of buckets that the thread has.
    sent: usize,
    exposed: Duration,
    /// By which the thread makes its calls.
    communicator: Arc<dyn Communicator>,
    /// `None` with one rank, and after the end.
    thread: Option<Summing>,
}

struct Summing {
    buckets: Sender<Vec<f32>>,
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
        let (bucket, rows, exposed) = (Vec::new(), Vec::new(), Duration::ZERO);
        Ok(Self { full: full.max(1), bucket, rows, sent: 0, exposed, communicator, thread })
    }

    /// Adds a row of values to the sums.
    ///
    /// # Errors
    /// If the thread has ended, which another rank's end may cause. [`Buckets::finish`] has the reason.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        self.bucket.extend_from_slice(values);
        self.rows.push(values.len());
        if self.bucket.len() >= self.full { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        let Some(thread) = &self.thread else { return Ok(()) };
        if self.bucket.is_empty() {
            return Ok(());
        }
        let bucket = std::mem::take(&mut self.bucket);
        // A thread that has ended left its error among the sums.
        if thread.buckets.send(bucket).is_ok() {
            self.sent += 1;
        }
        Ok(())
    }

    /// The sums of the rows since the last call, in the order in which they were pushed.
    ///
    /// # Errors
    /// Those of [`Communicator::all_reduce`].
    pub fn finish(&mut self) -> Result<Vec<Vec<f32>>> {
        self.send()?;
        let rows = std::mem::take(&mut self.rows);
        let buckets = match &self.thread {
            None => vec![std::mem::take(&mut self.bucket)],
            Some(thread) => {
                let started = Instant::now();
                let received = (0..std::mem::take(&mut self.sent)).map(|_| thread.next_sums());
                let sums: Result<Vec<Vec<f32>>> = received.collect();
                self.exposed += started.elapsed();
                sums?
            }
        };
        // A row lies in one bucket.
        let mut buckets = buckets.iter();
        let mut rest: &[f32] = &[];
        let row = |len| {
            while rest.len() < len {
                // A thread that ended in an earlier call sums nothing more.
                rest = buckets.next().ok_or_else(ended)?;
            }
            let (row, behind) = rest.split_at(len);
            rest = behind;
            Ok(row.to_vec())
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
        let Some(Summing { buckets, sums, handle }) = self.thread.take() else { return };
        drop((buckets, sums));
        // A panic of the thread was told where it happened.
        drop(handle.join());
    }
}

impl Summing {
    fn start(communicator: Arc<dyn Communicator>, compression: Compression) -> Self {
        let ((buckets, work), (done, sums)) = (channel::<Vec<f32>>(), channel());
        let handle = std::thread::spawn(move || {
            for bucket in work {
                let summed = sum(communicator.as_ref(), compression, bucket);
                let is_over = summed.is_err();
                if done.send(summed).is_err() || is_over {
                    break;
                }
            }
        });
        Self { buckets, sums, handle }
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
fn sum(communicator: &dyn Communicator, by: Compression, mut values: Vec<f32>) -> Result<Vec<f32>> {
    match by {
        Compression::None => communicator.all_reduce_owned(values),
        Compression::Bf16 => {
            sum_rounded(communicator, &mut values)?;
            Ok(values)
        }
    }
}

/// Each rank sums one part of the values, and then gives the sums to the others.
fn sum_rounded(communicator: &dyn Communicator, values: &mut [f32]) -> Result<()> {
    let ranks = communicator.size();
    let part = |rank| even_part(values.len(), rank, ranks);
    let pieces: Vec<Vec<u8>> = (0..ranks).map(|rank| rounded(&values[part(rank)])).collect();
    let own = part(communicator.rank());
    let mut sums = vec![0f32; own.len()];
    let all = communicator.all_to_all(&pieces)?;
    for (rank, piece) in all.iter().enumerate() {
        let (found, expected) = (piece.len(), own.len() * size_of::<bf16>());
        if found != expected {
            return Err(Error::Mismatch { call: "all_to_all", rank, found, expected });
        }
        sums.iter_mut().zip(widened(piece)).for_each(|(sum, value)| *sum += value);
    }
    let sums = communicator.all_gather(&rounded(&sums))?;
    let sums = sums.iter().flat_map(|piece| widened(piece));
    values.iter_mut().zip(sums).for_each(|(value, sum)| *value = sum);
    Ok(())
}

fn rounded(values: &[f32]) -> Vec<u8> {
    let mut half = vec![bf16::ZERO; values.len()];
    half.convert_from_f32_slice(values);
    half.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn widened(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32())
}
