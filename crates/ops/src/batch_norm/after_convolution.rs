//! A convolution, a batch norm with the batch's statistics, a residual sum and an activation as one node of
//! the tape.
//!
//! candle adds the gradient of every node to a new tensor of zeros. The gradient of the convolution's
//! output is one of the largest tensors. Here it never appears on the tape.

use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::affine::{Handover, affine, affine_and_kernel};
use super::{BatchNorm, BatchStatistics, NAME, batch_norm_train, check_arguments};
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::is_emulated;
use crate::kept_bytes::bytes;
use crate::storage::{elements, kept, with_float};
use crate::tape::{Footprint, OfTwo, apply2, apply3};
use crate::{Activation, BatchNormParameters, Conv2dConfig, conv2d};
use candle_vision_kernels::conv_shape::ConvShape;

/// [`batch_norm_train`](crate::batch_norm_train) of a convolution's output, and the statistics.
///
/// The values are those of [`conv2d`] without a bias, followed by `batch_norm_train`. The backward pass
/// takes less work.
///
/// # Shapes
/// - `x`: `[batch, height, width, in_channels]`
/// - `kernel`: `[out_channels, in_channels / groups, kernel_height, kernel_width]`
/// - `norm`: weight and bias of `[out_channels]`; `residual`: of the shape of the result
/// - returns `[batch, out_height, out_width, out_channels]`
///
/// # Errors
/// As [`conv2d`] and `batch_norm_train`.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor, Var};
/// use candle_vision_ops::{
///     Activation, BatchNormParameters, Conv2dConfig, conv2d_batch_norm_train,
/// };
///
/// let images = Tensor::arange(0f32, 128.0, &Device::Cpu)?.reshape((2, 8, 8, 1))?;
/// let kernel = Var::ones((4, 1, 3, 3), DType::F32, &Device::Cpu)?;
/// let one = Tensor::ones(4, DType::F32, &Device::Cpu)?;
/// let zero = one.zeros_like()?;
/// let norm = BatchNormParameters::new(&one, &zero, 1e-5);
/// let (y, statistics) = conv2d_batch_norm_train(
///     &images, &kernel, &Conv2dConfig::default(), &norm, None, Activation::Relu,
/// )?;
/// assert_eq!(y.dims(), [2, 6, 6, 4]);
/// assert_eq!(statistics.count, 2 * 6 * 6);
/// # candle_core::Result::Ok(())
/// ```
pub fn conv2d_batch_norm_train(
    x: &Tensor,
    kernel: &Tensor,
    config: &Conv2dConfig,
    norm: &BatchNormParameters<'_>,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<(Tensor, BatchStatistics)> {
    let (fused, after) = activation.split();
    if let Some(after) = after {
        let (y, statistics) = conv2d_batch_norm_train(x, kernel, config, norm, residual, fused)?;
        return Ok((after.apply(&y)?, statistics));
    }
    if is_emulated(x) {
        let convolved = conv2d::conv2d(x, kernel, None, config)?;
        return batch_norm_train(&convolved, norm, residual, activation);
    }
    let kernel = conv2d::readable(kernel)?;
    let (x, convolution) = conv2d::placed_op(x, &kernel, config)?;
    let in_order = convolution.kernel_in_order(&kernel.detach())?;
    let output = x.apply_op2_no_bwd(&in_order, &convolution)?;
    let channels = check_arguments(&output, norm, residual)?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let BatchNormParameters { weight, bias, .. } = *norm;
    let (norm, statistics) =
        BatchNorm::of_batch(&output, channels, norm, residual.as_ref(), activation)?;
    let kernel_gradient = Arc::<Handover>::default();
    let affine = if kernel.track_op() {
        affine_and_kernel(weight, bias, &kernel, kernel_gradient.clone())?
    } else {
        affine(weight, bias)?
    };
    let kernel_gradient_as_view = conv2d::lies_channels_last(&kernel)?;
    let (kernel_is_trained, kernel) = (kernel.track_op(), in_order);
    let node = ConvBatchNorm {
        convolution,
        output,
        kernel,
        kernel_is_trained,
        kernel_gradient_as_view,
        norm,
        kernel_gradient,
    };
    let y = match residual {
        None => apply2(&x, &affine, node)?,
        Some(residual) => apply3(&x, &affine, &residual, node)?,
    };
    Ok((y, statistics))
}

