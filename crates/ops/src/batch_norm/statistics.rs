//! The statistics of a batch, and the running statistics that they update.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

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
        let unbiased = self.count as f64 / (self.count as f64 - 1.0);
        #[cfg(feature = "cuda")]
        if self.mean.device().is_cuda() {
            let (mean, variance) = (running_mean.contiguous()?, running_var.contiguous()?);
            let op = MovedStatistics { mean, variance, momentum, unbiased };
            let moved = self.moments.apply_op1_no_bwd(&op)?;
            return Ok((moved.get(0)?, moved.get(1)?));
        }
        let blend = |running: &Tensor, batch: &Tensor, factor: f64| -> Result<Tensor> {
            let kept = running.detach().affine(1.0 - momentum, 0.0)?;
            kept + batch.affine(momentum * factor, 0.0)?
        };
        let mean = blend(running_mean, &self.mean, 1.0)?;
        Ok((mean, blend(running_var, &self.variance, unbiased)?))
    }
}

pub(super) fn statistics(x: &Tensor, channels: usize) -> Result<BatchStatistics> {
    let count = x.elem_count() / channels;
    if count < 2 {
        bail!("{NAME}: batch statistics need more than one value per channel, got {:?}", x.dims())
    }
    let moments = x.apply_op1_no_bwd(&Moments)?;
    Ok(BatchStatistics {
        mean: moments.get(0)?,
        variance: moments.get(1)?,
        count,
        #[cfg(feature = "cuda")]
        moments,
    })
}

/// Moves running statistics towards the moments of a batch, `[2, channels]`, in one kernel.
#[cfg(feature = "cuda")]
struct MovedStatistics {
    mean: Tensor,
    variance: Tensor,
    momentum: f64,
    unbiased: f64,
}

#[cfg(feature = "cuda")]
impl CustomOp1 for MovedStatistics {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, _moments: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("{NAME}: the CPU moves statistics with tensor operations")
    }

    fn cuda_fwd(&self, moments: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let Self { mean, variance, momentum, unbiased } = self;
        cuda::running_statistics(
            Array::new(moments, layout),
            [mean, variance],
            *momentum,
            *unbiased,
        )
    }
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
