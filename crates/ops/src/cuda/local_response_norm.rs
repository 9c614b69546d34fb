//! Local response normalisation along rows.

use candle_core::{CudaStorage, Result, Shape};
use candle_vision_kernels::local_response_norm::ResponseNorm;

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_threads};
use super::size::count;

const NAME: &str = "local_response_norm";

/// The constants as the kernels take them.
fn constants(norm: &ResponseNorm) -> Result<(i32, [f32; 3])> {
    let mean = norm.alpha / norm.size as f64;
    Ok((count("channels of a sum", norm.size)?, [mean, norm.beta, norm.k].map(|x| x as f32)))
}

/// `x / (k + alpha / size * sum(x^2))^beta`.
pub(crate) fn local_response_norm(
    x: Array<'_>,
    norm: &ResponseNorm,
) -> Result<(CudaStorage, Shape)> {
    let (device, n, channels) = (x.device(), x.len(), x.channels() as u32);
    let (size, [alpha, beta, k]) = constants(norm)?;
    with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let x_in = x.view::<T>()?;
        let function = device_function::<T>(device, Source::ResponseNorm, "response_norm")?;
        let config = over_threads(n);
        // SAFETY: x and y have n elements in rows of so many channels.
        unsafe { launch!(function, config, &n, &channels, &size, &alpha, &beta, &k, &x_in, &mut y) }
        Ok(stored(y, device, x.dims()))
    })
}

/// The gradient of the input.
pub(crate) fn local_response_norm_gradient(
    x: Array<'_>,
    grad: Array<'_>,
    norm: &ResponseNorm,
) -> Result<(CudaStorage, Shape)> {
    let (device, n, channels) = (x.device(), x.len(), x.channels() as u32);
    let (size, [alpha, beta, k]) = constants(norm)?;
    with_element!(NAME, x.storage, T => {
        let mut dx = unwritten::<T>(device, n)?;
        let (x_in, grad) = (x.view::<T>()?, grad.view::<T>()?);
        let name = "response_norm_gradient";
        let function = device_function::<T>(device, Source::ResponseNorm, name)?;
        let config = over_threads(n);
        // SAFETY: all arrays have n elements in rows of so many channels.
        unsafe {
            launch!(
                function, config, &n, &channels, &size, &alpha, &beta, &k, &x_in, &grad, &mut dx
            )
        }
        Ok(stored(dx, device, x.dims()))
    })
}
