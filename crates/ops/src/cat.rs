//! Concatenation of tensors.

use candle_core::{Result, Tensor, bail};
use candle_vision_kernels::rearrange::Places;

use crate::check;
use crate::rearrange::{anchored, gradient_along};
use crate::tape::{is_anchored, note};

/// Concatenates `tensors` along `axis`.
///
/// # Shapes
/// - `tensors`: equal shapes except along `axis`, of one float type
/// - returns the same shape with the sum of the sizes along `axis`
///
/// # Errors
/// If there are none, there is no such axis, or a shape or number type differs.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::cat;
///
/// let x = Tensor::new(&[[1f32], [2.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[3f32, 4.0], [5.0, 6.0]], &Device::Cpu)?;
/// assert_eq!(cat(&[&x, &y], 1)?.to_vec2::<f32>()?, [[1.0, 3.0, 4.0], [2.0, 5.0, 6.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn cat<X: AsRef<Tensor>>(tensors: &[X], axis: usize) -> Result<Tensor> {
    let Some(first) = tensors.first().map(AsRef::as_ref) else { bail!("{NAME}: no tensors") };
    if axis >= first.rank() {
        bail!("{NAME}: there is no axis {axis} in {:?}", first.dims())
    }
    let mut expected = first.dims().to_vec();
    for (i, x) in tensors.iter().map(AsRef::as_ref).enumerate() {
        check::float(NAME, x)?;
        check::within_candle(NAME, &format!("tensor {i}"), x)?;
        if let (Some(to), Some(&size)) = (expected.get_mut(axis), x.dims().get(axis)) {
            *to = size;
        }
        check::matches(NAME, &format!("tensor {i}"), x, &expected, first)?;
    }
    if tensors.len() == 1 {
        return Ok(first.clone());
    }
    let mut tensors: Vec<Tensor> =
        tensors.iter().map(|x| x.as_ref().contiguous()).collect::<Result<_>>()?;
    // The tape needs one argument that an op of this crate made.
    if !tensors.iter().any(|x| x.track_op() && is_anchored(x))
        && let Some(variable) = tensors.iter_mut().find(|x| x.is_variable())
    {
        *variable = anchored(variable)?;
    }
    let result = Tensor::cat(&tensors, axis)?;
    let sizes: Vec<(usize, bool)> =
        tensors.iter().map(|x| (x.dims()[axis], x.track_op())).collect();
    let total = result.dims()[axis];
    let gradients = move |gradient: &Tensor| {
        let mut start = 0;
        let part = |&(size, wanted): &(usize, bool)| {
            start += size;
            let places = Places::range(total, start - size..start);
            wanted.then(|| gradient_along(NAME, gradient, [(axis, places)])).transpose()
        };
        sizes.iter().map(part).collect()
    };
    note(&result, &tensors.iter().collect::<Vec<_>>(), gradients);
    Ok(result)
}

const NAME: &str = "cat";
