//! A product with a number, on the tape.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::check;
use crate::tape::{Footprint, apply1};

/// `x * factor`.
///
/// The values are the same as those of candle's product. As an op of this crate, it keeps
/// [`backward`](crate::backward()) from falling back to candle's.
///
/// # Errors
/// If `x` is not of a float type.
///
/// # Example
/// ```
/// use candle_core::{Device, Var};
/// use candle_vision_ops::{backward, scale};
///
/// let x = Var::new(&[1f32, -2.0], &Device::Cpu)?;
/// let y = scale(&x, 0.125)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0.125, -0.25]);
/// assert_eq!(backward(&y)?.get(&x).unwrap().to_vec1::<f32>()?, [0.125, 0.125]);
/// # candle_core::Result::Ok(())
/// ```
pub fn scale(x: &Tensor, factor: f64) -> Result<Tensor> {
    check::float("scale", x)?;
    check::within_candle("scale", "x", x)?;
    apply1(x, Scale(factor))
}

/// The op. It is linear, so its gradient is the same op.
struct Scale(f64);

impl Footprint for Scale {}

impl CustomOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((x.affine(layout, self.0, 0.0)?, layout.shape().clone()))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((x.affine(layout, self.0, 0.0)?, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        gradient.apply_op1_no_bwd(self).map(Some)
    }
}
