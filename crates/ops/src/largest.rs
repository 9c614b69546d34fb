//! The place of the largest element of each row, without a copy to the host.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use candle_vision_kernels::float::Float;

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};

/// 1 at the largest element of each row, the first of equal ones, and 0 elsewhere. The result is not on the tape.
///
/// # Shapes
/// - `x`: any rank from 1, of any float type; its rows lie along the last dimension
/// - returns a tensor of the shape and number type of `x`; a row without finite elements may be 0 everywhere
///
/// # Errors
/// If `x` is a scalar, its last dimension is empty, or it is not of a float type.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::one_hot_largest;
///
/// let logits = Tensor::new(&[[0f32, 2.0, 2.0], [3.0, -1.0, 1.0]], &Device::Cpu)?;
/// let classes = one_hot_largest(&logits)?;
/// assert_eq!(classes.to_vec2::<f32>()?, [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn one_hot_largest(x: &Tensor) -> Result<Tensor> {
    check::float(NAME, x)?;
    if matches!(x.dims().last(), None | Some(0)) {
        bail!("{NAME}: expected [..., classes], got {:?}", x.dims())
    }
    if is_emulated(x) {
        return one_hot_largest(&widened(x)?)?.to_dtype(x.dtype());
    }
    x.detach().contiguous()?.apply_op1_no_bwd(&OneHotLargest)
}

const NAME: &str = "one_hot_largest";

struct OneHotLargest;

impl CustomOp1 for OneHotLargest {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let columns = layout.dims().last().copied().unwrap_or(1);
        with_float!(NAME, x, T => {
            Ok(stored(one_hot::<T>(elements(x, layout)?, columns), layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::one_hot_largest(Array::new(x, layout))
    }
}

fn one_hot<T: Float>(x: &[T], columns: usize) -> Vec<T> {
    let mut y = vec![T::narrow(0.0); x.len()];
    for (row, y) in x.chunks(columns).zip(y.chunks_mut(columns)) {
        let larger = |best, i| if row[i] > row[best] { i } else { best };
        y[(1..columns).fold(0, larger)] = T::narrow(1.0);
    }
    y
}