/// The op. Its arguments are the input, the affine parameters (which carry the kernel's gradient) and the
/// residual.
struct ConvBatchNorm {
    convolution: conv2d::Conv2d,
    /// The output of the convolution.
    output: Tensor,
    kernel: Tensor,
    kernel_is_trained: bool,
    /// See [`conv2d::Conv2d::kernel_gradient`].
    kernel_gradient_as_view: bool,
    norm: BatchNorm,
    kernel_gradient: Arc<Handover>,
}

impl ConvBatchNorm {
    /// `x` tells the number type.
    fn forward(
        &self,
        x: &CpuStorage,
        residual: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let output = kept(&self.output);
        with_float!(NAME, x, T => {
            let residual = residual.map(|(storage, layout)| elements::<T>(storage, layout));
            self.norm.forward::<T>(output.elements()?, residual.transpose()?, self.output.layout())
        })
    }

    #[cfg(feature = "cuda")]
    fn forward_cuda(&self, residual: Option<Array<'_>>) -> Result<(CudaStorage, Shape)> {
        self.norm.forward_cuda(cuda::kept(&self.output).array()?, residual)
    }

    fn gradients(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: Option<&Tensor>,
        y: &Tensor,
        grads: (&Tensor, Option<&Tensor>),
    ) -> Result<[Option<Tensor>; 3]> {
        let of_output = x.track_op() || self.kernel_is_trained;
        let norm = self.norm.gradients(&self.output, of_output, affine, residual, y, grads)?;
        let [of_output, of_affine, of_residual] = norm;
        let Some(of_output) = of_output else {
            return Ok([None, of_affine, of_residual]);
        };
        if self.kernel_is_trained {
            let as_view = self.kernel_gradient_as_view;
            self.kernel_gradient.put(self.convolution.kernel_gradient(x, &of_output, as_view)?);
        }
        let of_x = x.track_op().then(|| self.convolution.input_gradient(&self.kernel, &of_output));
        Ok([of_x.transpose()?, of_affine, of_residual])
    }
}

impl Footprint for ConvBatchNorm {
    fn held(&self) -> Vec<&Tensor> {
        [vec![&self.output, &self.kernel], self.norm.held()].concat()
    }

    fn passing_bytes(&self, result: &Tensor) -> usize {
        // The gradient of the convolution's output.
        bytes(result)
    }

    fn passes_on(&self, argument: usize) -> bool {
        self.norm.passes_on(argument)
    }

    fn convolution(&self) -> Option<ConvShape> {
        self.convolution.convolution()
    }

    fn of_two(&self) -> Option<&dyn OfTwo> {
        self.norm.adds_gradients().then_some(self)
    }
}

impl OfTwo for ConvBatchNorm {
    fn gradients(
        &self,
        arguments: &[Tensor],
        y: &Tensor,
        [grad, more]: [&Tensor; 2],
    ) -> Result<Vec<Option<Tensor>>> {
        let [x, affine, others @ ..] = arguments else { return Ok(Vec::new()) };
        let found = self.gradients(x, affine, others.first(), y, (grad, Some(more)))?;
        Ok(found.into_iter().take(arguments.len()).collect())
    }
}

impl CustomOp2 for ConvBatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        _x_layout: &Layout,
        _affine: &CpuStorage,
        _affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(x, None)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _x: &CudaStorage,
        _x_layout: &Layout,
        _affine: &CudaStorage,
        _affine_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward_cuda(None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, affine, _] = self.gradients(x, affine, None, y, (grad, None))?;
        Ok((x, affine))
    }
}

impl CustomOp3 for ConvBatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        _x_layout: &Layout,
        _affine: &CpuStorage,
        _affine_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(x, Some((residual, residual_layout)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _x: &CudaStorage,
        _x_layout: &Layout,
        _affine: &CudaStorage,
        _affine_layout: &Layout,
        residual: &CudaStorage,
        residual_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward_cuda(Some(Array::new(residual, residual_layout)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, affine, residual] = self.gradients(x, affine, Some(residual), y, (grad, None))?;
        Ok((x, affine, residual))
    }
}
