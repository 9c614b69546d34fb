//! Copies and transposes.

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, LaunchConfig};
use candle_core::{CudaDevice, CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::{Element, with_element};
use super::function::{Source, device_function, launch};
use super::size::count;

/// Side of the tiles that a block transposes.
const TILE: usize = 32;

/// Transposes `[batch, rows, columns]` to `[batch, columns, rows]`. The result has the shape `shape`.
pub(crate) fn transpose(
    x: Array<'_>,
    [batch, rows, columns]: [usize; 3],
    shape: impl Into<Shape>,
) -> Result<(CudaStorage, Shape)> {
    with_element!("transpose", x.storage, T => {
        let y = transposed(x.device(), &x.view::<T>()?, [batch, rows, columns])?;
        Ok(stored(y, x.device(), shape))
    })
}

/// The same on views.
pub(super) fn transposed<T: Element>(
    device: &CudaDevice,
    x: &CudaView<'_, T>,
    [batch, rows, columns]: [usize; 3],
) -> Result<CudaSlice<T>> {
    let mut y = unwritten::<T>(device, x.len())?;
    let function = device_function::<T>(device, Source::Layout, "transpose")?;
    let config = LaunchConfig {
        grid_dim: (
            columns.div_ceil(TILE) as u32,
            rows.div_ceil(TILE).min(65_535) as u32,
            batch.min(65_535) as u32,
        ),
        block_dim: (TILE as u32, 8, 1),
        shared_mem_bytes: 0,
    };
    let batch = count("matrices to transpose", batch)?;
    let rows = count("rows to transpose", rows)?;
    let columns = count("columns to transpose", columns)?;
    // SAFETY: both arrays have batch * rows * columns elements.
    unsafe { launch!(function, config, &batch, &rows, &columns, x, &mut y) }
    Ok(y)
}

/// A copy.
pub(crate) fn copied(x: Array<'_>) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    with_element!("copy", x.storage, T => {
        let mut y = unwritten::<T>(device, x.len())?;
        device.memcpy_dtod(&x.view::<T>()?, &mut y)?;
        Ok(stored(y, device, x.dims()))
    })
}
