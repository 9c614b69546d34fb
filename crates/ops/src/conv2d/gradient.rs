//! The two gradients of a convolution, as ops.

use super::Conv2d;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape};

#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::storage::{elements, stored, with_float};
use candle_vision_kernels::conv;
use candle_vision_kernels::conv_shape::ConvShape;

/// The gradient of the input. Its arguments are the output's gradient and the kernel.
pub(super) struct InputGradient<'a>(pub(super) &'a Conv2d);

impl CustomOp2 for InputGradient<'_> {
    fn name(&self) -> &'static str {
        "conv2d-input-gradient"
    }

    fn cpu_fwd(
        &self,
        grad: &CpuStorage,
        grad_layout: &Layout,
        kernel: &CpuStorage,
        kernel_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [height, width] = self.0.shape.in_size;
        with_float!("conv2d", grad, T => {
            let grad = elements::<T>(grad, grad_layout)?;
            let dx = conv::input_gradient(grad, elements(kernel, kernel_layout)?, &self.0.shape);
            Ok(stored(dx, (self.0.shape.batch, height, width, self.0.shape.in_channels)))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        grad: &CudaStorage,
        grad_layout: &Layout,
        kernel: &CudaStorage,
        kernel_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (grad, kernel) = (Array::new(grad, grad_layout), Array::new(kernel, kernel_layout));
        cuda::conv_input_gradient(grad, kernel, &self.0.shape, self.0.options.on_cuda())
    }
}

/// The gradient of the kernel on the CPU. Its arguments are the input and the output's gradient.
pub(super) struct KernelGradient<'a>(pub(super) &'a Conv2d);

impl CustomOp2 for KernelGradient<'_> {
    fn name(&self) -> &'static str {
        "conv2d-kernel-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ConvShape { out_channels, kernel: [height, width], .. } = self.0.shape;
        with_float!("conv2d", x, T => {
            let (x, grad) = (elements::<T>(x, x_layout)?, elements(grad, grad_layout)?);
            let dkernel = conv::kernel_gradient(x, grad, &self.0.shape);
            Ok(stored(dkernel, (out_channels, self.0.shape.group_in(), height, width)))
        })
    }
}
