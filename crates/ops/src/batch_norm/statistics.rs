//! The statistics of a batch, and the running statistics that they move.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, Var, bail};

use super::NAME;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::storage::Float;
use crate::storage::{elements, stored, with_float};
use candle_vision_kernels::batch_norm as kernels;

/// The statistics that a batch norm measured on a batch.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// Mean of each channel, `[channels]`.
    pub mean: Tensor,
    /// Biased variance of each channel (the sum of squares divided by `count`), `[channels]`.
    pub variance: Tensor,
    /// Number of values per channel: batch times height times width.
    pub count: usize,
    /// Both as one tensor, `[2, channels]`, for the kernel that moves running statistics.
    #[cfg(feature = "cuda")]
    moments: Tensor,
}

impl BatchStatistics {
    /// Of mean and variance, `[2, channels]`.
    pub(super) fn of_moments(moments: Tensor, count: usize) -> Result<Self> {
        Ok(Self {
            mean: moments.get(0)?,
            variance: moments.get(1)?,
            count,
            #[cfg(feature = "cuda")]
            moments,
        })
    }

    /// Moves running statistics: `(1 - momentum) * running + momentum * batch`. The batch's variance is the
    /// unbiased one here, as in PyTorch.
    pub(super) fn moves(&self, running: &RunningStatistics<'_>) -> Result<()> {
        #[cfg(feature = "cuda")]
        if self.mean.device().is_cuda() {
            return cuda::move_statistics(&self.moments, running, self.count);
        }
        let RunningStatistics { mean, variance, batches, momentum } = *running;
        let unbiased = self.count as f64 / (self.count as f64 - 1.0);
        let blend = |running: &Var, batch: &Tensor, factor: f64| -> Result<()> {
            let kept = running.as_detached_tensor().affine(1.0 - momentum, 0.0)?;
            running.set(&(kept + batch.affine(momentum * factor, 0.0)?)?)
        };
        blend(mean, &self.mean, 1.0)?;
        blend(variance, &self.variance, unbiased)?;
        batches.set(&(batches.ones_like()? + batches.as_detached_tensor())?)
    }
}

/// The statistics that evaluation uses in place of a batch's.
#[derive(Debug, Clone, Copy)]
pub struct RunningStatistics<'a> {
    /// Mean of each channel, `[channels]`.
    pub mean: &'a Var,
    /// Unbiased variance of each channel, `[channels]`.
    pub variance: &'a Var,
    /// Number of batches that have moved them, one number of `i64`.
    pub batches: &'a Var,
    /// Share of a batch in the new values.
    pub momentum: f64,
}

/// Returns an error if there is only one value per channel.
pub(super) fn check_count(x: &Tensor, channels: usize) -> Result<()> {
    if x.elem_count() / channels < 2 {
        bail!("{NAME}: batch statistics need more than one value per channel, got {:?}", x.dims())
    }
    Ok(())
}

/// The statistics of `x`, which move `running`, if it is given.
pub(super) fn statistics(
    x: &Tensor,
    channels: usize,
    running: Option<&RunningStatistics<'_>>,
) -> Result<BatchStatistics> {
    // On a CUDA device the kernel that computes them also moves the running ones.
    let at_once = running.filter(|_| x.device().is_cuda());
    let statistics = of_moments(x, channels, at_once)?;
    if let (Some(running), None) = (running, at_once) {
        statistics.moves(running)?;
    }
    Ok(statistics)
}

/// The statistics, also of a single value per channel, whose variance is 0.
pub(super) fn of_any_count(x: &Tensor, channels: usize) -> Result<BatchStatistics> {
    of_moments(x, channels, None)
}

fn of_moments(
    x: &Tensor,
    channels: usize,
    running: Option<&RunningStatistics<'_>>,
) -> Result<BatchStatistics> {
    let moments = x.apply_op1_no_bwd(&Moments { running })?;
    BatchStatistics::of_moments(moments, x.elem_count() / channels)
}

/// The mean and biased variance of each channel, `[2, channels]`.
struct Moments<'a> {
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only CUDA's kernel moves them"))]
    running: Option<&'a RunningStatistics<'a>>,
}

impl CustomOp1 for Moments<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let channels = channels(layout);
        with_float!(NAME, x, T => {
            let moments = kernels::moments::<T>(elements(x, layout)?, channels);
            Ok(stored(rows::<T>(moments), (2, channels)))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::moments(Array::new(x, layout), self.running)
    }
}

pub(super) fn channels(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

pub(super) fn rows<T: Float>(rows: [Vec<f64>; 2]) -> Vec<T> {
    rows.concat().into_iter().map(T::narrow).collect()
}
