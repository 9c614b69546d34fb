//! Batch norm: moments, normalisation, and the backward pass. Parameters, statistics and sums are `f32` for
//! any type of feature maps.

use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::{CudaStorage, Result, Shape, Tensor, bail};

use super::activation::relu;
use super::array::{Array, kept, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_packs, over_threads, sum_blocks};
use super::state;
use crate::Activation;
use crate::batch_norm::RunningStatistics;

const NAME: &str = "batch_norm";

/// The mean and biased variance of every channel, `[2, channels]` of `f32`. They also move `running`, if they are given.
pub(crate) fn moments(
    x: Array<'_>,
    running: Option<&RunningStatistics<'_>>,
) -> Result<(CudaStorage, Shape)> {
    let (device, channels) = (x.device(), x.channels());
    let (rows, columns) = (x.len() / channels, x.channels() as u32);
    let state = state::of(device)?;
    let mut moments = unwritten::<f32>(device, 2 * channels)?;
    let running = match running {
        Some(running) => Running::new(running, channels, rows)?,
        None => Running::NONE,
    };
    let Running { mean, variance, batches, momentum, unbiased } = running;
    with_element!(NAME, x.storage, T => {
        let (config, chunks) = sum_blocks::<T>(rows, channels);
        let mut partial = unwritten::<f32>(device, chunks * 2 * channels)?;
        let x = x.view::<T>()?;
        let function = device_function::<T>(device, Source::BatchNorm, "moments")?;
        // SAFETY: x has rows * channels elements, partial two rows of channels for each chunk, moments two rows, and
        // there is a number of ended blocks for each column of them. `Running` names places of the right sizes or none.
        unsafe {
            launch!(
                function, config, &rows, &columns, &x, &mean, &variance, &batches, &momentum,
                &unbiased, &mut partial, &state.ended_blocks, &mut moments
            )
        }
        Ok(stored(moments, device, (2, channels)))
    })
}

/// The kernels' form of running statistics: addresses on the device. The storages are locked for reading alone. The stream
/// keeps readers and writers in order.
struct Running {
    mean: usize,
    variance: usize,
    batches: usize,
    momentum: f32,
    unbiased: f32,
}

impl Running {
    const NONE: Self = Self { mean: 0, variance: 0, batches: 0, momentum: 0.0, unbiased: 0.0 };

    /// `count` is the number of values of each channel.
    fn new(running: &RunningStatistics<'_>, channels: usize, count: usize) -> Result<Self> {
        let place = |tensor: &Tensor| -> Result<usize> {
            let kept = kept(tensor);
            let array = kept.array()?;
            let view = array.view::<f32>()?;
            if view.len() != channels {
                bail!("{NAME}: running statistics of {} channels, got {channels}", view.len())
            }
            Ok(view.device_ptr(&array.device().cuda_stream()).0 as usize)
        };
        let batches = kept(running.batches);
        let batches = batches.array()?;
        let view = batches.view::<i64>()?;
        if view.len() != 1 {
            bail!("{NAME}: the number of batches is one number, got {}", view.len())
        }
        Ok(Self {
            mean: place(running.mean)?,
            variance: place(running.variance)?,
            batches: view.device_ptr(&batches.device().cuda_stream()).0 as usize,
            momentum: running.momentum as f32,
            unbiased: (count as f64 / (count as f64 - 1.0)) as f32,
        })
    }
}

/// Moves running statistics towards `moments`, `[2, channels]`, those of `count` values per channel.
pub(crate) fn move_statistics(
    moments: &Tensor,
    running: &RunningStatistics<'_>,
    count: usize,
) -> Result<()> {
    let moments = kept(moments);
    let moments = moments.array()?;
    let (device, channels) = (moments.device(), moments.channels());
    let moments = moments.view::<f32>()?;
    let Running { mean, variance, batches, momentum, unbiased } =
        Running::new(running, channels, count)?;
    let function = device_function::<f32>(device, Source::BatchNorm, "running_statistics")?;
    let (config, columns) = (over_threads(channels), channels as u32);
    // SAFETY: moments have two rows of channels, and `Running` names places of the right sizes.
    unsafe {
        launch!(
            function, config, &columns, &moments, &mean, &variance, &batches, &momentum, &unbiased
        )
    }
    Ok(())
}

/// The constants of a normalisation on the device, each `[channels]` of `f32`, and the activation after it.
#[derive(Clone, Copy)]
pub(crate) struct Normalization<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: &'a Tensor,
    pub(crate) mean: &'a Tensor,
    pub(crate) variance: &'a Tensor,
    pub(crate) eps: f64,
    pub(crate) activation: Activation,
}

/// The views of a [`Normalization`] in the kernels' order.
macro_rules! parameters {
    ($by:expr => $weight:ident, $bias:ident, $mean:ident, $variance:ident) => {
        let ($weight, $bias) = (kept($by.weight), kept($by.bias));
        let ($mean, $variance) = (kept($by.mean), kept($by.variance));
        let ($weight, $bias) = ($weight.array()?.view::<f32>()?, $bias.array()?.view::<f32>()?);
        let ($mean, $variance) = ($mean.array()?.view::<f32>()?, $variance.array()?.view::<f32>()?);
    };
}

