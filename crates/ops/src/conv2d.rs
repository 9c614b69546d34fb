//! Two-dimensional convolution.

mod config;
mod gradient;

#[cfg(feature = "cuda")]
pub(crate) use config::OnCuda;
pub use config::{
    Conv2dConfig, ConvolutionOptions, set_convolution_benchmark, set_exact_convolution, set_tf32,
};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Error, Layout, Result, Shape, Tensor, bail};

#[cfg(feature = "cuda")]
use crate::channels_last;
use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{all_widened, is_emulated, widened};
use crate::kept_bytes::bytes;
use crate::linear::{bias_gradient, check_bias};
use crate::padding::Placement;
use crate::storage::Float;
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2, apply3};
use crate::{Activation, PadConfig, activation, pad};
use candle_vision_kernels::conv;
use candle_vision_kernels::conv_shape::{ConvShape, out_size};
use candle_vision_kernels::finish::{Finish, finish};
use gradient::{InputGradient, KernelGradient};

/// Convolution of a channels-last image batch (cross-correlation, as in PyTorch's `conv2d`).
///
/// # Shapes
/// - `x`: `[batch, height, width, in_channels]`
/// - `kernel`: `[out_channels, in_channels / groups, kernel_height, kernel_width]`
/// - `bias`: `[out_channels]`; all `f32` or all `f64`
/// - returns `[batch, out_height, out_width, out_channels]`, with
///   `(size + padding of both sides - dilation * (kernel - 1) - 1) / stride + 1` rounded down for the
///   sizes
///
/// # Errors
/// If a shape or an element type does not fit, `x` is empty, the groups do not divide the channels,
/// or the kernel is larger than the padded image.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_ops::{Conv2dConfig, conv2d};
///
/// # fn main() -> candle_core::Result<()> {
/// let images = Tensor::ones((2, 32, 32, 3), DType::F32, &Device::Cpu)?;
/// let kernel = Tensor::ones((8, 3, 3, 3), DType::F32, &Device::Cpu)?;
/// let y = conv2d(&images, &kernel, None, &Conv2dConfig::default().stride(2).padding(1))?;
/// assert_eq!(y.dims(), [2, 16, 16, 8]);
/// # Ok(())
/// # }
/// ```
pub fn conv2d(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2dConfig,
) -> Result<Tensor> {
    conv2d_activated(x, kernel, bias, Activation::Identity, config)
}

/// `activation` of a [`conv2d`], as one op. It saves one pass over memory in the forward pass and two in
/// the backward pass.
///
/// # Shapes and errors
/// Those of [`conv2d`].
pub fn conv2d_activated(
    x: &Tensor,
    kernel: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    config: &Conv2dConfig,
) -> Result<Tensor> {
    let (fused, after) = activation.split();
    if let Some(after) = after {
        return after.apply(&conv2d_activated(x, kernel, bias, fused, config)?);
    }
    let shape = conv_shape(x, kernel, config)?;
    check_bias("conv2d", x, kernel, bias, shape.out_channels)?;
    if is_emulated(x) {
        let (wide_x, kernel, bias) = (widened(x)?, widened(kernel)?, all_widened(bias)?);
        return conv2d_activated(&wide_x, &kernel, bias.as_ref(), activation, config)?
            .to_dtype(x.dtype());
    }
    let kernel = readable(kernel)?;
    let (x, shape) = placed(x, &kernel, config)?;
    let op = Conv2d { shape, activation, options: config.options };
    match bias {
        None => apply2(&x, &kernel, op),
        Some(bias) => apply3(&x, &kernel, &bias.contiguous()?, op),
    }
}

/// The kernel as the device's convolutions read it: contiguous, or on a CUDA device channels-last in memory.
pub(crate) fn readable(kernel: &Tensor) -> Result<Tensor> {
    if lies_channels_last(kernel)? { Ok(kernel.clone()) } else { kernel.contiguous() }
}

/// Whether the passes on a CUDA device read it as it is, though it is not contiguous.
pub(crate) fn lies_channels_last(kernel: &Tensor) -> Result<bool> {
    #[cfg(feature = "cuda")]
    if kernel.device().is_cuda() && !kernel.is_contiguous() {
        return cuda::lies_channels_last(kernel);
    }
    let _ = kernel;
    Ok(false)
}

