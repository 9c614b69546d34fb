//! Convolutions for inference. All preparations are made once.

use std::fmt;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use crate::conv2d::placed;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::kept_bytes::bytes;
use crate::storage::Float;
use crate::storage::{elements, kept, stored};
use crate::{Activation, BatchNormConstants, Conv2dConfig, check};
use candle_vision_kernels::conv;
use candle_vision_kernels::conv_shape::ConvShape;
use candle_vision_kernels::finish::{Finish, finish};
use candle_vision_kernels::prepared::PreparedKernel;

/// Each output channel of a kernel times its factor, an `f64`, rounded once.
fn scaled(kernel: &Tensor, factors: &Tensor) -> Result<Tensor> {
    if !(kernel.device().is_cpu() && kernel.dtype() == DType::F32) {
        let factors = factors.reshape(((), 1, 1, 1))?;
        return kernel
            .detach()
            .to_dtype(DType::F64)?
            .broadcast_mul(&factors)?
            .to_dtype(kernel.dtype());
    }
    // Without copies in `f64`, which would be the largest memory that an evaluation takes.
    let contiguous = kernel.contiguous()?;
    let of_kernel = kept(&contiguous);
    let values = of_kernel.elements::<f32>()?;
    let factors = factors.to_vec1::<f64>()?;
    let of_channel = values.len() / factors.len().max(1);
    let mut scaled = Vec::with_capacity(values.len());
    for (channel, factor) in values.chunks(of_channel.max(1)).zip(&factors) {
        scaled.extend(channel.iter().map(|value| (f64::from(*value) * factor) as f32));
    }
    Tensor::from_vec(scaled, kernel.dims(), kernel.device())
}

/// A convolution whose weights do not change. Batch norm is folded into them. They are packed for the
/// kernels when they are first used.
///
/// It is for evaluation: no gradient flows through it. It keeps copies of the weights, which take up to
/// four times their size where Winograd's kernels are used. It does not notice changes of the originals.
pub struct PreparedConv2d {
    kernel: Tensor,
    bias: Option<Tensor>,
    config: Conv2dConfig,
    prepared: PreparedKernel,
}

impl fmt::Debug for PreparedConv2d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, bias, config, .. } = self;
        let mut f = f.debug_struct("PreparedConv2d");
        f.field("kernel", &kernel.shape()).field("bias", &bias.is_some()).field("config", config);
        f.finish_non_exhaustive()
    }
}

impl PreparedConv2d {
    /// A convolution with `kernel`, `[out, in / groups, height, width]` (`f32` or `f64`).
    ///
    /// # Errors
    /// If the kernel is of another rank or number type, or the bias is not `[out]`.
    pub fn new(kernel: &Tensor, bias: Option<&Tensor>, config: &Conv2dConfig) -> Result<Self> {
        check::float(NAME, kernel)?;
        let (out_channels, ..) = kernel.dims4()?;
        if let Some(bias) = bias {
            check::matches(NAME, "bias", bias, &[out_channels], kernel)?;
        }
        // Copies, because training changes a variable's own memory.
        let copied = |tensor: &Tensor| tensor.detach().copy();
        let kernel = copied(&kernel.contiguous()?)?;
        Self::of(kernel, bias.map(copied).transpose()?, config)
    }

    /// A convolution with weights that nobody else has.
    fn of(kernel: Tensor, bias: Option<Tensor>, config: &Conv2dConfig) -> Result<Self> {
        let kernel = if kernel.device().is_cuda() { channels_last(&kernel)? } else { kernel };
        Ok(Self { kernel, bias, config: *config, prepared: PreparedKernel::default() })
    }

    /// A convolution with `kernel`, without a bias, and the batch norm after it.
    ///
    /// # Errors
    /// As [`Self::new`], or if a constant is not `[out]`.
    ///
    /// # Example
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_vision_ops::{Activation, BatchNormConstants, Conv2dConfig, PreparedConv2d};
    ///
    /// let kernel = Tensor::ones((4, 1, 1, 1), DType::F32, &Device::Cpu)?;
    /// let one = Tensor::ones(4, DType::F32, &Device::Cpu)?;
    /// let zero = one.zeros_like()?;
    /// let norm =
    ///     BatchNormConstants { weight: &one, bias: &one, mean: &zero, variance: &one, eps: 0.0 };
    /// let conv = PreparedConv2d::with_batch_norm(&kernel, &norm, &Conv2dConfig::default())?;
    /// let x = Tensor::new(&[-3f32, 2.0], &Device::Cpu)?.reshape((1, 1, 2, 1))?;
    /// let y = conv.forward(&x, None, Activation::Relu)?;
    /// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0., 0., 0., 0., 3., 3., 3., 3.]);
    /// # candle_core::Result::Ok(())
    /// ```
    pub fn with_batch_norm(
        kernel: &Tensor,
        norm: &BatchNormConstants<'_>,
        config: &Conv2dConfig,
    ) -> Result<Self> {
        check::float(NAME, kernel)?;
        let (out_channels, ..) = kernel.dims4()?;
        let BatchNormConstants { weight, bias, mean, variance, eps } = *norm;
        let constants =
            [("weight", weight), ("bias", bias), ("mean", mean), ("variance", variance)];
        for (name, constant) in constants {
            check::matches(NAME, name, constant, &[out_channels], kernel)?;
        }
        let wide = |tensor: &Tensor| tensor.detach().to_dtype(DType::F64);
        let scale = (wide(weight)? / (wide(variance)? + eps)?.sqrt()?)?;
        let shift = (wide(bias)? - (wide(mean)? * &scale)?)?;
        let shift = shift.to_dtype(kernel.dtype())?;
        Self::of(scaled(kernel, &scale)?, Some(shift), config)
    }