/// `activation(weight * (x - mean) / sqrt(variance + eps) + bias + residual)`.
pub(crate) fn normalize(
    x: Array<'_>,
    residual: Option<Array<'_>>,
    by: Normalization<'_>,
) -> Result<(CudaStorage, Shape)> {
    let (device, n, channels) = (x.device(), x.len(), x.channels() as u32);
    parameters!(by => weight, bias, mean, variance);
    let ((has_relu, ceiling), eps) = (relu(by.activation), by.eps as f32);
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let residual = residual.map(|residual| residual.view::<T>()).transpose()?;
        let x_in = x.view::<T>()?;
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm")?;
        // SAFETY: x, residual and y have n elements, the others one for each channel.
        unsafe {
            launch!(
                function, over_packs::<T>(n), &n, &channels, &x_in, &residual, &weight, &bias,
                &mean, &variance, &eps, &has_relu, &ceiling, &mut y
            )
        }
        Ok(stored(y, device, x.dims()))
    })
}

/// The gradients of weights and biases, `[2, channels]` of `f32`.
///
/// If `by` has a ReLU, `grad` has not passed it yet. With `output`, the ReLU came after a residual sum, and the result of
/// the normalisation is `output`. The gradient behind the ReLU is then returned, too.
pub(crate) fn affine_gradient(
    x: Array<'_>,
    grad: Array<'_>,
    output: Option<Array<'_>>,
    by: Normalization<'_>,
) -> Result<((CudaStorage, Shape), Option<(CudaStorage, Shape)>)> {
    let (device, channels) = (x.device(), x.channels());
    let (rows, columns) = (x.len() / channels, x.channels() as u32);
    let state = state::of(device)?;
    parameters!(by => weight, bias, mean, variance);
    let ((has_relu, ceiling), eps) = (relu(by.activation), by.eps as f32);
    let mut sums = unwritten::<f32>(device, 2 * channels)?;
    with_element!(NAME, x.storage, T => {
        let (config, chunks) = sum_blocks::<T>(rows, channels);
        let mut partial = unwritten::<f32>(device, chunks * 2 * channels)?;
        let mut passed = unwritten::<T>(device, output.map_or(0, |output| output.len()))?;
        let (x_in, grad) = (x.view::<T>()?, grad.view::<T>()?);
        let output = output.map(|output| output.view::<T>()).transpose()?;
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm_sums")?;
        // SAFETY: x and grad have rows * channels elements, output and passed too if there is an output, partial two rows
        // of channels for each chunk, sums two rows, the others one for each channel, and there is a number of ended
        // blocks for each column of them.
        unsafe {
            launch!(
                function, config, &rows, &columns, &x_in, &grad, &output, &weight, &bias, &mean,
                &variance, &eps, &has_relu, &ceiling, &mut partial, &state.ended_blocks,
                &mut passed, &mut sums
            )
        }
        let passed = output.is_some().then(|| stored(passed, device, x.dims()));
        Ok((stored(sums, device, (2, channels)), passed))
    })
}

/// The gradient of the input. `sums` is the result of [`affine_gradient`] if the statistics were those of
/// the batch, with the number of values per channel that it sums up.
pub(crate) fn input_gradient(
    x: Array<'_>,
    grad: Array<'_>,
    sums: Option<(&Tensor, usize)>,
    by: Normalization<'_>,
) -> Result<(CudaStorage, Shape)> {
    let (device, n, channels) = (x.device(), x.len(), x.channels() as u32);
    parameters!(by => weight, bias, mean, variance);
    let ((has_relu, ceiling), eps) = (relu(by.activation), by.eps as f32);
    let count = sums.map_or(0, |(_, count)| count) as f32;
    let sums = sums.map(|(sums, _)| kept(sums));
    let sums = sums.as_ref().map(|sums| sums.array()?.view::<f32>()).transpose()?;
    with_element!(NAME, x.storage, T => {
        let mut dx = unwritten::<T>(device, n)?;
        let (x_in, grad) = (x.view::<T>()?, grad.view::<T>()?);
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm_gradient")?;
        // SAFETY: x, grad and dx have n elements, sums two for each channel, the others one.
        unsafe {
            launch!(
                function, over_packs::<T>(n), &n, &channels, &x_in, &grad, &weight, &bias, &mean,
                &variance, &eps, &sums, &count, &has_relu, &ceiling, &mut dx
            )
        }
        Ok(stored(dx, device, x.dims()))
    })
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
    let all = |value: f32| vec![value.to_bits() as i32; channels];
    let (zeros, ones) = (state.table(device, all(0.0))?, state.table(device, all(1.0))?);
    let (has_relu, ceiling) = relu(activation);
    let (columns, eps) = (channels as u32, 0f32);
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let (x_in, residual) = (x.view::<T>()?, Some(residual.view::<T>()?));
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm")?;
        // SAFETY: x, residual and y have n elements, the tables the bits of one number for each channel.
        unsafe {
            launch!(
                function, over_packs::<T>(n), &n, &columns, &x_in, &residual, &*ones, &*zeros,
                &*zeros, &*ones, &eps, &has_relu, &ceiling, &mut y
            )
        }
        Ok(stored(y, device, x.dims()))
    })
}
