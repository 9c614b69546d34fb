//! Max pooling.
//!
//! candle's max pool divides the gradient by the area of the window and gives it to every one of equal
//! elements. It has no gradient at all if the kernel is not the stride.

use std::sync::OnceLock;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Error, Layout, Result, Shape, Tensor, bail};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::padding::Placement;
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};
use crate::{Padding2d, PerAxis};
use candle_vision_kernels::max_pool as kernels;
use candle_vision_kernels::pool::{Sliding, Windows};

/// The windows of [`max_pool2d`]. Pairs are `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MaxPool2dConfig {
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Step from one window to the next.
    pub stride: [usize; 2],
    /// Positions added on each side. No window takes its maximum from them. At most half a kernel.
    pub padding: Padding2d,
    /// Whether a last window may reach past the padded input, as long as it starts inside the input
    /// or its left padding.
    pub ceil_mode: bool,
}

impl MaxPool2dConfig {
    /// Adjacent windows without padding: the stride equals the kernel, which is one number or
    /// `[height, width]`.
    pub fn new(kernel: impl PerAxis) -> Self {
        let kernel = kernel.per_axis();
        Self { kernel, stride: kernel, padding: Padding2d::default(), ceil_mode: false }
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
            count_include_pad: false,
        };
        Windows::sliding(NAME, window.size, [sliding(0), sliding(1)]).map_err(Error::msg)
    }
}

/// The largest element of every window.
///
/// The gradient goes to the first of equal elements in row order, as in PyTorch. A window that holds a NaN
/// gives NaN.
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
/// use candle_vision_ops::{MaxPool2dConfig, max_pool2d};
///
/// let x = Tensor::arange(0f32, 16.0, &Device::Cpu)?.reshape((1, 4, 4, 1))?;
/// let y = max_pool2d(&x, &MaxPool2dConfig::new(3).stride(2).padding(1))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [5.0, 7.0, 13.0, 15.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn max_pool2d(x: &Tensor, config: &MaxPool2dConfig) -> Result<Tensor> {
    let [_, height, width, _] = check::images(NAME, x)?;
    let [rows, columns] = config.kernel;
    if rows.saturating_mul(columns) > kernels::MAX_POSITIONS {
        bail!(
            "{NAME}: a kernel has at most {} positions, got {rows} x {columns}",
            kernels::MAX_POSITIONS
        )
    }
    let windows = config.windows([height, width])?;
    if is_emulated(x) {
        return max_pool2d(&widened(x)?, config)?.to_dtype(x.dtype());
    }
    let positions = x.track_op().then(OnceLock::new);
    apply1(&x.contiguous()?, MaxPool2d { windows, positions })
}

const NAME: &str = "max_pool2d";

/// The position of each maximum within its window, on the device of the input.
#[derive(Debug)]
enum Positions {
    Cpu(Vec<u16>),
    #[cfg(feature = "cuda")]
    Cuda(cuda::Positions),
}

impl Positions {
    fn on_cpu(&self) -> Result<&[u16]> {
        match self {
            Positions::Cpu(positions) => Ok(positions),
            #[cfg(feature = "cuda")]
            Positions::Cuda(_) => {
                bail!("{NAME}: the gradient is on another device than the input")
            }
        }
    }
}

struct MaxPool2d {
    windows: Windows,
    /// Present if a gradient may be needed.
    positions: Option<OnceLock<Positions>>,
}

impl Footprint for MaxPool2d {
    fn held_bytes(&self) -> usize {
        match self.positions.as_ref().and_then(OnceLock::get) {
            Some(Positions::Cpu(positions)) => size_of_val(&positions[..]),
            #[cfg(feature = "cuda")]
            Some(Positions::Cuda(positions)) => positions.len() * size_of::<u16>(),
            None => 0,
        }
    }
}

impl CustomOp1 for MaxPool2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, _, _, channels) = layout.shape().dims4()?;
        let shape = (batch, self.windows.rows.output(), self.windows.columns.output(), channels);
        with_float!(NAME, x, T => {
            let x = elements::<T>(x, layout)?;
            let Some(noted) = &self.positions else {
                return Ok(stored(kernels::max(x, channels, &self.windows), shape));
            };
            let (y, positions) = kernels::max_and_positions(x, channels, &self.windows);
            noted.set(Positions::Cpu(positions)).expect("an op runs forward once");
            Ok(stored(y, shape))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let x = Array::new(x, layout);
        let Some(noted) = &self.positions else {
            return cuda::max(x, &self.windows);
        };
        let (y, positions) = cuda::max_and_positions(x, &self.windows)?;
        noted.set(Positions::Cuda(positions)).expect("an op runs forward once");
        Ok(y)
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let positions = self.positions.as_ref().and_then(OnceLock::get);
        let positions = positions.expect("a tracked op has run forward");
        let gradient = Gradient { windows: &self.windows, positions };
        grad.contiguous()?.apply_op1_no_bwd(&gradient).map(Some)
    }
}

struct Gradient<'a> {
    windows: &'a Windows,
    positions: &'a Positions,
}

impl CustomOp1 for Gradient<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, grad: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, _, _, channels) = layout.shape().dims4()?;
        let shape = (batch, self.windows.rows.input(), self.windows.columns.input(), channels);
        let positions = self.positions.on_cpu()?;
        with_float!(NAME, grad, T => {
            let grad = elements::<T>(grad, layout)?;
            Ok(stored(kernels::gradient(grad, positions, channels, self.windows), shape))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, grad: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        match self.positions {
            Positions::Cuda(positions) => {
                cuda::max_gradient(Array::new(grad, layout), positions, self.windows)
            }
            Positions::Cpu(_) => bail!("{NAME}: the gradient is on another device than the input"),
        }
    }
}
