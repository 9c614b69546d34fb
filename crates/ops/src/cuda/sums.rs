//! Sums over the rows of a matrix. Their form depends only on the sizes, so the bits are the same every time.

use candle_core::{CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, sum_blocks};
use super::state;

/// The sum of every column, `[channels]`.
pub(crate) fn sum_columns(x: Array<'_>) -> Result<(CudaStorage, Shape)> {
    let (device, channels) = (x.device(), x.channels());
    let (rows, columns) = (x.len() / channels, channels as u32);
    let state = state::of(device)?;
    with_element!("sum of columns", x.storage, T => {
        let (config, chunks) = sum_blocks::<T>(rows, channels);
        let mut partial = unwritten::<f32>(device, chunks * channels)?;
        let mut sums = unwritten::<T>(device, channels)?;
        let x = x.view::<T>()?;
        let function = device_function::<T>(device, Source::Sums, "column_sums")?;
        // SAFETY: x has rows * channels elements, partial a row of channels for each chunk, sums one element for each
        // channel, and there is a number of ended blocks for each column of them.
        unsafe {
            launch!(
                function, config, &rows, &columns, &x, &mut partial, &state.ended_blocks, &mut sums
            )
        }
        Ok(stored(sums, device, channels))
    })
}