/// `x` (contiguous and padded if needed), and the op that convolves it with a contiguous `kernel`.
pub(crate) fn placed_op(
    x: &Tensor,
    kernel: &Tensor,
    config: &Conv2dConfig,
) -> Result<(Tensor, Conv2d)> {
    let (x, shape) = placed(x, kernel, config)?;
    check_bias("conv2d", &x, kernel, None, shape.out_channels)?;
    Ok((x, Conv2d { shape, activation: Activation::Identity, options: config.options }))
}

/// Returns `x`, contiguous, and the sizes of its convolution.
///
/// cuDNN puts the same number of zeros before and after an axis. If the padding is uneven, it is written
/// into a copy on a CUDA device. The CPU's kernels and those for patches need no copy.
pub(crate) fn placed(
    x: &Tensor,
    kernel: &Tensor,
    config: &Conv2dConfig,
) -> Result<(Tensor, ConvShape)> {
    let shape = conv_shape(x, kernel, config)?;
    if x.device().is_cpu() || shape.is_padded_evenly() {
        return Ok((x.contiguous()?, shape));
    }
    let [[top, bottom], [left, right]] = padding(x, kernel, config)?;
    let x = pad(x, &PadConfig::new([top, bottom, left, right]))?;
    let shape = conv_shape(&x, kernel, &config.padding(0))?;
    Ok((x, shape))
}

/// Zeros before and after, for the height and the width.
fn padding(x: &Tensor, kernel: &Tensor, config: &Conv2dConfig) -> Result<[[usize; 2]; 2]> {
    let (_, in_height, in_width, _) = x.dims4()?;
    let (_, _, kernel_height, kernel_width) = kernel.dims4()?;
    let window = Placement {
        size: [in_height, in_width],
        kernel: [kernel_height, kernel_width],
        stride: config.stride,
        dilation: config.dilation,
    };
    config.padding.resolve("conv2d", &window)
}

pub(crate) fn conv_shape(x: &Tensor, kernel: &Tensor, config: &Conv2dConfig) -> Result<ConvShape> {
    let &[batch, in_height, in_width, in_channels] = x.dims() else {
        bail!("conv2d: x is [batch, height, width, channels], got {:?}", x.dims())
    };
    let &[out_channels, group_in, kernel_height, kernel_width] = kernel.dims() else {
        bail!("conv2d: kernel is [out, in / groups, height, width], got {:?}", kernel.dims())
    };
    check::copied("conv2d", "x", x)?;
    if x.elem_count() == 0 || out_channels == 0 {
        bail!("conv2d: no elements in x {:?} and kernel {:?}", x.dims(), kernel.dims())
    }
    let groups = config.groups;
    if groups == 0 || group_in.checked_mul(groups) != Some(in_channels) {
        bail!(
            "conv2d: kernel {:?} in {groups} groups does not take the {in_channels} channels of x {:?}",
            kernel.dims(),
            x.dims()
        )
    }
    if !out_channels.is_multiple_of(groups) {
        bail!("conv2d: {groups} groups do not divide the {out_channels} outputs of the kernel")
    }
    let (in_size, kernel_size) = ([in_height, in_width], [kernel_height, kernel_width]);
    let padding = padding(x, kernel, config)?;
    let out_along = |axis: usize| {
        let (stride, padding) = (config.stride[axis], padding[axis]);
        out_size(in_size[axis], kernel_size[axis], stride, padding, config.dilation[axis])
            .map_err(|error| Error::msg(format!("conv2d: {error}")))
    };
    let out_size = [out_along(0)?, out_along(1)?];
    let sizes = [batch, out_size[0], out_size[1], out_channels];
    if sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).is_none() {
        bail!("conv2d: an output of {sizes:?} is too large")
    }
    Ok(ConvShape {
        batch,
        in_size,
        in_channels,
        out_size,
        out_channels,
        kernel: kernel_size,
        stride: config.stride,
        padding: padding.map(|[before, _]| before),
        dilation: config.dilation,
        groups,
        exact: config.options.is_exact(),
    })
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv2d {
    shape: ConvShape,
    activation: Activation,
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the CPU's are in the shape"))]
    options: ConvolutionOptions,
}

