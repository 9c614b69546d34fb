//! Sums over the rows of a matrix. They have two stages whose form depends only on the sizes, so the bits are the same
//! every time.

use candle_core::{CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_chunks_of, over_columns};

/// The sum of every column, `[channels]`.
pub(crate) fn sum_columns(x: Array<'_>) -> Result<(CudaStorage, Shape)> {
    let (device, channels) = (x.device(), x.channels());
    let rows = x.len() / channels;
    with_element!("sum of columns", x.storage, T => {
        let (config, chunks) = over_columns::<T>(rows, channels);
        let mut partial = unwritten::<f32>(device, chunks * channels)?;
        let mut sums = unwritten::<T>(device, channels)?;
        let x = x.view::<T>()?;
        let (columns, chunk_count) = (channels as u32, chunks as u32);
        let function = device_function::<T>(device, Source::Sums, "column_sums")?;
        // SAFETY: x has rows * channels elements, partial a row of channels for each chunk.
        unsafe { launch!(function, config, &rows, &columns, &x, &mut partial) }
        let function = device_function::<T>(device, Source::Sums, "column_sums_finish")?;
        let config = over_chunks_of(channels);
        // SAFETY: partial as above, sums has one element for each channel.
        unsafe { launch!(function, config, &chunk_count, &columns, &partial, &mut sums) }
        Ok(stored(sums, device, channels))
    })
}
