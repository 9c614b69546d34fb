//! The statistics of a batch, and the running statistics that they update.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, Var, bail};

use super::NAME;
use crate::check;
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
    /// Both as one tensor, `[2, channels]`, for the kernel that updates running statistics.
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

    /// The new running mean and variance: `(1 - momentum) * running + momentum * batch`. The batch's
    /// variance is the unbiased one here, as in PyTorch.
    ///
    /// # Errors
    /// If the shapes or number types differ.
    pub fn update(
        &self,
        running_mean: &Tensor,
        running_var: &Tensor,
        momentum: f64,
    ) -> Result<(Tensor, Tensor)> {
        check::matches(NAME, "running_mean", running_mean, self.mean.dims(), &self.mean)?;
        check::matches(NAME, "running_var", running_var, self.mean.dims(), &self.mean)?;
        let unbiased = self.unbiased();
        let blend = |running: &Tensor, batch: &Tensor, factor: f64| -> Result<Tensor> {
            let kept = running.detach().affine(1.0 - momentum, 0.0)?;
            kept + batch.affine(momentum * factor, 0.0)?
        };
        let mean = blend(running_mean, &self.mean, 1.0)?;
        Ok((mean, blend(running_var, &self.variance, unbiased)?))
    }

    /// [Updates](Self::update) the running statistics in place and adds one to the number of batches, a scalar of `i64`. On
    /// a CUDA device this is one kernel.
    ///
    /// # Errors
    /// If the shapes or number types differ.
    pub fn update_in_place(
        &self,
        [running_mean, running_var]: [&Var; 2],
        batches: &Var,
        momentum: f64,
    ) -> Result<()> {
        #[cfg(feature = "cuda")]
        if self.mean.device().is_cuda() {
            check::matches(NAME, "running_mean", running_mean, self.mean.dims(), &self.mean)?;
            check::matches(NAME, "running_var", running_var, self.mean.dims(), &self.mean)?;
            let running = [running_mean.as_tensor(), running_var.as_tensor()];
            let unbiased = self.unbiased();
            return cuda::move_statistics(&self.moments, running, batches, momentum, unbiased);
        }
        let (mean, variance) = self.update(running_mean, running_var, momentum)?;
        running_mean.set(&mean)?;
        running_var.set(&variance)?;
        batches.set(&(batches.ones_like()? + batches.as_detached_tensor())?)
    }

    /// The factor that makes the variance the unbiased one.
    fn unbiased(&self) -> f64 {
        self.count as f64 / (self.count as f64 - 1.0)
    }
}

pub(super) fn statistics(x: &Tensor, channels: usize) -> Result<BatchStatistics> {
    if x.elem_count() / channels < 2 {
        bail!("{NAME}: batch statistics need more than one value per channel, got {:?}", x.dims())
    }
    of_any_count(x, channels)
}

/// The statistics, also of a single value per channel, whose variance is 0.
pub(super) fn of_any_count(x: &Tensor, channels: usize) -> Result<BatchStatistics> {
    BatchStatistics::of_moments(x.apply_op1_no_bwd(&Moments)?, x.elem_count() / channels)
}

/// The mean and biased variance of each channel, `[2, channels]`.
struct Moments;

impl CustomOp1 for Moments {
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
        cuda::moments(Array::new(x, layout))
    }
}

pub(super) fn channels(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

pub(super) fn rows<T: Float>(rows: [Vec<f64>; 2]) -> Vec<T> {
    rows.concat().into_iter().map(T::narrow).collect()
}
