//! Conversions between the usual `[batch, channels, height, width]` and the channels-last layout of the
//! kernels.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};
use candle_vision_kernels::layout::transpose;

/// Converts a batch of images to contiguous memory with the channels last.
///
/// It copies nothing if `x` is a permuted view of such memory. That is what a loader returns and what
/// `permute` makes of a feature map.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`, `f32` or `f64`, any strides
/// - returns contiguous `[batch, height, width, channels]`
///
/// # Errors
/// If `x` has another rank or number type.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
///
/// let x = Tensor::zeros((2, 3, 4, 5), DType::F32, &Device::Cpu)?;
/// let images = candle_vision_ops::channels_last(&x)?;
/// assert_eq!(images.dims(), [2, 4, 5, 3]);
/// assert_eq!(candle_vision_ops::channels_first(&images)?.dims(), x.dims());
/// # candle_core::Result::Ok(())
/// ```
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    let op = Transpose::ToChannelsLast;
    check_rank(op, x)?;
    let view = x.permute([0, 2, 3, 1])?;
    if view.is_contiguous() { Ok(view) } else { op.apply(x) }
}

/// Converts a batch of images to contiguous memory in the usual order. Flattening it before a classifier
/// gives the order in which published weights expect the features.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`, `f32` or `f64`
/// - returns contiguous `[batch, channels, height, width]`
///
/// # Errors
/// If `x` has another rank or number type.
pub fn channels_first(x: &Tensor) -> Result<Tensor> {
    let op = Transpose::ToChannelsFirst;
    check_rank(op, x)?;
    let view = x.permute([0, 3, 1, 2])?;
    if view.is_contiguous() { Ok(view) } else { op.apply(x) }
}

/// Flattens feature maps to rows, in the order in which published classifiers expect the features. It
/// equals `flatten(1)` in PyTorch.
///
/// # Shapes
/// - `x`: `[batch, height, width, channels]`, of any float type
/// - returns contiguous `[batch, channels * height * width]`
///
/// # Errors
/// If `x` has another rank or number type.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
///
/// // Two pixels of two channels.
/// let x = Tensor::new(&[[[[1f32, 10.0], [2.0, 20.0]]]], &Device::Cpu)?;
/// assert_eq!(candle_vision_ops::flatten(&x)?.to_vec2::<f32>()?, [[1.0, 2.0, 10.0, 20.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn flatten(x: &Tensor) -> Result<Tensor> {
    check_rank(Transpose::Flatten, x)?;
    Transpose::Flatten.apply(x)
}

fn check_rank(op: Transpose, x: &Tensor) -> Result<()> {
    check::float(op.name(), x)?;
    if x.rank() != 4 {
        bail!("{}: expected a batch of images with 4 dimensions, got {:?}", op.name(), x.dims())
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Transpose {
    ToChannelsLast,
    ToChannelsFirst,
    /// As `ToChannelsFirst`, with all dimensions except the first merged into one.
    Flatten,
}

impl Transpose {
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        if is_emulated(x) {
            return apply1(&widened(x)?.contiguous()?, self)?.to_dtype(x.dtype());
        }
        apply1(&x.contiguous()?, self)
    }

    /// The sizes of the transposed batch of matrices, `[batch, rows, columns]`, and the shape of the
    /// result.
    fn sizes(self, layout: &Layout) -> Result<([usize; 3], Shape)> {
        let (batch, a, b, c) = layout.shape().dims4()?;
        Ok(match self {
            Transpose::ToChannelsLast => ([batch, a, b * c], (batch, b, c, a).into()),
            Transpose::ToChannelsFirst => ([batch, a * b, c], (batch, c, a, b).into()),
            Transpose::Flatten => ([batch, a * b, c], (batch, c * a * b).into()),
        })
    }
}

impl Footprint for Transpose {}

impl CustomOp1 for Transpose {
    fn name(&self) -> &'static str {
        match self {
            Transpose::ToChannelsLast => "channels_last",
            Transpose::ToChannelsFirst => "channels_first",
            Transpose::Flatten => "flatten",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let ([_, rows, columns], dims) = self.sizes(layout)?;
        with_float!(self.name(), x, T => {
            Ok(stored(transpose::<T>(elements(x, layout)?, rows, columns), dims))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (sizes, dims) = self.sizes(layout)?;
        cuda::transpose(Array::new(x, layout), sizes, dims)
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (grad, back) = match self {
            Transpose::ToChannelsLast => (grad, Transpose::ToChannelsFirst),
            Transpose::ToChannelsFirst => (grad, Transpose::ToChannelsLast),
            Transpose::Flatten => {
                let (batch, height, width, channels) = x.dims4()?;
                let maps = grad.reshape((batch, channels, height, width))?;
                (maps, Transpose::ToChannelsLast)
            }
        };
        grad.apply_op1_no_bwd(&back).map(Some)
    }
}
