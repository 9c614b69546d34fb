//! Batch norm: moments, normalisation, and the backward pass. Parameters, statistics and sums are `f32` for
//! any type of feature maps.

use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::{CudaStorage, Result, Shape, Tensor, bail};

use super::activation::relu;
use super::array::{Array, kept, stored, unwritten};
use super::element::with_element;
use super::function::{
    Source, device_function, launch, over_packs, over_threads, own_columns, sum_blocks,
};
use super::state;
use crate::Activation;
use crate::batch_norm::RunningStatistics;

const NAME: &str = "batch_norm";

/// Number of values of a channel up to which one block takes all of them, and so a pass one launch: for longer ones, several
/// blocks for a channel are worth a second launch.
const FEW_ROWS: usize = 1024;

/// Whether [`whole`] and [`whole_gradient`] are for such a matrix.
pub(crate) fn is_of_few_rows(x: &Tensor, channels: usize) -> bool {
    x.device().is_cuda() && x.elem_count() / channels <= FEW_ROWS
}

/// The mean and biased variance of every channel, `[2, channels]` of `f32`. They also move `running`, if they are given.
pub(crate) fn moments(
    x: Array<'_>,
    running: Option<&RunningStatistics<'_>>,
) -> Result<(CudaStorage, Shape)> {
    let (device, channels) = (x.device(), x.channels());
    let (rows, columns) = (x.len() / channels, x.channels() as u32);
    let state = state::of(device)?;
    let mut moments = unwritten::<f32>(device, 2 * channels)?;
    let Running { mean, variance, batches, momentum, unbiased } =
        Running::of(running, channels, rows)?;
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

    fn of(running: Option<&RunningStatistics<'_>>, channels: usize, count: usize) -> Result<Self> {
        running.map_or(Ok(Self::NONE), |running| Self::new(running, channels, count))
    }

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

/// The whole forward pass of a matrix [of few rows](is_of_few_rows): what [`normalize`] returns with the statistics of `x`,
/// and those, `[2, channels]` of `f32`. The statistics move `running`, if they are given.
pub(crate) fn whole(
    x: Array<'_>,
    residual: Option<Array<'_>>,
    [weight, bias]: [&Tensor; 2],
    eps: f64,
    activation: Activation,
    running: Option<&RunningStatistics<'_>>,
) -> Result<[(CudaStorage, Shape); 2]> {
    let (device, channels) = (x.device(), x.channels());
    let (rows, columns) = (x.len() / channels, x.channels() as u32);
    let (weight, bias) = (kept(weight), kept(bias));
    let (weight, bias) = (weight.array()?.view::<f32>()?, bias.array()?.view::<f32>()?);
    let ((has_relu, ceiling), eps) = (relu(activation), eps as f32);
    let Running { mean, variance, batches, momentum, unbiased } =
        Running::of(running, channels, rows)?;
    let mut moments = unwritten::<f32>(device, 2 * channels)?;
    let mut partial = unwritten::<f32>(device, 2 * channels)?;
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, x.len())?;
        let residual = residual.map(|residual| residual.view::<T>()).transpose()?;
        let x_in = x.view::<T>()?;
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm_whole")?;
        // SAFETY: x, residual and y have rows * channels elements, moments and partial two rows of channels, the others one.
        // `Running` names places of the right sizes or none.
        unsafe {
            launch!(
                function, own_columns::<T>(channels), &rows, &columns, &x_in, &residual, &weight,
                &bias, &mean, &variance, &batches, &momentum, &unbiased, &eps, &has_relu, &ceiling,
                &mut partial, &mut moments, &mut y
            )
        }
        Ok([stored(y, device, x.dims()), stored(moments, device, (2, channels))])
    })
}

/// The gradient of a batch norm's output as its backward pass gets it.
#[derive(Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// It has not passed the ReLU yet, if there is one.
    pub(crate) grad: Array<'a>,
    /// If the ReLU came after a residual sum.
    pub(crate) behind: Option<BehindSum<'a>>,
}

/// The output of a batch norm whose ReLU came after a residual sum.
#[derive(Clone, Copy)]
pub(crate) struct BehindSum<'a> {
    /// A second gradient, to be added to the first.
    pub(crate) more: Option<Array<'a>>,
    pub(crate) output: Array<'a>,
}

