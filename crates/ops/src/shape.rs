//! Changes of shape and of the order of axes.

use candle_core::shape::ShapeWithOneHole;
use candle_core::{Result, Tensor, bail};
use candle_vision_kernels::rearrange::Places;

use crate::check;
use crate::rearrange::{anchored, rearranged};
use crate::tape::note;

/// The same elements in another shape. One size may be `()`, which is computed from the others. Nothing is
/// copied if the elements are already in order.
///
/// # Errors
/// If the new shape has another number of elements, or `x` is not of a float type.
///
/// # Example
/// ```
/// use candle_core::{Device, Var};
/// use candle_vision_ops::{is_direct, relu, reshape};
///
/// let x = Var::new(&[1f32, 2.0, 3.0, 4.0], &Device::Cpu)?;
/// let y = reshape(&relu(&x)?, (2, 2))?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.0, 2.0], [3.0, 4.0]]);
/// assert!(is_direct(&y));
/// # candle_core::Result::Ok(())
/// ```
pub fn reshape(x: &Tensor, shape: impl ShapeWithOneHole) -> Result<Tensor> {
    check::float("reshape", x)?;
    let Ok(shape) = shape.into_shape(x.elem_count()) else {
        bail!("reshape: the new shape does not have the elements of {:?}", x.dims())
    };
    if shape.elem_count() != x.elem_count() {
        bail!("reshape: {:?} does not have the elements of {:?}", shape.dims(), x.dims())
    }
    if shape.dims() == x.dims() {
        return Ok(x.clone());
    }
    let x = anchored(&x.contiguous()?)?;
    let result = x.reshape(shape)?;
    let before = x.shape().clone();
    note(&result, &[&x], move |gradient| Ok(vec![Some(gradient.reshape(before.clone())?)]));
    Ok(result)
}

/// Reorders the axes: axis `i` of the result is axis `order[i]` of `x`. The result is contiguous, so the
/// next op can use it directly.
///
/// # Errors
/// If `order` does not name each axis once, or `x` is not of a float type.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::permute;
///
/// let x = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu)?;
/// assert_eq!(permute(&x, &[1, 0])?.to_vec2::<f32>()?, [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn permute(x: &Tensor, order: &[usize]) -> Result<Tensor> {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if sorted.iter().ne((0..x.rank()).collect::<Vec<_>>().iter()) {
        bail!("permute: {order:?} does not name each axis of {:?} once", x.dims())
    }
    let places = order.iter().map(|&axis| Places::all(x.dims()[axis])).collect();
    rearranged("permute", x, places, order, 0.0)
}

/// Exchanges two axes, see [`permute`].
///
/// # Errors
/// If there is no such axis, or `x` is not of a float type.
pub fn transpose(x: &Tensor, first: usize, second: usize) -> Result<Tensor> {
    let rank = x.rank();
    if first.max(second) >= rank {
        bail!("transpose: there are no axes {first} and {second} in {:?}", x.dims())
    }
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(first, second);
    permute(x, &order)
}
