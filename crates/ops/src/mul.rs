//! Products of two tensors element by element, on the tape.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use candle_vision_kernels::mul::{self as kernels, Broadcast};
use candle_vision_kernels::rearrange::Places;

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::rearrange::gradient_along;
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply2};

/// `x * y` with NumPy's broadcasting. Shapes are aligned at their last axes. An axis that is missing or has
/// size 1 is repeated. So maps `[batch, height, width, channels]` take factors `[channels]`,
/// `[batch, 1, 1, channels]`, `[batch, height, width, 1]` and `[]`.
///
/// # Errors
/// If sizes differ and neither is 1, an input is empty, or the number types differ or are not float types.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::mul;
///
/// let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[10f32, 0.5], &Device::Cpu)?;
/// assert_eq!(mul(&x, &y)?.to_vec2::<f32>()?, [[10.0, 1.0], [30.0, 2.0]]);
/// # candle_core::Result::Ok(())
/// ```
pub fn mul(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check::float(NAME, x)?;
    check::float(NAME, y)?;
    if x.dtype() != y.dtype() {
        bail!("{NAME}: x is {:?}, y is {:?}", x.dtype(), y.dtype())
    }
    let dims = broadcast(NAME, x.dims(), y.dims())?;
    if is_emulated(x) {
        return mul(&widened(x)?, &widened(y)?)?.to_dtype(x.dtype());
    }
    apply2(&x.contiguous()?, &y.contiguous()?, Mul { dims })
}

/// The shape that both are broadcast to.
pub(crate) fn broadcast(name: &str, x: &[usize], y: &[usize]) -> Result<Vec<usize>> {
    let rank = x.len().max(y.len());
    let size = |dims: &[usize], axis: usize| -> usize {
        (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis])
    };
    let sizes = (0..rank).map(|axis| match (size(x, axis), size(y, axis)) {
        (0, _) | (_, 0) => None,
        (size, other) if size == other || other == 1 => Some(size),
        (1, other) => Some(other),
        _ => None,
    });
    match sizes.collect::<Option<Vec<_>>>() {
        Some(dims) if dims.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).is_some() => {
            Ok(dims)
        }
        _ => bail!("{name}: shapes {x:?} and {y:?} cannot be broadcast together"),
    }
}

/// The gradient of an argument of shape `dims` that was broadcast, from the gradient of the result.
pub(crate) fn summed_to(name: &'static str, gradient: &Tensor, dims: &[usize]) -> Result<Tensor> {
    if gradient.dims() == dims {
        return Ok(gradient.clone());
    }
    let missing = gradient.rank() - dims.len();
    let repeated = |axis: &usize| {
        let before = axis.checked_sub(missing).map_or(1, |axis| dims[axis]);
        before == 1 && gradient.dims()[*axis] != 1
    };
    let sums = (0..gradient.rank()).filter(repeated);
    let sums = sums.map(|axis| (axis, Places::Sum { inputs: gradient.dims()[axis] }));
    gradient_along(name, gradient, sums)?.reshape(dims)
}

const NAME: &str = "mul";

struct Mul {
    dims: Vec<usize>,
}

impl Mul {
    fn strides(&self, x: &Layout, y: &Layout) -> Result<[Broadcast; 2]> {
        match (Broadcast::new(x.dims(), &self.dims), Broadcast::new(y.dims(), &self.dims)) {
            (Some(of_x), Some(of_y)) => Ok([of_x, of_y]),
            _ => bail!("{NAME}: {:?} and {:?} do not make {:?}", x.dims(), y.dims(), self.dims),
        }
    }

    /// The gradient of one factor, from the other factor.
    fn of(&self, factor: &Tensor, other: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        if !factor.track_op() {
            return Ok(None);
        }
        let gradient = gradient.contiguous()?;
        if let (Some(dims), true) =
            (summed_axes(factor.dims(), &self.dims), other.dims() == self.dims)
        {
            // One pass over both, without the product in memory.
            if gradient.device().is_cpu() {
                let sums = gradient.apply_op2_no_bwd(other, &SumOfProducts(dims))?;
                return sums.reshape(factor.dims()).map(Some);
            }
        }
        let whole = gradient.apply_op2_no_bwd(other, self)?;
        summed_to(NAME, &whole, factor.dims()).map(Some)
    }
}

/// `to` as `[outer, repeated, inner]`, if a factor of shape `from` is repeated along neighbouring axes only.
fn summed_axes(from: &[usize], to: &[usize]) -> Option<[usize; 3]> {
    let missing = to.len() - from.len();
    let is_repeated =
        |axis: usize| to[axis] != 1 && (axis < missing || from[axis - missing] != to[axis]);
    let first = (0..to.len()).find(|&axis| is_repeated(axis))?;
    let last = (0..to.len()).rfind(|&axis| is_repeated(axis))?;
    if (first..last).any(|axis| to[axis] != 1 && !is_repeated(axis)) {
        return None;
    }
    let size = |axes: &[usize]| axes.iter().product();
    Some([size(&to[..first]), size(&to[first..=last]), size(&to[last + 1..])])
}

/// The sum of a product over the middle axis. It runs on the CPU only.
struct SumOfProducts([usize; 3]);

impl CustomOp2 for SumOfProducts {
    fn name(&self) -> &'static str {
        "mul-sum"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [outer, _, inner] = self.0;
        with_float!(NAME, x, T => {
            let (x, y) = (elements::<T>(x, x_layout)?, elements(y, y_layout)?);
            Ok(stored(kernels::sum_of_products(x, y, self.0), (outer, inner)))
        })
    }
}

impl Footprint for Mul {}

impl CustomOp2 for Mul {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let [of_x, of_y] = self.strides(x_layout, y_layout)?;
        with_float!(NAME, x, T => {
            let (x, y) = (elements::<T>(x, x_layout)?, elements(y, y_layout)?);
            Ok(stored(kernels::mul(x, &of_x, y, &of_y, &self.dims), self.dims.as_slice()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let strides = self.strides(x_layout, y_layout)?;
        let (x, y) = (Array::new(x, x_layout), Array::new(y, y_layout));
        cuda::mul(x, y, &strides, &self.dims)
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _product: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.of(x, y, gradient)?, self.of(y, x, gradient)?))
    }
}

#[cfg(test)]
mod tests {
    use super::summed_axes;

    #[test]
    fn axes_beside_each_other_are_summed_at_once() {
        let maps = [16, 7, 7, 32];
        assert_eq!(summed_axes(&[16, 1, 1, 32], &maps), Some([16, 49, 32]));
        assert_eq!(summed_axes(&[32], &maps), Some([1, 16 * 49, 32]));
        assert_eq!(summed_axes(&[], &maps), Some([1, 16 * 49 * 32, 1]));
        assert_eq!(summed_axes(&[16, 7, 7, 1], &maps), Some([16 * 49, 32, 1]));
        assert_eq!(summed_axes(&[16, 1, 7, 1], &maps), None);
        assert_eq!(summed_axes(&maps, &maps), None);
        assert_eq!(summed_axes(&[1, 32], &[1, 32]), None);
    }
}
