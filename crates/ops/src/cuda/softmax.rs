//! Softmax, its logarithm and the largest element, row by row.

use candle_core::{CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_rows};

/// The softmax of every row, or its logarithm.
pub(crate) fn softmax(x: Array<'_>, logarithm: bool) -> Result<(CudaStorage, Shape)> {
    let (device, n) = (x.device(), x.len());
    let (rows, columns) = (n / x.channels(), x.channels() as u32);
    with_element!("softmax", x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let x_in = x.view::<T>()?;
        if n > 0 {
            let function = device_function::<T>(device, Source::Softmax, "softmax")?;
            let (config, rows, logarithm) = (over_rows(rows), rows as u32, i32::from(logarithm));
            // SAFETY: x and y have rows * columns elements.
            unsafe { launch!(function, config, &rows, &columns, &logarithm, &x_in, &mut y) }
        }
        Ok(stored(y, device, x.dims()))
    })
}

/// The gradient of the input from the output `y` and its gradient.
pub(crate) fn softmax_gradient(
    y: Array<'_>,
    grad: Array<'_>,
    logarithm: bool,
) -> Result<(CudaStorage, Shape)> {
    let (device, n) = (y.device(), y.len());
    let (rows, columns) = (n / y.channels(), y.channels() as u32);
    with_element!("softmax", y.storage, T => {
        let mut dx = unwritten::<T>(device, n)?;
        let (y_in, grad) = (y.view::<T>()?, grad.view::<T>()?);
        if n > 0 {
            let function = device_function::<T>(device, Source::Softmax, "softmax_gradient")?;
            let (config, rows, logarithm) = (over_rows(rows), rows as u32, i32::from(logarithm));
            // SAFETY: all arrays have rows * columns elements.
            unsafe { launch!(function, config, &rows, &columns, &logarithm, &y_in, &grad, &mut dx) }
        }
        Ok(stored(dx, device, y.dims()))
    })
}

/// 1 at the first of the largest elements of every row, and 0 elsewhere.
pub(crate) fn one_hot_largest(x: Array<'_>) -> Result<(CudaStorage, Shape)> {
    let (device, n) = (x.device(), x.len());
    let (rows, columns) = (n / x.channels(), x.channels() as u32);
    with_element!("one_hot_largest", x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let x_in = x.view::<T>()?;
        if n > 0 {
            let function = device_function::<T>(device, Source::Softmax, "one_hot_largest")?;
            let (config, rows) = (over_rows(rows), rows as u32);
            // SAFETY: x and y have rows * columns elements.
            unsafe { launch!(function, config, &rows, &columns, &x_in, &mut y) }
        }
        Ok(stored(y, device, x.dims()))
    })
}
