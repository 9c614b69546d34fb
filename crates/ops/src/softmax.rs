//! Softmax and its logarithm over the last dimension.
//!
//! candle-nn's fused `softmax_last_dim` has no gradient. It cuts the tape without an error.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};
use candle_vision_kernels::softmax as kernels;

/// `exp(x) / sum(exp(x))` over the last dimension, for any finite `x`.
///
/// # Shapes
/// - `x`: any rank from 1, `f32` or `f64`
/// - returns a tensor of the shape and number type of `x`; the last dimension sums to 1
///
/// # Errors
/// If `x` is a scalar, its last dimension is empty, or it has another number type.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
///
/// let x = Tensor::new(&[1000f32, 1000.0], &Device::Cpu)?;
/// assert_eq!(candle_vision_ops::softmax(&x)?.to_vec1::<f32>()?, [0.5, 0.5]);
/// # candle_core::Result::Ok(())
/// ```
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    RowOp::Softmax.apply(x)
}

/// `x - log(sum(exp(x)))` over the last dimension. It is the logarithm of [`softmax`], without the loss of
/// digits from computing the logarithm afterwards.
///
/// # Shapes
/// - `x`: any rank from 1, `f32` or `f64`
/// - returns a tensor of the shape and number type of `x`
///
/// # Errors
/// If `x` is a scalar, its last dimension is empty, or it has another number type.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    RowOp::LogSoftmax.apply(x)
}

#[derive(Clone, Copy)]
enum RowOp {
    Softmax,
    LogSoftmax,
}

impl RowOp {
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        check::float(self.name(), x)?;
        if matches!(x.dims().last(), None | Some(0)) {
            bail!("{}: expected [..., classes], got {:?}", self.name(), x.dims())
        }
        if is_emulated(x) {
            return self.apply(&widened(x)?)?.to_dtype(x.dtype());
        }
        apply1(&x.contiguous()?, self)
    }
}

fn columns(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

impl Footprint for RowOp {}

impl CustomOp1 for RowOp {
    fn name(&self) -> &'static str {
        match self {
            RowOp::Softmax => "softmax",
            RowOp::LogSoftmax => "log_softmax",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        with_float!(self.name(), x, T => {
            let x = elements::<T>(x, layout)?;
            let y = match self {
                RowOp::Softmax => kernels::softmax(x, columns(layout)),
                RowOp::LogSoftmax => kernels::log_softmax(x, columns(layout)),
            };
            Ok(stored(y, layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::softmax(Array::new(x, layout), matches!(self, RowOp::LogSoftmax))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        y.apply_op2_no_bwd(&grad.contiguous()?, &Gradient(*self)).map(Some)
    }
}

/// The gradient of the input. Its arguments are the output and the output's gradient.
struct Gradient(RowOp);

impl CustomOp2 for Gradient {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        y_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let columns = columns(y_layout);
        with_float!(self.name(), y, T => {
            let (y, grad) = (elements::<T>(y, y_layout)?, elements(grad, grad_layout)?);
            let dx = match self.0 {
                RowOp::Softmax => kernels::softmax_gradient(y, grad, columns),
                RowOp::LogSoftmax => kernels::log_softmax_gradient(y, grad, columns),
            };
            Ok(stored(dx, y_layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        y: &CudaStorage,
        y_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let logarithm = matches!(self.0, RowOp::LogSoftmax);
        cuda::softmax_gradient(Array::new(y, y_layout), Array::new(grad, grad_layout), logarithm)
    }
}
