//! Pooling over the same windows as on the CPU.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::{CudaDevice, CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_packs};
use super::state;
use candle_vision_kernels::pool::{AxisWindows, Windows};

/// The position of each maximum within its window.
pub(crate) type Positions = CudaSlice<u16>;

/// The windows on the device. There are three numbers for each output position of an axis, then two for
/// each input position.
struct Tables {
    rows: std::sync::Arc<CudaSlice<i32>>,
    columns: std::sync::Arc<CudaSlice<i32>>,
    sizes: [u32; 4],
}

impl Tables {
    fn new(device: &CudaDevice, windows: &Windows) -> Result<Self> {
        let state = state::of(device)?;
        let Windows { rows, columns } = windows;
        let sizes = [rows.input(), columns.input(), rows.output(), columns.output()];
        Ok(Self {
            rows: state.table(device, numbers(rows))?,
            columns: state.table(device, numbers(columns))?,
            sizes: sizes.map(|size| size as u32),
        })
    }

    /// The windows of the rows and of the columns.
    fn windows(&self) -> [CudaView<'_, i32>; 2] {
        let [_, _, rows, columns] = self.sizes.map(|size| 3 * size as usize);
        [self.rows.slice(..rows), self.columns.slice(..columns)]
    }

    /// For the rows and for the columns of the input, the windows that hold them.
    fn holders(&self) -> [CudaView<'_, i32>; 2] {
        let [_, _, rows, columns] = self.sizes.map(|size| 3 * size as usize);
        [self.rows.slice(rows..), self.columns.slice(columns..)]
    }
}

fn numbers(axis: &AxisWindows) -> Vec<i32> {
    let windows = axis.windows.iter().flat_map(|window| [window.start, window.end, window.count]);
    let holders = axis.holders.iter().flat_map(|holders| [holders.start, holders.end]);
    windows.chain(holders).map(|number| number as i32).collect()
}

/// Batch, height, width and channels of the result of pooling `x` over `windows`.
fn output_dims(x: Array<'_>, windows: &Windows) -> (usize, usize, usize, usize) {
    (x.dims()[0], windows.rows.output(), windows.columns.output(), x.channels())
}

/// The largest element of every window.
pub(crate) fn max(x: Array<'_>, windows: &Windows) -> Result<(CudaStorage, Shape)> {
    run_max(x, windows, None)
}

/// The same, and the position of each maximum.
pub(crate) fn max_and_positions(
    x: Array<'_>,
    windows: &Windows,
) -> Result<((CudaStorage, Shape), Positions)> {
    let (batch, height, width, channels) = output_dims(x, windows);
    // SAFETY: the kernel writes one position for each output before a gradient reads it.
    let positions =
        unsafe { x.device().cuda_stream().alloc::<u16>(batch * height * width * channels) }.w()?;
    let y = run_max(x, windows, Some(positions.slice(..)))?;
    Ok((y, positions))
}

fn run_max(
    x: Array<'_>,
    windows: &Windows,
    positions: Option<CudaView<'_, u16>>,
) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let dims = output_dims(x, windows);
    let n = dims.0 * dims.1 * dims.2 * dims.3;
    let tables = Tables::new(device, windows)?;
    let ([rows, columns], [in_h, in_w, out_h, out_w]) = (tables.windows(), tables.sizes);
    with_element!("max_pool2d", x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let (x, channels) = (x.view::<T>()?, dims.3 as u32);
        let function = device_function::<T>(device, Source::Pool, "max_pool")?;
        let config = over_packs::<T>(n);
        // SAFETY: y and positions have n elements, and the windows lie inside the input.
        unsafe {
            launch!(
                function, config, &n, &channels, &in_h, &in_w, &out_h, &out_w, &rows, &columns, &x,
                &mut y, &positions
            )
        }
        Ok(stored(y, device, dims))
    })
}

/// The gradient of the input of a max pool.
pub(crate) fn max_gradient(
    grad: Array<'_>,
    positions: &Positions,
    windows: &Windows,
) -> Result<(CudaStorage, Shape)> {
    let device = grad.device();
    let (batch, channels) = (grad.dims()[0], grad.channels());
    let n = batch * windows.image_len(channels);
    let tables = Tables::new(device, windows)?;
    let [in_h, in_w, out_h, out_w] = tables.sizes;
    let ([rows, columns], [row_holders, column_holders]) = (tables.windows(), tables.holders());
    with_element!("max_pool2d", grad.storage, T => {
        let mut dx = unwritten::<T>(device, n)?;
        let (grad, channels) = (grad.view::<T>()?, channels as u32);
        let function = device_function::<T>(device, Source::Pool, "max_pool_gradient")?;
        let config = over_packs::<T>(n);
        // SAFETY: dx has n elements; the holders name outputs, for each of which there is a gradient
        // and a position.
        unsafe {
            launch!(
                function, config, &n, &channels, &in_h, &in_w, &out_h, &out_w, &rows, &columns,
                &row_holders, &column_holders, &grad, positions, &mut dx
            )
        }
        Ok(stored(dx, device, (batch, windows.rows.input(), windows.columns.input(), channels as usize)))
    })
}

/// The mean of every window.
pub(crate) fn average(name: &str, x: Array<'_>, windows: &Windows) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let dims = output_dims(x, windows);
    let n = dims.0 * dims.1 * dims.2 * dims.3;
    let tables = Tables::new(device, windows)?;
    let ([rows, columns], [in_h, in_w, out_h, out_w]) = (tables.windows(), tables.sizes);
    with_element!(name, x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let (x, channels) = (x.view::<T>()?, dims.3 as u32);
        let function = device_function::<T>(device, Source::Pool, "avg_pool")?;
        let config = over_packs::<T>(n);
        // SAFETY: y has n elements, and the windows lie inside the input.
        unsafe {
            launch!(
                function, config, &n, &channels, &in_h, &in_w, &out_h, &out_w, &rows, &columns, &x,
                &mut y
            )
        }
        Ok(stored(y, device, dims))
    })
}

/// The gradient of the input of an average pool.
pub(crate) fn average_gradient(
    name: &str,
    grad: Array<'_>,
    windows: &Windows,
) -> Result<(CudaStorage, Shape)> {
    let device = grad.device();
    let (batch, channels) = (grad.dims()[0], grad.channels());
    let n = batch * windows.image_len(channels);
    let tables = Tables::new(device, windows)?;
    let [in_h, in_w, out_h, out_w] = tables.sizes;
    let ([rows, columns], [row_holders, column_holders]) = (tables.windows(), tables.holders());
    with_element!(name, grad.storage, T => {
        let mut dx = unwritten::<T>(device, n)?;
        let (grad, channels) = (grad.view::<T>()?, channels as u32);
        let function = device_function::<T>(device, Source::Pool, "avg_pool_gradient")?;
        let config = over_packs::<T>(n);
        // SAFETY: dx has n elements; the holders name outputs, for each of which there is a gradient.
        unsafe {
            launch!(
                function, config, &n, &channels, &in_h, &in_w, &out_h, &out_w, &rows, &columns,
                &row_holders, &column_holders, &grad, &mut dx
            )
        }
        Ok(stored(dx, device, (batch, windows.rows.input(), windows.columns.input(), channels as usize)))
    })
}
