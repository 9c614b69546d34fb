//! Sums and means over axes.

use candle_core::{Result, Tensor, bail};
use candle_vision_kernels::rearrange::Places;

use crate::rearrange::along;
use crate::{reshape, scale};

/// The mean over `axes`. If `keep_dims`, these axes stay with size 1. On the CPU the sums are taken in
/// `f64`.
///
/// # Shapes
/// - `x`: any, of any float type
/// - returns the shape of `x` with a size of 1 along `axes`, or without them
///
/// # Errors
/// If there is no such axis, one is named twice or is empty, or `x` is not of a float type.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::mean;
///
/// let x = Tensor::new(&[[1f32, 2.0, 3.0], [5.0, 6.0, 7.0]], &Device::Cpu)?;
/// assert_eq!(mean(&x, &[0], false)?.to_vec1::<f32>()?, [3.0, 4.0, 5.0]);
/// assert_eq!(mean(&x, &[0, 1], true)?.dims(), [1, 1]);
/// # candle_core::Result::Ok(())
/// ```
pub fn mean(x: &Tensor, axes: &[usize], keep_dims: bool) -> Result<Tensor> {
    let sums = sums("mean", x, axes)?;
    let count: usize = axes.iter().map(|&axis| x.dims()[axis]).product();
    let mean = if axes.is_empty() { sums } else { scale(&sums, 1.0 / count as f64)? };
    without(mean, axes, keep_dims)
}

/// The sum over `axes`. If `keep_dims`, these axes stay with size 1. On the CPU the sums are taken in `f64`.
///
/// Shapes and errors are those of [`mean`].
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::sum;
///
/// let x = Tensor::new(&[[1f32, 2.0, 3.0], [5.0, 6.0, 7.0]], &Device::Cpu)?;
/// assert_eq!(sum(&x, &[1], false)?.to_vec1::<f32>()?, [6.0, 18.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn sum(x: &Tensor, axes: &[usize], keep_dims: bool) -> Result<Tensor> {
    without(sums("sum", x, axes)?, axes, keep_dims)
}

/// The sums, with a size of 1 along `axes`.
fn sums(name: &'static str, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let dims = x.dims();
    for (i, axis) in axes.iter().enumerate() {
        if dims.get(*axis).is_none_or(|&size| size == 0) || axes[..i].contains(axis) {
            bail!("{name}: axes {axes:?} are not different axes with elements of {dims:?}")
        }
    }
    if axes.is_empty() {
        return Ok(x.clone());
    }
    let sums = axes.iter().map(|&axis| (axis, Places::Sum { inputs: dims[axis] }));
    along(name, x, sums, 0.0)
}

fn without(x: Tensor, axes: &[usize], keep_dims: bool) -> Result<Tensor> {
    if keep_dims || axes.is_empty() {
        return Ok(x);
    }
    let left = (0..x.rank()).filter(|axis| !axes.contains(axis)).map(|axis| x.dims()[axis]);
    reshape(&x, left.collect::<Vec<_>>())
}
