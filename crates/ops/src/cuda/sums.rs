//! Sums over the rows of a matrix, and over everything. Each in two stages whose shape depends on the
//! sizes alone, so that the bits are the same every time.

use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::kernel::{ONE_BLOCK, Source, kernel, launch, over_columns, over_elements};

/// The sum of every column, `[channels]`.
pub(crate) fn sum_columns(x: Array<'_>) -> Result<(CudaStorage, Shape)> {
    let (device, channels) = (x.device(), x.channels());
    let rows = x.len() / channels;
    let (config, chunks) = over_columns(rows, channels);
    with_element!("sum of columns", x.storage, T => {
        let mut partial = unwritten::<f32>(device, chunks * channels)?;
        let mut sums = unwritten::<T>(device, channels)?;
        let x = x.view::<T>()?;
        let (columns, chunk_count) = (channels as u32, chunks as u32);
        let function = kernel::<T>(device, Source::Sums, "column_sums")?;
        // SAFETY: x has rows * channels elements, partial a row of channels for each chunk.
        unsafe { launch!(function, config, &rows, &columns, &x, &mut partial) }
        let function = kernel::<T>(device, Source::Sums, "column_sums_finish")?;
        let config = over_elements(4 * channels);
        // SAFETY: partial as above, sums has one element for each channel.
        unsafe { launch!(function, config, &chunk_count, &columns, &partial, &mut sums) }
        Ok(stored(sums, device, channels))
    })
}

/// The sum of the squares of the elements of all `tensors`, which are `f32`. Waits for the device.
pub(crate) fn sums_of_squares(tensors: &[Array<'_>]) -> Result<f64> {
    let Some(first) = tensors.first() else { return Ok(0.0) };
    let device = first.device();
    let mut sums = device.alloc_zeros::<f64>(tensors.len())?;
    for (i, x) in tensors.iter().enumerate() {
        let (n, x) = (x.len(), x.view::<f32>()?);
        let config = over_elements(n);
        let blocks = config.grid_dim.0;
        let stream = device.cuda_stream();
        // SAFETY: the first kernel writes every block's sum before the second reads it.
        let mut partial = unsafe { stream.alloc::<f64>(blocks as usize) }.w()?;
        let function = kernel::<f32>(device, Source::Sums, "squares")?;
        // SAFETY: x has n elements, partial one for each block.
        unsafe { launch!(function, config, &n, &x, &mut partial) }
        let function = kernel::<f32>(device, Source::Sums, "squares_finish")?;
        let mut sum = sums.slice_mut(i..=i);
        // SAFETY: partial has `blocks` elements, sum one.
        unsafe { launch!(function, ONE_BLOCK, &blocks, &partial, &mut sum) }
    }
    Ok(device.clone_dtoh(&sums)?.into_iter().sum())
}
