//! Average pooling.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::padding::Placement;
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};
use crate::{Padding2d, PerAxis};
use candle_vision_kernels::avg_pool as kernels;
use candle_vision_kernels::pool::{Sliding, Windows};

/// The windows of [`avg_pool2d`]. Pairs are `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AvgPool2dConfig {
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Step from one window to the next.
    pub stride: [usize; 2],
    /// Zeros added on each side. At most half a kernel.
    pub padding: Padding2d,
    /// Whether a last window may reach past the padded input, as long as it starts inside the input
    /// or its left padding.
    pub ceil_mode: bool,
    /// Whether the zeros of the padding count in the average. By default they do, as in PyTorch. In
    /// TensorFlow they never do.
    pub count_include_pad: bool,
}

impl AvgPool2dConfig {
    /// Adjacent windows without padding: the stride equals the kernel, which is one number or
    /// `[height, width]`. If padding is added, its zeros count in the average, which is PyTorch's default.
    pub fn new(kernel: impl PerAxis) -> Self {
        let kernel = kernel.per_axis();
        Self {
            kernel,
            stride: kernel,
            padding: Padding2d::default(),
            ceil_mode: false,
            count_include_pad: true,
        }
    }

    /// Sets the stride: one number for both axes, or `[height, width]`.
    pub fn stride(self, stride: impl PerAxis) -> Self {
        Self { stride: stride.per_axis(), ..self }
    }

    /// Sets the padding: one number for all sides, `[height, width]`, `[top, bottom, left, right]`, or a
    /// [`Padding2d`].
    pub fn padding(self, padding: impl Into<Padding2d>) -> Self {
        Self { padding: padding.into(), ..self }
    }

    /// Sets [`ceil_mode`](Self::ceil_mode).
    pub fn ceil_mode(self, ceil_mode: bool) -> Self {
        Self { ceil_mode, ..self }
    }

    /// Sets [`count_include_pad`](Self::count_include_pad).
    pub fn count_include_pad(self, count_include_pad: bool) -> Self {
        Self { count_include_pad, ..self }
    }

    fn windows(&self, [height, width]: [usize; 2]) -> Result<Windows> {
        let window = Placement {
            size: [height, width],
            kernel: self.kernel,
            stride: self.stride,
            dilation: [1, 1],
        };
        let padding = self.padding.resolve(NAME, &window)?;
        let sliding = |axis: usize| Sliding {
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            padding: padding[axis],
            ceil_mode: self.ceil_mode,
            count_include_pad: self.count_include_pad,
        };
        Windows::sliding(NAME, window.size, [sliding(0), sliding(1)]).map_err(Error::msg)
    }
}

/// The mean of every window.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`, `f32` or `f64`
/// - returns `[batch, out_height, out_width, channels]`, where a side is
///   `(side + padding of both sides - kernel) / stride + 1`, rounded down (up in ceil mode)
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
    let [_, height, width, _] = check::images(NAME, x)?;
    let windows = config.windows([height, width])?;
    average(NAME, x, windows)
}

const NAME: &str = "avg_pool2d";

/// The mean of each of `windows`. `name` is the name of the op in errors.
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

impl Footprint for Average {}

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
