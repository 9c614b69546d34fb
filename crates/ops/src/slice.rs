//! Parts of a tensor along one axis.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};
use candle_vision_kernels::rearrange::Places;

use crate::rearrange::along;

/// The part of `x` at the positions `range` of one axis.
///
/// # Shapes
/// - `x`: any, of any float type
/// - returns the same shape with `range.len()` along `axis`, contiguous
///
/// # Errors
/// If there is no such axis, or the range is empty or ends outside of it.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::slice;
///
/// let x = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu)?;
/// assert_eq!(slice(&x, 1, 1..3)?.to_vec2::<f32>()?, [[2.0, 3.0], [5.0, 6.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn slice(x: &Tensor, axis: usize, range: Range<usize>) -> Result<Tensor> {
    let Some(&size) = x.dims().get(axis) else {
        bail!("slice: there is no axis {axis} in {:?}", x.dims())
    };
    if range.start >= range.end || range.end > size {
        bail!("slice: {range:?} is no part of axis {axis} of {:?}", x.dims())
    }
    along("slice", x, [(axis, Places::range(size, range))], 0.0)
}

/// Splits `x` along `axis` into parts of the given sizes, as PyTorch's `split` does. The sizes must add up
/// to the size of the axis.
///
/// # Errors
/// If there is no such axis, a size is 0, or the sizes do not add up.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::split;
///
/// let x = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
/// let parts = split(&x, 0, &[2, 1])?;
/// assert_eq!(parts[1].to_vec1::<f32>()?, [3.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn split(x: &Tensor, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor>> {
    let total = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
    if total.is_none() || x.dims().get(axis).copied() != total {
        bail!("split: parts of {sizes:?} do not make up axis {axis} of {:?}", x.dims())
    }
    let mut start = 0;
    let part = |&size: &usize| {
        start += size;
        slice(x, axis, start - size..start)
    };
    sizes.iter().map(part).collect()
}
