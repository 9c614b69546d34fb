//! Sums of two tensors, on the tape.

use candle_core::backend::BackendStorage;
use candle_core::op::Add as Sum;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

use crate::check;
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2};
use candle_vision_kernels::add as kernels;

/// `x + y` of equal shapes, as at the end of a residual block.
///
/// The values are the same as those of candle's sum. As an op of this crate, it keeps
/// [`backward`](crate::backward()) from falling back to candle's.
///
/// # Errors
/// If the shapes or number types differ, or the type is not a float type.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::add;
///
/// let (x, y) = (Tensor::new(&[1f32, 2.0], &Device::Cpu)?, Tensor::new(&[10f32, 20.0], &Device::Cpu)?);
/// assert_eq!(add(&x, &y)?.to_vec1::<f32>()?, [11.0, 22.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check_arguments(x, y)?;
    apply2(&x.contiguous()?, &y.contiguous()?, Add)
}

/// [`add`] of two gradients. The result is not on the tape.
pub(crate) fn add_gradients(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check_arguments(x, y)?;
    x.contiguous()?.apply_op2_no_bwd(&y.contiguous()?, &Add)
}

fn check_arguments(x: &Tensor, y: &Tensor) -> Result<()> {
    check::float("add", x)?;
    check::matches("add", "y", y, x.dims(), x)
}

struct Add;

impl Footprint for Add {
    fn passes_on(&self, _argument: usize) -> bool {
        true
    }
}

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if matches!(x.dtype(), DType::BF16 | DType::F16) {
            let sum = x.binary_impl::<Sum>(y, x_layout, y_layout)?;
            return Ok((sum, x_layout.shape().clone()));
        }
        with_float!("add", x, T => {
            let sum = kernels::add::<T>(elements(x, x_layout)?, elements(y, y_layout)?);
            Ok(stored(sum, x_layout.shape()))
        })
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sum = x.binary_impl::<Sum>(y, x_layout, y_layout)?;
        Ok((sum, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _sum: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of = |argument: &Tensor| argument.track_op().then(|| gradient.clone());
        Ok((of(x), of(y)))
    }
}
