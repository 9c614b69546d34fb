//! Reads and changes a gradient during `backward`, as PyTorch's `Tensor.register_hook` does.
//!
//! candle drops the gradients of intermediate tensors during `backward`, so they are available only while
//! it runs.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};
use candle_vision_kernels::copied::copied;

/// Returns `x` with its values unchanged. Its gradient passes through `f` during `backward`.
///
/// `f` gets the gradient of the returned tensor, contiguous and summed over all its uses, once per
/// `backward`. It returns the gradient to pass on, or `None` to leave it unchanged. An error of `f` ends
/// `backward` with that error.
///
/// If `x` depends on no variable, there is no gradient. The result is then `x` itself, and `f` is never
/// called. Otherwise the values are copied, because candle ties a custom gradient to new storage.
///
/// # Errors
/// If `x` is not `f32` or `f64`. In `backward`, if `f` returns a gradient of another shape or type.
///
/// # Example
/// ```
/// use candle_core::{Device, Var};
///
/// let x = Var::new(&[1f32, 2.0], &Device::Cpu)?;
/// let y = candle_vision_ops::on_gradient(&x, |grad| Ok(Some(grad.affine(10.0, 0.0)?)))?;
/// let dx = y.sqr()?.sum_all()?.backward()?.remove(&x).unwrap();
/// assert_eq!(dx.to_vec1::<f32>()?, [20.0, 40.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn on_gradient(
    x: &Tensor,
    f: impl Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync + 'static,
) -> Result<Tensor> {
    check::float(NAME, x)?;
    if !x.track_op() {
        return Ok(x.clone());
    }
    if !is_emulated(x) {
        return apply1(&x.contiguous()?, OnGradient(f));
    }
    let dtype = x.dtype();
    let rounded = move |grad: &Tensor| match f(&grad.to_dtype(dtype)?)? {
        Some(changed) => widened(&changed).map(Some),
        None => Ok(None),
    };
    apply1(&widened(x)?.contiguous()?, OnGradient(rounded))?.to_dtype(dtype)
}

const NAME: &str = "on_gradient";

struct OnGradient<F>(F);

impl<F> Footprint for OnGradient<F> {}

impl<F> CustomOp1 for OnGradient<F>
where
    F: Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync,
{
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        with_float!(NAME, x, T => Ok(stored(copied::<T>(elements(x, layout)?), layout.shape())))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::copied(Array::new(x, layout))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let Some(changed) = (self.0)(&grad)? else {
            return Ok(Some(grad));
        };
        if changed.dims() != x.dims() || changed.dtype() != x.dtype() {
            bail!(
                "{NAME}: the closure returned a {:?} gradient of shape {:?} for a {:?} tensor of \
                 shape {:?}",
                changed.dtype(),
                changed.dims(),
                x.dtype(),
                x.dims()
            )
        }
        changed.contiguous().map(Some)
    }
}
