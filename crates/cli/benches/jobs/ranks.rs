//! Training steps that several processes take together, as the trainer takes them: each on a batch of its own, with the
//! gradients summed while they are computed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use candle_core::Tensor;
use candle_vision::distributed::{Buckets, Communicator, Compression};
use candle_vision::ops::in_pool;

use crate::measure::Clock;
use crate::training::Training;
use crate::work::Outcome;

/// What steps cost because several processes take them together.
pub(crate) struct Shared {
    /// Share of the steps' time in which this process waited for sums that no computation hid.
    pub(crate) waiting: f64,
    /// Bytes that this process handed over in a step.
    pub(crate) bytes_per_step: f64,
    /// Time of the sum of one value over all processes, while nothing is computed.
    pub(crate) all_reduce_one_us: f64,
    /// Time of the sum of a full bucket, likewise, and the bytes of the bucket.
    pub(crate) all_reduce_bucket_ms: f64,
    pub(crate) bucket_bytes: usize,
}

/// What a step spent on the other processes.
struct Spent {
    time: Duration,
    waited: Duration,
    bytes: u64,
}

pub(crate) fn train(
    clock: &Clock,
    ranks: &Arc<dyn Communicator>,
    mut training: Training,
    images: &Tensor,
    labels: &Tensor,
) -> Result<Outcome> {
    let size = ranks.size();
    let bucket = if clock.tiny { 1 << 10 } else { Buckets::USUAL };
    let all_reduce_one_us = seconds_of_sum(ranks.as_ref(), 1, 50)? * 1e6;
    let all_reduce_bucket_ms = seconds_of_sum(ranks.as_ref(), bucket, 5)? * 1e3;
    let mut buckets = Buckets::new(Arc::clone(ranks), Compression::None, Buckets::USUAL)?;
    let mut all = Vec::new();
    let times = clock.measure_together(ranks.as_ref(), |number| {
        let (started, waited) = (Instant::now(), buckets.exposed());
        let bytes = buckets.traffic().bytes;
        drop(in_pool(|| training.step_together(number, images, labels, (size, &mut buckets)))?);
        all.push(Spent {
            time: started.elapsed(),
            waited: buckets.exposed() - waited,
            bytes: buckets.traffic().bytes - bytes,
        });
        Ok(())
    })?;
    // The first steps were a warm-up.
    let counted = &all[all.len() - times.steps..];
    let sum = |of: fn(&Spent) -> Duration| counted.iter().map(of).sum::<Duration>().as_secs_f64();
    let bytes: u64 = counted.iter().map(|step| step.bytes).sum();
    let shared = Shared {
        waiting: sum(|step| step.waited) / sum(|step| step.time),
        bytes_per_step: bytes as f64 / counted.len() as f64,
        all_reduce_one_us,
        all_reduce_bucket_ms,
        bucket_bytes: bucket * size_of::<f32>(),
    };
    Ok(Outcome::Together { times, images: size * images.dims()[0], shared })
}

/// The seconds of a sum of so many values, the mean of `times`.
fn seconds_of_sum(ranks: &dyn Communicator, values: usize, times: u32) -> Result<f64> {
    let mut values = vec![0f32; values];
    ranks.all_reduce(&mut values)?;
    ranks.barrier()?;
    let started = Instant::now();
    for _ in 0..times {
        ranks.all_reduce(&mut values)?;
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(times))
}

/// The processes that a launcher started together with this one.
#[cfg(feature = "mpi")]
pub(crate) fn join() -> Result<Arc<dyn Communicator>> {
    use candle_vision::distributed::{Mpi, MpiOptions};

    let mpi = Mpi::start(MpiOptions::default())?;
    if mpi.size() == 1 {
        bail!(
            "--distributed needs processes that mpirun started: `mpirun -n 2 jobs NAME --distributed`"
        )
    }
    Ok(mpi)
}

#[cfg(not(feature = "mpi"))]
pub(crate) fn join() -> Result<Arc<dyn Communicator>> {
    bail!("these jobs were built without MPI; build them with the cargo feature `mpi`")
}
