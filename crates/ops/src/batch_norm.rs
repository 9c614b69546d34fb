//! Batch normalisation, with the residual sum and the activation that follow it in most networks.
//!
//! It is one op. So a block's feature map goes through memory twice in the forward pass (for the statistics
//! and for the normalisation) and twice in the backward pass. Only the input and the output are kept at
//! full size in between. candle-nn's batch norm is a chain of a dozen ops.

mod across_ranks;
mod affine;
mod after_convolution;
mod gradient;
mod statistics;

pub use across_ranks::{AcrossRanks, batch_norm_train_across_ranks};
pub use after_convolution::conv2d_batch_norm_train;
pub use statistics::{BatchStatistics, RunningStatistics};

#[cfg(feature = "cuda")]
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{all_widened, is_emulated, widened};
use crate::storage::Float;
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, OfTwo, apply2, apply3};
use crate::{Activation, check};
use across_ranks::Across;
use candle_vision_kernels::batch_norm::{self as kernels, Affine};

/// `activation(weight * (x - mean) / sqrt(variance + eps) + bias + residual)`, and the statistics. Mean and
/// biased variance are those of each channel over the batch. They move the running statistics of `norm`, if
/// it has any.
///
/// It is differentiable in `x`, `weight`, `bias` and `residual`. The gradient of `x` includes that through
/// the statistics.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]` (or any rank from 2, channels last), `f32` or `f64`
/// - `norm`: tensors of `[channels]`; `residual`: as `x`
/// - returns a tensor of the shape and number type of `x`
///
/// # Errors
/// If a shape or number type differs, or there is only one value per channel.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use candle_vision_ops::{
///     Activation, BatchNormParameters, RunningStatistics, batch_norm_train,
/// };
///
/// let device = &Device::Cpu;
/// let x = Tensor::new(&[[1f32, 10.0], [3.0, 30.0]], device)?.reshape((2, 1, 1, 2))?;
/// let (one, zero) = (Tensor::ones(2, DType::F32, device)?, Tensor::zeros(2, DType::F32, device)?);
/// let (mean, variance) = (Var::from_tensor(&zero)?, Var::from_tensor(&one)?);
/// let batches = Var::zeros((), DType::I64, device)?;
/// let running =
///     RunningStatistics { mean: &mean, variance: &variance, batches: &batches, momentum: 0.1 };
/// let norm =
///     BatchNormParameters { weight: &one, bias: &zero, eps: 0.0, running: Some(running) };
///
/// let (y, statistics) = batch_norm_train(&x, &norm, None, Activation::Relu)?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0.0, 0.0, 1.0, 1.0]);
/// assert_eq!(statistics.mean.to_vec1::<f32>()?, [2.0, 20.0]);
/// assert_eq!(mean.to_vec1::<f32>()?, [0.2, 2.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn batch_norm_train(
    x: &Tensor,
    norm: &BatchNormParameters<'_>,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<(Tensor, BatchStatistics)> {
    let (fused, after) = activation.split();
    if let Some(after) = after {
        let (y, statistics) = batch_norm_train(x, norm, residual, fused)?;
        return Ok((after.apply(&y)?, statistics));
    }
    let channels = check_arguments(x, norm, residual)?;
    if is_emulated(x) {
        let (wide_x, residual) = (widened(x)?, all_widened(residual)?);
        let (y, statistics) = batch_norm_train(&wide_x, norm, residual.as_ref(), activation)?;
        return Ok((y.to_dtype(x.dtype())?, statistics));
    }
    let x = x.contiguous()?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let (op, statistics) = BatchNorm::of_batch(&x, channels, norm, residual.as_ref(), activation)?;
    Ok((op.apply(&x, norm.weight, norm.bias, residual.as_ref())?, statistics))
}

/// `activation(weight * (x - mean) / sqrt(variance + eps) + bias + residual)` with the running statistics
/// of `norm`.
///
/// It is differentiable in `x`, `weight`, `bias` and `residual`. The statistics are constants.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]` (or any rank from 2, channels last), `f32` or `f64`
/// - `residual`: as `x`
/// - returns a tensor of the shape and number type of `x`
///
/// # Errors
/// If a shape or number type differs.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::{Activation, BatchNormConstants, batch_norm_eval};
///
/// let x = Tensor::new(&[[1f32, 10.0], [3.0, 30.0]], &Device::Cpu)?;
/// let (one, mean) = (Tensor::new(&[1f32, 1.0], &Device::Cpu)?, Tensor::new(&[2f32, 20.0], &Device::Cpu)?);
/// let zero = one.zeros_like()?;
/// let norm =
///     BatchNormConstants { weight: &one, bias: &zero, mean: &mean, variance: &one, eps: 0.0 };
/// let y = batch_norm_eval(&x, &norm, None, Activation::Relu)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[0.0, 0.0], [1.0, 10.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn batch_norm_eval(
    x: &Tensor,
    norm: &BatchNormConstants<'_>,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let (fused, after) = activation.split();
    if let Some(after) = after {
        return after.apply(&batch_norm_eval(x, norm, residual, fused)?);
    }
    let BatchNormConstants { weight, bias, mean, variance, eps } = *norm;
    let channels = check_arguments(x, &BatchNormParameters::new(weight, bias, eps), residual)?;
    check::of_norm(NAME, "mean", mean, &[channels], x)?;
    check::of_norm(NAME, "variance", variance, &[channels], x)?;
    if is_emulated(x) {
        let (wide_x, residual) = (widened(x)?, all_widened(residual)?);
        let y = batch_norm_eval(&wide_x, norm, residual.as_ref(), activation)?;
        return y.to_dtype(x.dtype());
    }
    let op = BatchNorm {
        weight: weight.contiguous()?.detach(),
        bias: bias.contiguous()?.detach(),
        mean: mean.contiguous()?.detach(),
        variance: variance.contiguous()?.detach(),
        eps,
        activation,
        of_batch: false,
        across: None,
        #[cfg(feature = "cuda")]
        output: Output::default(),
    };
    op.apply(&x.contiguous()?, weight, bias, residual)
}