impl Conv2d {
    fn output_dims(&self) -> (usize, usize, usize, usize) {
        let ConvShape { batch, out_size: [height, width], out_channels, .. } = self.shape;
        (batch, height, width, out_channels)
    }

    fn forward<T: Float>(&self, x: &[T], kernel: &[T], bias: Option<&[T]>) -> Vec<T> {
        let mut y = conv::output(x, kernel, &self.shape);
        let ceiling = self.activation.ceiling().map(T::narrow);
        let by = Finish { bias, ceiling, ..Finish::default() };
        finish(&mut y, self.shape.out_channels, &by);
        y
    }

    /// The gradient of the activation's input.
    fn behind_activation(&self, y: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let grad = grad.contiguous()?;
        match self.activation.ceiling() {
            None => Ok(grad),
            Some(ceiling) => activation::relu_gradient(y, &grad, ceiling),
        }
    }

    fn gradients(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = x.track_op().then(|| self.input_gradient(kernel, grad)).transpose()?;
        let as_view = lies_channels_last(kernel)?;
        let dkernel =
            kernel.track_op().then(|| self.kernel_gradient(x, grad, as_view)).transpose()?;
        Ok((dx, dkernel))
    }

    /// The kernel as the device reads it, so that the passes of a training step need not lay it out again each time. It
    /// has the shape of `kernel`.
    pub(crate) fn kernel_in_order(&self, kernel: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if kernel.device().is_cuda()
            && cuda::conv_wants_channels_last(kernel, &self.shape, self.options.on_cuda())?
        {
            return channels_last(kernel)?.permute([0, 3, 1, 2]);
        }
        Ok(kernel.clone())
    }

    /// The gradient of the input, from that of the output.
    pub(crate) fn input_gradient(&self, kernel: &Tensor, grad: &Tensor) -> Result<Tensor> {
        grad.apply_op2_no_bwd(kernel, &InputGradient(self))
    }

    /// The gradient of the kernel, from that of the output. On a CUDA device it may be a permuted view, and is one if
    /// `as_view`.
    pub(crate) fn kernel_gradient(
        &self,
        x: &Tensor,
        grad: &Tensor,
        as_view: bool,
    ) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let options = self.options.on_cuda();
            return cuda::conv_kernel_gradient(x, grad, &self.shape, options, as_view);
        }
        let _ = as_view;
        x.apply_op2_no_bwd(grad, &KernelGradient(self))
    }
}

impl Footprint for Conv2d {
    fn passing_bytes(&self, result: &Tensor) -> usize {
        // The gradient of the activation's input.
        if self.activation.ceiling().is_some() { bytes(result) } else { 0 }
    }

    fn convolution(&self) -> Option<ConvShape> {
        Some(self.shape)
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        kernel: &CpuStorage,
        kernel_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!("conv2d", x, T => {
            let (x, kernel) = (elements::<T>(x, x_layout)?, elements(kernel, kernel_layout)?);
            Ok(stored(self.forward(x, kernel, None), self.output_dims()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        kernel: &CudaStorage,
        kernel_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, kernel) = (Array::new(x, x_layout), Array::new(kernel, kernel_layout));
        let then = cuda::Finish { bias: None, residual: None, activation: self.activation };
        cuda::conv_output(x, kernel, &then, &self.shape, self.options.on_cuda())
    }

    fn bwd(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, kernel, &self.behind_activation(y, grad)?)
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        kernel: &CpuStorage,
        kernel_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!("conv2d", x, T => {
            let (x, kernel) = (elements::<T>(x, x_layout)?, elements(kernel, kernel_layout)?);
            let bias = elements(bias, bias_layout)?;
            Ok(stored(self.forward(x, kernel, Some(bias)), self.output_dims()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        kernel: &CudaStorage,
        kernel_layout: &Layout,
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, kernel) = (Array::new(x, x_layout), Array::new(kernel, kernel_layout));
        let bias = Some(Array::new(bias, bias_layout));
        let then = cuda::Finish { bias, residual: None, activation: self.activation };
        cuda::conv_output(x, kernel, &then, &self.shape, self.options.on_cuda())
    }

    fn bwd(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = self.behind_activation(y, grad)?;
        let (dx, dkernel) = self.gradients(x, kernel, &grad)?;
        Ok((dx, dkernel, bias_gradient(bias, &grad)?))
    }
}
