//! Runs a step again and again, and keeps the time of each.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use candle_vision::distributed::Communicator;

use crate::process::minor_faults;

/// Steps before the first that counts: caches, pools and the allocator fill in them; a card also has
/// its kernels compiled and its algorithms chosen.
const WARM_UP: usize = 2;
const WARM_UP_OF_CARD: usize = 20;
/// Times of fewer have no median worth the name.
const MIN_TIMES: usize = 3;
/// Steps of a card that are timed together. It is given its work ahead, as in a training run: to wait
/// for every step would be to measure the waiting.
const GROUP_OF_CARD: usize = 10;

/// How long a job is measured, and where.
pub(crate) struct Clock {
    /// At least so many seconds, not counting the warm-up.
    pub(crate) seconds: f64,
    /// What does the work.
    pub(crate) device: Device,
    /// Whether a job is only to be seen to run, each step made small and done as rarely as can be.
    pub(crate) tiny: bool,
    /// Whether a card's training steps are asked for one by one, rather than repeated from a captured one.
    pub(crate) plain: bool,
    /// The processes that take training steps together.
    pub(crate) ranks: Option<Arc<dyn Communicator>>,
}

/// The times of a job's steps.
pub(crate) struct Measured {
    pub(crate) median_ms: f64,
    pub(crate) min_ms: f64,
    pub(crate) steps: usize,
    pub(crate) minor_faults_per_step: Option<f64>,
}

impl Clock {
    /// Whether training steps are repeated from a captured one.
    pub(crate) fn repeats_steps(&self) -> bool {
        self.device.is_cuda() && !self.plain
    }

    /// The number of the step, counted over warm-up too, is handed to `step`; what it returns is
    /// freed within its time.
    pub(crate) fn measure<T>(&self, step: impl FnMut(usize) -> Result<T>) -> Result<Measured> {
        self.measure_until(step, |_, elapsed| Ok(elapsed >= self.seconds))
    }

    /// [`Clock::measure`] of steps that all ranks take together. Rank 0 says how many, because no rank may stop before the
    /// others.
    pub(crate) fn measure_together<T>(
        &self,
        ranks: &dyn Communicator,
        step: impl FnMut(usize) -> Result<T>,
    ) -> Result<Measured> {
        let mut enough = None;
        self.measure_until(step, |times, elapsed| {
            let enough = match enough {
                Some(enough) => enough,
                None => {
                    let wanted = (self.seconds * times as f64 / elapsed).ceil() as u64;
                    let mut bytes = wanted.to_le_bytes().to_vec();
                    ranks.broadcast(&mut bytes, 0)?;
                    let bytes = bytes.first_chunk().context("rank 0 said no number")?;
                    *enough.insert(u64::from_le_bytes(*bytes))
                }
            };
            Ok(times as u64 >= enough)
        })
    }

    /// Measures until `is_enough` of the number of times, at least [`MIN_TIMES`], and the seconds so far.
    fn measure_until<T>(
        &self,
        mut step: impl FnMut(usize) -> Result<T>,
        mut is_enough: impl FnMut(usize, f64) -> Result<bool>,
    ) -> Result<Measured> {
        ensure!(self.seconds.is_finite(), "a job cannot be measured for {} seconds", self.seconds);
        let (warm_up, group) = match self.device {
            _ if self.tiny => (1, 1),
            Device::Cpu => (WARM_UP, 1),
            _ => (WARM_UP_OF_CARD, GROUP_OF_CARD),
        };
        let mut number = 0;
        let mut run = |count: usize| -> Result<f64> {
            let start = Instant::now();
            for _ in 0..count {
                black_box(step(number)?);
                number += 1;
            }
            self.device.synchronize()?;
            Ok(start.elapsed().as_secs_f64() * 1e3 / count as f64)
        };
        run(warm_up)?;
        let mut times_ms = Vec::new();
        let faults_before = minor_faults();
        let start = Instant::now();
        while times_ms.len() < MIN_TIMES
            || !is_enough(times_ms.len(), start.elapsed().as_secs_f64())?
        {
            times_ms.push(run(group)?);
        }
        let faults = minor_faults().zip(faults_before).map(|(after, before)| after - before);
        let steps = times_ms.len() * group;
        times_ms.sort_by(f64::total_cmp);
        Ok(Measured {
            median_ms: median_of_sorted(&times_ms),
            min_ms: times_ms[0],
            steps,
            minor_faults_per_step: faults.map(|faults| faults as f64 / steps as f64),
        })
    }
}

impl Measured {
    /// Of a step that happened once.
    pub(crate) fn once(time: Duration) -> Self {
        let milliseconds = time.as_secs_f64() * 1e3;
        Self {
            median_ms: milliseconds,
            min_ms: milliseconds,
            steps: 1,
            minor_faults_per_step: None,
        }
    }

    /// The same with each step counted as `parts` steps of equal length.
    pub(crate) fn in_parts(self, parts: usize) -> Self {
        let share = |value: f64| value / parts as f64;
        Self {
            median_ms: share(self.median_ms),
            min_ms: share(self.min_ms),
            steps: self.steps * parts,
            minor_faults_per_step: self.minor_faults_per_step.map(share),
        }
    }
}

fn median_of_sorted(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}