/// The values of a batch norm that training uses, each `[channels]`.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormParameters<'a> {
    /// Factor of the normalised values. It is trained.
    pub weight: &'a Tensor,
    /// Term added to the scaled values. It is trained.
    pub bias: &'a Tensor,
    /// Term added to the variance.
    pub eps: f64,
    /// What evaluation will use. Each pass moves it.
    pub running: Option<RunningStatistics<'a>>,
}

impl<'a> BatchNormParameters<'a> {
    /// Without running statistics.
    #[must_use]
    pub fn new(weight: &'a Tensor, bias: &'a Tensor, eps: f64) -> Self {
        Self { weight, bias, eps, running: None }
    }
}

/// The values of a batch norm that evaluation uses, each `[channels]`.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormConstants<'a> {
    /// Factor of the normalised values.
    pub weight: &'a Tensor,
    /// Term added to the scaled values.
    pub bias: &'a Tensor,
    /// Running mean.
    pub mean: &'a Tensor,
    /// Running variance.
    pub variance: &'a Tensor,
    /// Term added to the variance.
    pub eps: f64,
}

const NAME: &str = "batch_norm";

/// The number of channels. Returns an error if the shapes do not agree.
fn check_arguments(
    x: &Tensor,
    norm: &BatchNormParameters<'_>,
    residual: Option<&Tensor>,
) -> Result<usize> {
    check::float(NAME, x)?;
    let channels = match *x.dims() {
        [_, .., channels] if channels > 0 => channels,
        _ => bail!("{NAME}: expected [batch, height, width, channels], got {:?}", x.dims()),
    };
    check::of_norm(NAME, "weight", norm.weight, &[channels], x)?;
    check::of_norm(NAME, "bias", norm.bias, &[channels], x)?;
    if let Some(running) = norm.running {
        check::of_norm(NAME, "running mean", running.mean, &[channels], x)?;
        check::of_norm(NAME, "running variance", running.variance, &[channels], x)?;
    }
    if let Some(residual) = residual {
        check::matches(NAME, "residual", residual, x.dims(), x)?;
    }
    Ok(channels)
}

/// The op of the normalisation. Its arguments are the input, the affine parameters and the residual, if
/// there is one. An op has at most three arguments, so one node of the tape [stands for](affine) both affine
/// parameters. Their values are the op's own.
#[derive(Clone)]
struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: f64,
    activation: Activation,
    /// Whether mean and variance are those of the input batch.
    of_batch: bool,
    /// The processes whose batches they are those of, if it is not this one alone.
    across: Option<Across>,
    #[cfg(feature = "cuda")]
    output: Output,
}

/// The output, if a kernel has computed it together with the statistics. The op's forward pass takes it from here.
#[cfg(feature = "cuda")]
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Option<(CudaStorage, Shape)>>>);

#[cfg(feature = "cuda")]
impl Output {
    fn of(output: (CudaStorage, Shape)) -> Self {
        Self(Arc::new(Mutex::new(Some(output))))
    }

