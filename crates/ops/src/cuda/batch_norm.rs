//! Batch norm: moments, normalisation, and the backward pass. Parameters, statistics and sums are `f32` for
//! any type of feature maps.

use candle_core::cuda_backend::cudarc::driver::{CudaView, DevicePtr};
use candle_core::{CudaStorage, Result, Shape, Tensor, bail};

use super::activation::relu;
use super::array::{Array, kept, stored, unwritten};
use super::element::with_element;
use super::function::{
    Source, device_function, launch, over_chunks_of, over_columns, over_packs, over_threads,
};
use super::state;
use crate::Activation;

const NAME: &str = "batch_norm";

/// The mean and biased variance of every channel, `[2, channels]` of `f32`.
pub(crate) fn moments(x: Array<'_>) -> Result<(CudaStorage, Shape)> {
    let (device, channels) = (x.device(), x.channels());
    let rows = x.len() / channels;
    let mut moments = unwritten::<f32>(device, 2 * channels)?;
    let (columns, count) = (channels as u32, rows as f64);
    with_element!(NAME, x.storage, T => {
        let (config, chunks) = over_columns::<T>(rows, channels);
        let mut partial = unwritten::<f32>(device, chunks * 2 * channels)?;
        let chunks = chunks as u32;
        let x = x.view::<T>()?;
        let function = device_function::<T>(device, Source::BatchNorm, "moments")?;
        // SAFETY: x has rows * channels elements, partial two rows of channels for each chunk.
        unsafe { launch!(function, config, &rows, &columns, &x, &mut partial) }
        let function = device_function::<T>(device, Source::BatchNorm, "moments_finish")?;
        let config = over_chunks_of(channels);
        // SAFETY: partial as above; moments has two rows of channels.
        unsafe {
            launch!(function, config, &chunks, &columns, &count, &x, &partial, &mut moments)
        }
        Ok(stored(moments, device, (2, channels)))
    })
}

/// The statistics on the device, and the activation after the normalisation.
#[derive(Clone, Copy)]
pub(crate) struct Normalization<'a> {
    pub(crate) mean: &'a Tensor,
    pub(crate) variance: &'a Tensor,
    pub(crate) eps: f64,
    pub(crate) activation: Activation,
}

/// `activation(weight * (x - mean) / sqrt(variance + eps) + bias + residual)`. `affine` is `[2, channels]`:
/// weights, then biases.
pub(crate) fn normalize(
    x: Array<'_>,
    affine: Array<'_>,
    residual: Option<Array<'_>>,
    by: Normalization<'_>,
) -> Result<(CudaStorage, Shape)> {
    let (device, n, channels) = (x.device(), x.len(), x.channels() as u32);
    let (mean, variance) = (kept(by.mean), kept(by.variance));
    let (mean, variance) = (mean.array()?.view::<f32>()?, variance.array()?.view::<f32>()?);
    let (affine, eps) = (affine.view::<f32>()?, by.eps as f32);
    let (has_relu, ceiling) = relu(by.activation);
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let residual = residual.map(|residual| residual.view::<T>()).transpose()?;
        let x_in = x.view::<T>()?;
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm")?;
        // SAFETY: x, residual and y have n elements, the others one or two for each channel.
        unsafe {
            launch!(
                function, over_packs::<T>(n), &n, &channels, &x_in, &residual, &affine, &mean,
                &variance, &eps, &has_relu, &ceiling, &mut y
            )
        }
        Ok(stored(y, device, x.dims()))
    })
}

/// The gradients of weights and biases, `[2, channels]` of `f32`. If `by` has a ReLU, `grad` has not passed
/// it yet.
pub(crate) fn affine_gradient(
    x: Array<'_>,
    grad: Array<'_>,
    affine: Array<'_>,
    by: Normalization<'_>,
) -> Result<(CudaStorage, Shape)> {
    let (device, channels) = (x.device(), x.channels());
    let rows = x.len() / channels;
    let (mean, variance) = (kept(by.mean), kept(by.variance));
    let (mean, variance) = (mean.array()?.view::<f32>()?, variance.array()?.view::<f32>()?);
    let (affine, eps) = (affine.view::<f32>()?, by.eps as f32);
    let (has_relu, ceiling) = relu(by.activation);
    let columns = channels as u32;
    let (partial, chunks) = with_element!(NAME, x.storage, T => {
        let (config, chunks) = over_columns::<T>(rows, channels);
        let mut partial = unwritten::<f32>(device, chunks * 2 * channels)?;
        let (x, grad) = (x.view::<T>()?, grad.view::<T>()?);
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm_sums")?;
        // SAFETY: x and grad have rows * channels elements, partial two rows of channels for each
        // chunk, the others one or two for each channel.
        unsafe {
            launch!(
                function, config, &rows, &columns, &x, &grad, &affine, &mean, &variance, &eps,
                &has_relu, &ceiling, &mut partial
            )
        }
        Ok((partial, chunks))
    })?;
    let mut sums = unwritten::<f32>(device, 2 * channels)?;
    let function = device_function::<f32>(device, Source::BatchNorm, "batch_norm_sums_finish")?;
    let (config, chunks) = (over_chunks_of(channels), chunks as u32);
    // SAFETY: partial as above; sums has two rows of channels.
    unsafe { launch!(function, config, &chunks, &columns, &partial, &variance, &eps, &mut sums) }
    Ok(stored(sums, device, (2, channels)))
}

