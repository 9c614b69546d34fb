//! Applying a dropout mask.

use candle_core::{CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_packs};

/// `x * scale` where `keep` is not 0, otherwise 0.
pub(crate) fn keep(x: Array<'_>, keep: Array<'_>, scale: f64) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    with_element!("dropout", x.storage, T => {
        let (n, mut y) = (x.len(), unwritten::<T>(device, x.len())?);
        let function = device_function::<T>(device, Source::Elementwise, "dropout")?;
        let (x_in, keep, scale) = (x.view::<T>()?, keep.view::<u8>()?, scale as f32);
        // SAFETY: all arrays have n elements.
        unsafe { launch!(function, over_packs::<T>(n), &n, &x_in, &keep, &scale, &mut y) }
        Ok(stored(y, device, x.dims()))
    })
}