    fn take(&self) -> Option<(CudaStorage, Shape)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl BatchNorm {
    /// The op with the statistics of `x`, and those. They move the running ones. `x` and `residual` are contiguous.
    fn of_batch(
        x: &Tensor,
        channels: usize,
        norm: &BatchNormParameters<'_>,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<(Self, BatchStatistics)> {
        statistics::check_count(x, channels)?;
        #[cfg(not(feature = "cuda"))]
        let _ = residual;
        #[cfg(feature = "cuda")]
        if cuda::is_of_few_rows(x, channels) {
            let (weight, bias) = (norm.weight.contiguous()?, norm.bias.contiguous()?);
            let (kept_x, kept_residual) = (cuda::kept(x), residual.map(cuda::kept));
            let residual = kept_residual.as_ref().map(|residual| residual.array()).transpose()?;
            let [output, moments] = cuda::batch_norm_whole(
                kept_x.array()?,
                residual,
                [&weight, &bias],
                norm.eps,
                activation,
                norm.running.as_ref(),
            )?;
            let count = x.elem_count() / channels;
            let statistics = BatchStatistics::of_moments(cuda::tensor(moments), count)?;
            let op = Self::with_statistics(norm, &statistics, activation)?;
            return Ok((Self { output: Output::of(output), ..op }, statistics));
        }
        let statistics = statistics::statistics(x, channels, norm.running.as_ref())?;
        Ok((Self::with_statistics(norm, &statistics, activation)?, statistics))
    }

    fn with_statistics(
        norm: &BatchNormParameters<'_>,
        statistics: &BatchStatistics,
        activation: Activation,
    ) -> Result<Self> {
        Ok(Self {
            weight: norm.weight.contiguous()?.detach(),
            bias: norm.bias.contiguous()?.detach(),
            mean: statistics.mean.clone(),
            variance: statistics.variance.clone(),
            eps: norm.eps,
            activation,
            of_batch: true,
            across: None,
            #[cfg(feature = "cuda")]
            output: Output::default(),
        })
    }

    fn apply(
        self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let affine = affine::affine(weight, bias)?;
        match residual {
            None => apply2(x, &affine, self),
            Some(residual) => apply3(x, &affine, &residual.contiguous()?, self),
        }
    }

    /// The values for the CUDA kernels, with an activation that may differ from this op's.
    #[cfg(feature = "cuda")]
    fn normalization(&self, activation: Activation) -> cuda::Normalization<'_> {
        let Self { weight, bias, mean, variance, eps, .. } = self;
        cuda::Normalization { weight, bias, mean, variance, eps: *eps, activation }
    }

    #[cfg(feature = "cuda")]
    fn forward_cuda(
        &self,
        x: Array<'_>,
        residual: Option<Array<'_>>,
    ) -> Result<(CudaStorage, Shape)> {
        match self.output.take() {
            Some(output) => Ok(output),
            None => cuda::normalize(x, residual, self.normalization(self.activation)),
        }
    }

    fn forward<T: Float>(
        &self,
        x: &[T],
        residual: Option<&[T]>,
        layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let affine = self.scale_and_shift()?;
        let ceiling = self.activation.ceiling().map(T::narrow);
        let y = kernels::normalize(x, residual, &affine, ceiling);
        Ok(stored(y, layout.shape()))
    }

    /// Combines the affine parameters and the statistics.
    fn scale_and_shift<T: Float>(&self) -> Result<Affine<T>> {
        let (weight, bias) = (self.weight.to_vec1()?, self.bias.to_vec1()?);
        Ok(kernels::affine(&weight, &bias, &self.mean.to_vec1()?, &self.inv_std::<T>()?))
    }

    fn inv_std<T: Float>(&self) -> Result<Vec<f64>> {
        let variance = self.variance.to_vec1::<T>()?;
        Ok(variance.into_iter().map(|v| 1.0 / (v.widen() + self.eps).sqrt()).collect())
    }
}

impl Footprint for BatchNorm {
    fn held(&self) -> Vec<&Tensor> {
        vec![&self.weight, &self.bias, &self.mean, &self.variance]
    }

    fn passes_on(&self, argument: usize) -> bool {
        const RESIDUAL: usize = 2;
        argument == RESIDUAL && self.activation.ceiling().is_none()
    }

    fn of_two(&self) -> Option<&dyn OfTwo> {
        self.adds_gradients().then_some(self)
    }
}

impl BatchNorm {
    /// Whether its kernels add two gradients of the output.
    fn adds_gradients(&self) -> bool {
        self.mean.device().is_cuda() && self.activation.ceiling().is_some()
    }
}

impl OfTwo for BatchNorm {
    fn gradients(
        &self,
        arguments: &[Tensor],
        output: &Tensor,
        [grad, more]: [&Tensor; 2],
    ) -> Result<Vec<Option<Tensor>>> {
        let [x, affine, others @ ..] = arguments else { return Ok(Vec::new()) };
        let of_x = x.track_op();
        let found = self.gradients(x, of_x, affine, others.first(), output, (grad, Some(more)))?;
        Ok(found.into_iter().take(arguments.len()).collect())
    }
}

impl CustomOp2 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        _affine: &CpuStorage,
        _affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, x, T => self.forward(elements::<T>(x, x_layout)?, None, x_layout))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        _affine: &CudaStorage,
        _affine_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward_cuda(Array::new(x, x_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, affine, _] = self.gradients(x, x.track_op(), affine, None, output, (grad, None))?;
        Ok((x, affine))
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        _affine: &CpuStorage,
        _affine_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, x, T => {
            let (x, residual) = (elements::<T>(x, x_layout)?, elements(residual, residual_layout)?);
            self.forward(x, Some(residual), x_layout)
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        _affine: &CudaStorage,
        _affine_layout: &Layout,
        residual: &CudaStorage,
        residual_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, residual) = (Array::new(x, x_layout), Array::new(residual, residual_layout));
        self.forward_cuda(x, Some(residual))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: &Tensor,
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, affine, residual] =
            self.gradients(x, x.track_op(), affine, Some(residual), output, (grad, None))?;
        Ok((x, affine, residual))
    }
}
