//! Conversions between float types, on the tape.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use crate::check;
use crate::tape::{Footprint, apply1};

/// `x` converted to another float type. The gradient has the type of `x`.
///
/// The values are the same as those of candle's `to_dtype`. As an op of this crate, it keeps
/// [`backward`](crate::backward()) from falling back to candle's.
///
/// # Errors
/// If one of the two types is not a float type.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Var};
/// use candle_vision_ops::{backward, cast};
///
/// let weight = Var::new(&[1f32, 1.0 + 1.0 / 512.0], &Device::Cpu)?;
/// let half = cast(&weight, DType::BF16)?;
/// // Of 24 bits 8 are left.
/// assert_eq!(half.to_dtype(DType::F32)?.to_vec1::<f32>()?, [1.0, 1.0]);
/// let gradients = backward(&half.sum_all()?)?;
/// assert_eq!(gradients.get(&weight).unwrap().dtype(), DType::F32);
/// # candle_core::Result::Ok(())
/// ```
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    if !(x.dtype().is_float() && dtype.is_float()) {
        bail!("cast: expected two float types, got {:?} and {dtype:?}", x.dtype())
    }
    check::within_candle("cast", "x", x)?;
    apply1(x, Cast(dtype))
}

struct Cast(DType);

impl Footprint for Cast {}

impl CustomOp1 for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((x.to_dtype(layout, self.0)?, layout.shape().clone()))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((x.to_dtype(layout, self.0)?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.to_dtype(x.dtype()).map(Some)
    }
}
