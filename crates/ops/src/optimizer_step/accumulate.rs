//! Sums of the gradients of several batches, in place.

#[cfg(feature = "cuda")]
use candle_core::Device;
use candle_core::{DType, Result, Tensor, Var, bail};

use super::one_device;
use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda;

/// Adds each gradient to the sum of those before it, which is first multiplied by the number `kept`: 1 as a rule. With 0 the
/// gradient takes the place of the sum, whatever that is.
///
/// A CUDA device reads the number when it adds, so this can be captured, and the number may be another in each launch.
///
/// # Shapes
/// - each pair: two tensors of one shape and number type, `f32` or `f64`
/// - `kept`: `[1]` of `f32`
///
/// # Errors
/// If shapes, number types or devices differ, or a sum is not contiguous.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use candle_vision_ops::accumulate;
///
/// let sum = Var::new(&[f32::NAN, 5.0], &Device::Cpu)?;
/// let grad = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// for kept in [0f32, 1.0, 0.5] {
///     accumulate(&[(&sum, &grad)], &Tensor::new(&[kept], &Device::Cpu)?)?;
/// }
/// assert_eq!(sum.to_vec1::<f32>()?, [2.0, 4.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn accumulate(sums: &[(&Var, &Tensor)], kept: &Tensor) -> Result<()> {
    for (sum, grad) in sums {
        check::full_float(NAME, sum)?;
        check::matches(NAME, "a gradient", grad, sum.dims(), sum)?;
    }
    if (kept.dtype(), kept.dims()) != (DType::F32, &[1]) {
        let (dtype, dims) = (kept.dtype(), kept.dims());
        bail!("{NAME}: what is kept is [1] of F32, got {dims:?} of {dtype:?}")
    }
    let tensors = sums.iter().flat_map(|(sum, grad)| [sum.as_tensor(), *grad]);
    match one_device(NAME, tensors.chain([kept]))? {
        #[cfg(feature = "cuda")]
        Some(Device::Cuda(device)) if sums.iter().all(|(sum, _)| sum.dtype() == DType::F32) => {
            let sums: Vec<_> = sums.iter().map(|(sum, grad)| (sum.as_tensor(), *grad)).collect();
            cuda::optimizer_step::accumulate(device, &sums, kept)
        }
        _ => composed(sums, f64::from(kept.get(0)?.to_scalar::<f32>()?)),
    }
}

/// The same made of tensor operations.
fn composed(sums: &[(&Var, &Tensor)], kept: f64) -> Result<()> {
    for (sum, grad) in sums {
        let grad = grad.detach();
        let new = match kept {
            0.0 => grad,
            1.0 => (sum.as_detached_tensor() + grad)?,
            kept => ((sum.as_detached_tensor() * kept)? + grad)?,
        };
        sum.set(&new)?;
    }
    Ok(())
}

const NAME: &str = "accumulate";