    /// The same for maps of `dtype`. Kernels for `f16` and `bf16` are on CUDA devices alone.
    ///
    /// # Errors
    /// If the device cannot cast.
    pub fn to_dtype(self, dtype: DType) -> Result<Self> {
        if self.kernel.dtype() == dtype {
            return Ok(self);
        }
        let Self { kernel, bias, config, .. } = self;
        let kernel = if kernel.device().is_cuda() {
            channels_last(&kernel.contiguous()?.to_dtype(dtype)?)?
        } else {
            kernel.to_dtype(dtype)?
        };
        let bias = bias.map(|bias| bias.to_dtype(dtype)).transpose()?;
        Ok(Self { kernel, bias, config, prepared: PreparedKernel::default() })
    }

    /// Bytes that the layer keeps: its copies of the weights, and what was packed until now.
    pub fn bytes(&self) -> usize {
        bytes(&self.kernel) + self.bias.as_ref().map_or(0, bytes) + self.prepared.bytes()
    }

    /// `activation(convolution of x + bias + residual)`. The residual is optional.
    ///
    /// # Shapes
    /// - `x`: `[batch, height, width, in_channels]`, of the kernel's number type
    /// - `residual`: of the shape of the result, `[batch, out_height, out_width, out_channels]`
    ///
    /// # Errors
    /// If a shape or number type does not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        let (activation, after) = activation.split();
        if let Some(after) = after {
            return after.apply_untracked(&self.forward(x, residual, activation)?);
        }
        let (x, shape) = placed(x, &self.kernel, &self.config)?;
        if x.dtype() != self.kernel.dtype() {
            bail!("{NAME}: x is {:?}, the kernel {:?}", x.dtype(), self.kernel.dtype())
        }
        let op = Forward { conv: self, shape, activation };
        match residual {
            None => x.apply_op1_no_bwd(&op),
            Some(residual) => {
                check::matches(NAME, "residual", residual, &op.output_dims(), &x)?;
                x.apply_op2_no_bwd(&residual.contiguous()?, &op)
            }
        }
    }
}

const NAME: &str = "prepared conv2d";

/// The kernel in the order `[out, height, width, in / groups]` in memory, which a CUDA device reads.
fn channels_last(kernel: &Tensor) -> Result<Tensor> {
    kernel.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))
}

struct Forward<'a> {
    conv: &'a PreparedConv2d,
    shape: ConvShape,
    activation: Activation,
}

impl Forward<'_> {
    fn output_dims(&self) -> [usize; 4] {
        let ConvShape { batch, out_size: [height, width], out_channels, .. } = self.shape;
        [batch, height, width, out_channels]
    }

    fn run(
        &self,
        x: (&CpuStorage, &Layout),
        residual: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let prepared = &self.conv.prepared;
        match x.0 {
            CpuStorage::F32(_) => self.compute::<f32>(x, residual, |x, kernel, by| {
                prepared.output(x, kernel, &self.shape, by)
            }),
            _ => self.compute::<f64>(x, residual, |x, kernel, by| {
                let mut y = conv::output(x, kernel, &self.shape);
                finish(&mut y, self.shape.out_channels, by);
                y
            }),
        }
    }

    #[cfg(feature = "cuda")]
    fn run_cuda(&self, x: Array<'_>, residual: Option<Array<'_>>) -> Result<(CudaStorage, Shape)> {
        let options = self.conv.config.options.on_cuda();
        let kernel = cuda::kept(&self.conv.kernel);
        let bias = self.conv.bias.as_ref().map(cuda::kept);
        let bias = bias.as_ref().map(|bias| bias.array()).transpose()?;
        let then = cuda::Finish { bias, residual, activation: self.activation };
        cuda::conv_output(x, kernel.array()?, &then, &self.shape, options)
    }

    fn compute<T: Float>(
        &self,
        x: (&CpuStorage, &Layout),
        residual: Option<(&CpuStorage, &Layout)>,
        convolve: impl FnOnce(&[T], &[T], &Finish<'_, T>) -> Vec<T>,
    ) -> Result<(CpuStorage, Shape)> {
        let (kernel, bias) = (kept(&self.conv.kernel), self.conv.bias.as_ref().map(kept));
        let by = Finish {
            bias: bias.as_ref().map(|bias| bias.elements()).transpose()?,
            residual: residual.map(|(r, layout)| elements(r, layout)).transpose()?,
            ceiling: self.activation.ceiling().map(T::narrow),
        };
        let y = convolve(elements(x.0, x.1)?, kernel.elements()?, &by);
        Ok(stored(y, &self.output_dims()[..]))
    }
}

impl CustomOp1 for Forward<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run((x, layout), None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.run_cuda(Array::new(x, layout), None)
    }
}

impl CustomOp2 for Forward<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, x_layout), Some((residual, residual_layout)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        residual: &CudaStorage,
        residual_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.run_cuda(Array::new(x, x_layout), Some(Array::new(residual, residual_layout)))
    }
}
