//! Runs a step again and again, and keeps the time of each.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::process::minor_faults;

/// Steps before the first that counts: caches, pools and the allocator fill in them.
const WARM_UP: usize = 2;
/// A median of fewer says nothing.
const MIN_STEPS: usize = 3;

/// How long a job is measured.
pub(crate) struct Clock {
    /// At least so many seconds, not counting the warm-up.
    pub(crate) seconds: f64,
}

/// The times of a job's steps.
pub(crate) struct Measured {
    pub(crate) median_ms: f64,
    pub(crate) min_ms: f64,
    pub(crate) steps: usize,
    pub(crate) minor_faults_per_step: Option<f64>,
}

impl Clock {
    /// The number of the step, counted over warm-up too, is handed to `step`; what it returns is
    /// freed within its time.
    pub(crate) fn measure<T>(&self, mut step: impl FnMut(usize) -> Result<T>) -> Result<Measured> {
        ensure!(self.seconds.is_finite(), "a job cannot be measured for {} seconds", self.seconds);
        for number in 0..WARM_UP {
            black_box(step(number)?);
        }
        let mut times_ms = Vec::new();
        let faults_before = minor_faults();
        let start = Instant::now();
        while times_ms.len() < MIN_STEPS || start.elapsed().as_secs_f64() < self.seconds {
            let number = WARM_UP + times_ms.len();
            let step_start = Instant::now();
            black_box(step(number)?);
            times_ms.push(step_start.elapsed().as_secs_f64() * 1e3);
        }
        let faults = minor_faults().zip(faults_before).map(|(after, before)| after - before);
        let steps = times_ms.len();
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
