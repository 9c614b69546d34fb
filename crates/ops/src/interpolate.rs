//! Resizing of feature maps.
//!
//! candle's `upsample_nearest2d` overwrites the gradient contributions of other uses of its input. Its
//! bilinear form has no gradient.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};
use candle_vision_kernels::resample::{self as kernels, ResampleWeights};

/// How [`interpolate`] computes the new pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterpolateMode {
    /// The pixel at `position * from / to`, rounded down.
    Nearest,
    /// A mean of the four pixels around a position, weighted by their nearness.
    Bilinear {
        /// Whether the centres of the corner pixels stay in place. If not, the outer edges of the images
        /// stay in place, which is the default of PyTorch and OpenCV.
        align_corners: bool,
    },
    /// A weighted sum of the sixteen pixels around a position: the cubic convolution of Keys (1981) with
    /// PyTorch's and OpenCV's parameter of -0.75. Some weights are negative, so values can leave the range of
    /// the input. Pixels outside of the image are those of its edge.
    Bicubic {
        /// As for [`Bilinear`](Self::Bilinear).
        align_corners: bool,
    },
}

/// Resizes images as `torch.nn.functional.interpolate` does. There is no antialiasing, so a strong
/// reduction skips pixels.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`
/// - returns `[batch, size[0], size[1], channels]`
///
/// # Errors
/// If `x` has another rank or number type, or a side of `size` is 0.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::{InterpolateMode, interpolate};
///
/// let x = Tensor::new(&[0f32, 1.0], &Device::Cpu)?.reshape((1, 1, 2, 1))?;
/// let y = interpolate(&x, [1, 4], InterpolateMode::Bilinear { align_corners: false })?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [0.0, 0.25, 0.75, 1.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn interpolate(x: &Tensor, size: [usize; 2], mode: InterpolateMode) -> Result<Tensor> {
    let [_, height, width, _] = check::images(NAME, x)?;
    if size.contains(&0) {
        bail!("{NAME}: a side of the result is at least 1, got {size:?}")
    }
    if is_emulated(x) {
        return interpolate(&widened(x)?, size, mode)?.to_dtype(x.dtype());
    }
    let taps = |from: usize, to: usize| match mode {
        InterpolateMode::Nearest => ResampleWeights::nearest(from, to),
        InterpolateMode::Bilinear { align_corners } => {
            ResampleWeights::linear(from, to, align_corners)
        }
        InterpolateMode::Bicubic { align_corners } => {
            ResampleWeights::cubic(from, to, align_corners)
        }
    };
    let op = Resample { rows: taps(height, size[0]), columns: taps(width, size[1]) };
    apply1(&x.contiguous()?, op)
}

const NAME: &str = "interpolate";

/// Computes every pixel as a weighted sum of pixels, along the rows and along the columns. The gradient is
/// the same op with the weights transposed.
struct Resample {
    rows: ResampleWeights,
    columns: ResampleWeights,
}

impl Resample {
    fn output_dims(&self, layout: &Layout) -> Result<(usize, usize, usize, usize)> {
        let (batch, _, _, channels) = layout.shape().dims4()?;
        Ok((batch, self.rows.outputs(), self.columns.outputs(), channels))
    }
}

impl Footprint for Resample {}

impl CustomOp1 for Resample {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dims = self.output_dims(layout)?;
        with_float!(NAME, x, T => {
            let x = elements::<T>(x, layout)?;
            Ok(stored(kernels::resample(x, dims.3, &self.rows, &self.columns), dims))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::resample(Array::new(x, layout), &self.rows, &self.columns)
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Resample { rows: self.rows.transposed(), columns: self.columns.transposed() };
        grad.contiguous()?.apply_op1_no_bwd(&back).map(Some)
    }
}
