//! Average pooling.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::check;
use crate::cpu::avg_pool as kernels;
use crate::cpu::pool::{Sliding, Windows};
use crate::cpu::storage::{elements, stored, with_float};
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::tape::apply1;

/// The windows of [`avg_pool2d`]. Pairs are `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2dConfig {
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Step from one window to the next.
    pub stride: [usize; 2],
    /// Zeros added on each side; at most half a kernel.
    pub padding: [usize; 2],
    /// Whether a last window may reach past the padded input, as long as it starts inside the input
    /// or its left padding.
    pub ceil_mode: bool,
    /// Whether the zeros of the padding count in the average.
    pub count_include_pad: bool,
}

impl AvgPool2dConfig {
    /// Square windows side by side: the stride is the kernel, without padding. Padding, if it is
    /// added, counts in the average, which is PyTorch's default.
    pub fn new(kernel: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [kernel; 2],
            padding: [0; 2],
            ceil_mode: false,
            count_include_pad: true,
        }
    }

    /// With the same stride along both axes.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// With the same padding on all four sides.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// With [`ceil_mode`](Self::ceil_mode) on or off.
    pub fn ceil_mode(self, ceil_mode: bool) -> Self {
        Self { ceil_mode, ..self }
    }

    /// With [`count_include_pad`](Self::count_include_pad) on or off.
    pub fn count_include_pad(self, count_include_pad: bool) -> Self {
        Self { count_include_pad, ..self }
    }

    fn sliding(&self, axis: usize) -> Sliding {
        Sliding {
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            padding: self.padding[axis],
            ceil_mode: self.ceil_mode,
            count_include_pad: self.count_include_pad,
        }
    }
}

/// The mean of every window.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`, `f32` or `f64`
/// - returns `[batch, out_height, out_width, channels]`, where a side is
///   `(side + 2 * padding - kernel) / stride + 1`, rounded down (up in ceil mode)
///
/// # Errors
/// If `x` has another rank or number type, or a window does not fit.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::{AvgPool2dConfig, avg_pool2d};
///
/// let x = Tensor::arange(0f32, 16.0, &Device::Cpu)?.reshape((1, 4, 4, 1))?;
/// let y = avg_pool2d(&x, &AvgPool2dConfig::new(2))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [2.5, 4.5, 10.5, 12.5]);
/// # candle_core::Result::Ok(())
/// ```
pub fn avg_pool2d(x: &Tensor, config: &AvgPool2dConfig) -> Result<Tensor> {
    const NAME: &str = "avg_pool2d";
    let [_, height, width, _] = check::images(NAME, x)?;
    let sliding = [config.sliding(0), config.sliding(1)];
    let windows = Windows::sliding(NAME, [height, width], sliding)?;
    average(NAME, x, windows)
}

/// The mean of every one of `windows`; `name` is the op's in errors.
pub(crate) fn average(name: &'static str, x: &Tensor, windows: Windows) -> Result<Tensor> {
    if is_emulated(x) {
        return average(name, &widened(x)?, windows)?.to_dtype(x.dtype());
    }
    apply1(&x.contiguous()?, Average { name, windows })
}

struct Average {
    name: &'static str,
    windows: Windows,
}

impl CustomOp1 for Average {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, _, _, channels) = layout.shape().dims4()?;
        let shape = (batch, self.windows.rows.output(), self.windows.columns.output(), channels);
        with_float!(self.name, x, T => {
            let y = kernels::average::<T>(elements(x, layout)?, channels, &self.windows);
            Ok(stored(y, shape))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::average(self.name, Array::new(x, layout), &self.windows)
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.contiguous()?.apply_op1_no_bwd(&Gradient(self)).map(Some)
    }
}

struct Gradient<'a>(&'a Average);

impl CustomOp1 for Gradient<'_> {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn cpu_fwd(&self, grad: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let windows = &self.0.windows;
        let (batch, _, _, channels) = layout.shape().dims4()?;
        let shape = (batch, windows.rows.input(), windows.columns.input(), channels);
        with_float!(self.0.name, grad, T => {
            let dx = kernels::gradient::<T>(elements(grad, layout)?, channels, windows);
            Ok(stored(dx, shape))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, grad: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::average_gradient(self.0.name, Array::new(grad, layout), &self.0.windows)
    }
}