impl<'a> Incoming<'a> {
    fn more(&self) -> Option<Array<'a>> {
        self.behind.and_then(|behind| behind.more)
    }

    fn output(&self) -> Option<Array<'a>> {
        self.behind.map(|behind| behind.output)
    }
}

/// The results of the sums of a backward pass.
pub(crate) struct Sums {
    /// The gradients of weights and biases, `[2, channels]` of `f32`.
    pub(crate) affine: (CudaStorage, Shape),
    /// The gradient behind the ReLU, if that came after a residual sum.
    pub(crate) passed: Option<(CudaStorage, Shape)>,
}

/// The gradients of weights and biases. If `by` has a ReLU, the gradient has not passed it yet.
pub(crate) fn affine_gradient(
    x: Array<'_>,
    incoming: Incoming<'_>,
    by: Normalization<'_>,
) -> Result<Sums> {
    let (device, channels) = (x.device(), x.channels());
    let (rows, columns) = (x.len() / channels, x.channels() as u32);
    let state = state::of(device)?;
    parameters!(by => weight, bias, mean, variance);
    let ((has_relu, ceiling), eps) = (relu(by.activation), by.eps as f32);
    let mut sums = unwritten::<f32>(device, 2 * channels)?;
    with_element!(NAME, x.storage, T => {
        let (config, chunks) = sum_blocks::<T>(rows, channels);
        let mut partial = unwritten::<f32>(device, chunks * 2 * channels)?;
        let output = incoming.output();
        let mut passed = unwritten::<T>(device, output.map_or(0, |output| output.len()))?;
        let (x_in, grad) = (x.view::<T>()?, incoming.grad.view::<T>()?);
        let output = output.map(|output| output.view::<T>()).transpose()?;
        let more = incoming.more().map(|more| more.view::<T>()).transpose()?;
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm_sums")?;
        // SAFETY: x, grad, more and output have rows * channels elements, passed too if there is an output, partial two
        // rows of channels for each chunk, sums two rows, the others one for each channel, and there is a number of ended
        // blocks for each column of them.
        unsafe {
            launch!(
                function, config, &rows, &columns, &x_in, &grad, &more, &output, &weight, &bias,
                &mean, &variance, &eps, &has_relu, &ceiling, &mut partial, &state.ended_blocks,
                &mut passed, &mut sums
            )
        }
        let passed = output.is_some().then(|| stored(passed, device, x.dims()));
        Ok(Sums { affine: stored(sums, device, (2, channels)), passed })
    })
}

/// The whole backward pass of a matrix [of few rows](is_of_few_rows) through its statistics: the sums, and the gradient of
/// the input. If `by` has a ReLU, the gradient has not passed it yet.
pub(crate) fn whole_gradient(
    x: Array<'_>,
    incoming: Incoming<'_>,
    by: Normalization<'_>,
) -> Result<(Sums, (CudaStorage, Shape))> {
    let (device, channels) = (x.device(), x.channels());
    let (rows, columns) = (x.len() / channels, x.channels() as u32);
    parameters!(by => weight, bias, mean, variance);
    let ((has_relu, ceiling), eps) = (relu(by.activation), by.eps as f32);
    let mut sums = unwritten::<f32>(device, 2 * channels)?;
    let mut partial = unwritten::<f32>(device, 2 * channels)?;
    with_element!(NAME, x.storage, T => {
        let output = incoming.output();
        let mut passed = unwritten::<T>(device, output.map_or(0, |output| output.len()))?;
        let mut dx = unwritten::<T>(device, x.len())?;
        let (x_in, grad) = (x.view::<T>()?, incoming.grad.view::<T>()?);
        let output = output.map(|output| output.view::<T>()).transpose()?;
        let more = incoming.more().map(|more| more.view::<T>()).transpose()?;
        let function = device_function::<T>(device, Source::BatchNorm, "batch_norm_gradient_whole")?;
        // SAFETY: x, grad, more, output and dx have rows * channels elements, passed too if there is an output, partial and
        // sums two rows of channels, the others one for each channel.
        unsafe {
            launch!(
                function, own_columns::<T>(channels), &rows, &columns, &x_in, &grad, &more,
                &output, &weight, &bias, &mean, &variance, &eps, &has_relu, &ceiling, &mut partial,
                &mut passed, &mut sums, &mut dx
            )
        }
        let passed = output.is_some().then(|| stored(passed, device, x.dims()));
        let sums = Sums { affine: stored(sums, device, (2, channels)), passed };
        Ok((sums, stored(dx, device, x.dims())))
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