/// The gradient of the input. `sums` is the result of [`affine_gradient`] if the statistics were those of
/// the batch, with the number of values per channel that it sums up.
pub(crate) fn input_gradient(
    x: Array<'_>,
    grad: Array<'_>,
    affine: &Tensor,
    sums: Option<(&Tensor, usize)>,
    by: Normalization<'_>,
) -> Result<(CudaStorage, Shape)> {
    let (device, n, channels) = (x.device(), x.len(), x.channels() as u32);
    let (mean, variance, affine) = (kept(by.mean), kept(by.variance), kept(affine));
    let (mean, variance) = (mean.array()?.view::<f32>()?, variance.array()?.view::<f32>()?);
    let (affine, eps) = (affine.array()?.view::<f32>()?, by.eps as f32);
    let count = sums.map_or(0, |(_, count)| count) as f32;
    let sums = sums.map(|(sums, _)| kept(sums));
    let sums = sums.as_ref().map(|sums| sums.array()?.view::<f32>()).transpose()?;
    let (has_relu, ceiling) = relu(by.activation);
    with_element!(NAME, x.storage, T => {
        let mut dx = unwritten::<T>(device, n)?;
        let (x_in, grad) = (x.view::<T>()?, grad.view::<T>()?);
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm_gradient")?;
        // SAFETY: x, grad and dx have n elements, the others one or two for each channel.
        unsafe {
            launch!(
                function, over_packs::<T>(n), &n, &channels, &x_in, &grad, &affine, &mean, &variance,
                &eps, &sums, &count, &has_relu, &ceiling, &mut dx
            )
        }
        Ok(stored(dx, device, x.dims()))
    })
}

/// Moves running statistics, `[channels]` of `f32`, towards `moments`, `[2, channels]`, and counts a batch, in place.
pub(crate) fn move_statistics(
    moments: &Tensor,
    [running_mean, running_var]: [&Tensor; 2],
    batches: &Tensor,
    momentum: f64,
    unbiased: f64,
) -> Result<()> {
    let (moments, count) = (kept(moments), kept(batches));
    let (mean, variance) = (kept(running_mean), kept(running_var));
    let moments = moments.array()?;
    let (device, channels) = (moments.device(), moments.channels());
    let moments = moments.view::<f32>()?;
    let stream = device.cuda_stream();
    // The addresses, because the storages are locked for reading alone. The stream keeps readers and writers in order.
    let place = |view: &CudaView<'_, f32>| view.device_ptr(&stream).0 as usize;
    let (mean, variance) = (mean.array()?.view::<f32>()?, variance.array()?.view::<f32>()?);
    if mean.len() != channels || variance.len() != channels {
        bail!("{NAME}: running statistics of {} and {} channels", mean.len(), variance.len())
    }
    let (mean, variance) = (place(&mean), place(&variance));
    let count = count.array()?.view::<i64>()?;
    if count.len() != 1 {
        bail!("{NAME}: the number of batches is one number, got {}", count.len())
    }
    let count = count.device_ptr(&stream).0 as usize;
    let function = device_function::<f32>(device, Source::BatchNorm, "running_statistics")?;
    let (config, columns) = (over_threads(channels), channels as u32);
    let (momentum, unbiased) = (momentum as f32, unbiased as f32);
    // SAFETY: moments have two rows of channels, the running statistics one each, and the count is one number.
    unsafe {
        launch!(
            function, config, &columns, &moments, &momentum, &unbiased, &mean, &variance, &count
        )
    }
    Ok(())
}

/// `activation(x + residual)`.
pub(crate) fn add_residual(
    x: Array<'_>,
    residual: Array<'_>,
    activation: Activation,
) -> Result<(CudaStorage, Shape)> {
    let (device, n, channels) = (x.device(), x.len(), x.channels());
    let state = state::of(device)?;
    // A normalisation that changes nothing. Tables hold the bits of numbers.
    let bits = |value: f32| value.to_bits() as i32;
    let zeros = state.table(device, vec![bits(0.0); channels])?;
    let ones = state.table(device, vec![bits(1.0); channels])?;
    let affine = [vec![bits(1.0); channels], vec![bits(0.0); channels]].concat();
    let affine = state.table(device, affine)?;
    let (has_relu, ceiling) = relu(activation);
    let (columns, eps) = (channels as u32, 0f32);
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let (x_in, residual) = (x.view::<T>()?, Some(residual.view::<T>()?));
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm")?;
        // SAFETY: x, residual and y have n elements, the tables the bits of one or two numbers for
        // each channel.
        unsafe {
            launch!(
                function, over_packs::<T>(n), &n, &columns, &x_in, &residual, &*affine, &*zeros,
                &*ones, &eps, &has_relu, &ceiling, &mut y
            )
        }
        Ok(stored(y, device, x.dims()))
    })
}
