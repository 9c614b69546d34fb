//! Batch norm over the batches of several processes.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor, bail};

use super::statistics::BatchStatistics;
use super::{BatchNorm, BatchNormParameters, NAME, check_arguments, statistics};
use crate::Activation;
use crate::emulated::{all_widened, is_emulated, widened};

/// Processes that train one network together, as batch norm sees them.
pub trait AcrossRanks: fmt::Debug + Send + Sync {
    /// The tensor of every process, in an order that is the same on all of them. All processes call this with tensors of
    /// one shape and number type, in the same order of calls.
    ///
    /// # Errors
    /// If a process has ended or the connection fails.
    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>>;
}

/// Where the sums of a batch norm are made.
#[derive(Clone)]
pub(super) struct Across {
    ranks: Arc<dyn AcrossRanks>,
    /// Number of values per channel on all ranks together.
    count: usize,
}

impl Across {
    /// The sums over all ranks of `[2, channels]`, and the number of values behind them.
    pub(super) fn sum(&self, sums: &Tensor) -> Result<(Tensor, usize)> {
        let all = self.ranks.all_gather(&sums.to_dtype(DType::F64)?)?;
        let total = Tensor::stack(&all, 0)?.sum(0)?.to_dtype(sums.dtype())?;
        Ok((total.to_device(sums.device())?, self.count))
    }
}

/// [`batch_norm_train`](crate::batch_norm_train) with the mean and variance of the batches of all processes
/// ("synchronised" batch norm, as PyTorch's `SyncBatchNorm`), and those statistics.
///
/// Together the processes compute what one process would with all their batches. Their batches may have different
/// sizes. The gradients of `weight` and `bias` are those of this process's batch, as all gradients are until the trainer
/// sums them.
///
/// # Shapes
/// As `batch_norm_train`.
///
/// # Errors
/// If a shape or number type differs, there is only one value per channel on all processes together, or a process has
/// ended.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use candle_core::{Device, Result, Tensor};
/// use candle_vision_ops::{
///     Activation, AcrossRanks, BatchNormParameters, batch_norm_train_across_ranks,
/// };
///
/// /// A job of one process.
/// #[derive(Debug)]
/// struct Alone;
///
/// impl AcrossRanks for Alone {
///     fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
///         Ok(vec![tensor.clone()])
///     }
/// }
///
/// let x = Tensor::new(&[[1f32], [3.0]], &Device::Cpu)?;
/// let (one, zero) = (Tensor::new(&[1f32], &Device::Cpu)?, Tensor::new(&[0f32], &Device::Cpu)?);
/// let norm = BatchNormParameters::new(&one, &zero, 0.0);
/// let ranks: Arc<dyn AcrossRanks> = Arc::new(Alone);
/// let (y, statistics) =
///     batch_norm_train_across_ranks(&x, &norm, None, Activation::Identity, &ranks)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[-1.0], [1.0]]);
/// assert_eq!(statistics.count, 2);
/// # Result::Ok(())
/// ```
pub fn batch_norm_train_across_ranks(
    x: &Tensor,
    norm: &BatchNormParameters<'_>,
    residual: Option<&Tensor>,
    activation: Activation,
    ranks: &Arc<dyn AcrossRanks>,
) -> Result<(Tensor, BatchStatistics)> {
    let (fused, after) = activation.split();
    if let Some(after) = after {
        let (y, statistics) = batch_norm_train_across_ranks(x, norm, residual, fused, ranks)?;
        return Ok((after.apply(&y)?, statistics));
    }
    let channels = check_arguments(x, norm, residual)?;
    if is_emulated(x) {
        let (wide_x, residual) = (widened(x)?, all_widened(residual)?);
        let (y, statistics) =
            batch_norm_train_across_ranks(&wide_x, norm, residual.as_ref(), activation, ranks)?;
        return Ok((y.to_dtype(x.dtype())?, statistics));
    }
    let x = x.contiguous()?;
    let own = statistics::of_any_count(&x, channels)?;
    let all = statistics_of_all(&own, channels, ranks.as_ref())?;
    let across = Across { ranks: Arc::clone(ranks), count: all.count };
    if let Some(running) = &norm.running {
        all.moves(running)?;
    }
    let op =
        BatchNorm { across: Some(across), ..BatchNorm::with_statistics(norm, &all, activation)? };
    Ok((op.apply(&x, norm.weight, norm.bias, residual)?, all))
}

/// The statistics of all batches, from those of each (Chan, Golub, LeVeque 1979).
fn statistics_of_all(
    own: &BatchStatistics,
    channels: usize,
    ranks: &dyn AcrossRanks,
) -> Result<BatchStatistics> {
    #[cfg(feature = "cuda")]
    if crate::cuda::is_capturing() {
        bail!(
            "{NAME}: the host puts the statistics of all ranks together, which cannot be captured"
        )
    }
    let wide = |x: &Tensor| x.to_dtype(DType::F64);
    let count = Tensor::new(&[own.count as f64], own.mean.device())?;
    let row = Tensor::cat(&[wide(&own.mean)?, wide(&own.variance)?, count], 0)?;
    let rows: Vec<Vec<f64>> =
        ranks.all_gather(&row)?.iter().map(Tensor::to_vec1).collect::<Result<_>>()?;
    if rows.iter().any(|row| row.len() != 2 * channels + 1) {
        bail!("{NAME}: another process normalises another number of channels than {channels}")
    }
    let count: f64 = rows.iter().map(|row| row[2 * channels]).sum();
    if count < 2.0 {
        bail!("{NAME}: batch statistics need more than one value per channel on all ranks together")
    }
    let weighted = |channel: usize, of: &dyn Fn(&[f64]) -> f64| {
        rows.iter().map(|row| row[2 * channels] * of(&row[channel..])).sum::<f64>() / count
    };
    let mut moments = Vec::with_capacity(2 * channels);
    moments.extend((0..channels).map(|channel| weighted(channel, &|row| row[0])));
    for channel in 0..channels {
        let mean = moments[channel];
        let spread = |row: &[f64]| row[channels] + (row[0] - mean) * (row[0] - mean);
        moments.push(weighted(channel, &spread));
    }
    let moments = Tensor::from_vec(moments, (2, channels), own.mean.device())?;
    BatchStatistics::of_moments(moments.to_dtype(own.mean.dtype())?, count as usize)
}
