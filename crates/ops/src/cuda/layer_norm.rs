//! Layer norm along rows. Parameters, statistics and sums are `f32` for any type of rows.

use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_rows, sum_blocks};
use super::state;

const NAME: &str = "layer_norm";

/// Mean and inverse standard deviation of every row.
pub(crate) type RowStatistics = CudaSlice<f32>;

/// `weight * (x - mean) / sqrt(variance + eps) + bias`, and the statistics.
pub(crate) fn layer_norm(
    x: Array<'_>,
    weight: Array<'_>,
    bias: Array<'_>,
    eps: f64,
) -> Result<((CudaStorage, Shape), RowStatistics)> {
    let (device, n, columns) = (x.device(), x.len(), x.channels());
    let rows = n / columns;
    let mut statistics = unwritten::<f32>(device, 2 * rows)?;
    let (weight, bias, eps) = (weight.view::<f32>()?, bias.view::<f32>()?, eps as f32);
    let (config, rows, columns) = (over_rows(rows), rows as u32, columns as u32);
    let y = with_element!(NAME, x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let x_in = x.view::<T>()?;
        let function = device_function::<T>(device, Source::LayerNorm, "layer_norm")?;
        // SAFETY: x and y have rows * columns elements, weight and bias one for each column, the
        // statistics two for each row.
        unsafe {
            launch!(
                function, config, &rows, &columns, &x_in, &weight, &bias, &eps, &mut statistics,
                &mut y
            )
        }
        Ok(stored(y, device, x.dims()))
    })?;
    Ok((y, statistics))
}

/// The gradient of the input.
pub(crate) fn layer_norm_input_gradient(
    x: Array<'_>,
    grad: Array<'_>,
    weight: Array<'_>,
    statistics: &RowStatistics,
) -> Result<(CudaStorage, Shape)> {
    let (device, n, columns) = (x.device(), x.len(), x.channels());
    let weight = weight.view::<f32>()?;
    let rows = n / columns;
    let (config, rows, columns) = (over_rows(rows), rows as u32, columns as u32);
    with_element!(NAME, x.storage, T => {
        let mut dx = unwritten::<T>(device, n)?;
        let (x_in, grad) = (x.view::<T>()?, grad.view::<T>()?);
        let function = device_function::<T>(device, Source::LayerNorm, "layer_norm_gradient")?;
        // SAFETY: as in `layer_norm`.
        unsafe {
            launch!(
                function, config, &rows, &columns, &x_in, &grad, &weight, statistics, &mut dx
            )
        }
        Ok(stored(dx, device, x.dims()))
    })
}

/// The gradients of weight and bias, `[2, features]` of `f32`.
pub(crate) fn layer_norm_parameter_gradients(
    x: Array<'_>,
    grad: Array<'_>,
    statistics: &RowStatistics,
) -> Result<(CudaStorage, Shape)> {
    let (device, features) = (x.device(), x.channels());
    let (rows, columns) = (x.len() / features, features as u32);
    let state = state::of(device)?;
    let mut sums = unwritten::<f32>(device, 2 * features)?;
    with_element!(NAME, x.storage, T => {
        let (config, chunks) = sum_blocks::<T>(rows, features);
        let mut partial = unwritten::<f32>(device, chunks * 2 * features)?;
        let (x, grad) = (x.view::<T>()?, grad.view::<T>()?);
        let function = device_function::<T>(device, Source::LayerNorm, "layer_norm_sums")?;
        // SAFETY: x and grad have rows * features elements, the statistics two for each row, partial two rows of
        // features for each chunk, sums two rows, and there is a number of ended blocks for each column of them.
        unsafe {
            launch!(
                function, config, &rows, &columns, &x, &grad, statistics, &mut partial,
                &state.ended_blocks, &mut sums
            )
        }
        Ok(())
    })?;
    Ok(stored(sums, device, (2, features)))
}
