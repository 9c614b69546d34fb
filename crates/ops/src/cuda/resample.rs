//! Resizing as a sparse matrix along each axis.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, CudaStorage, Result, Shape};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{Source, device_function, launch, over_packs};
use super::state;
use candle_vision_kernels::resample::ResampleWeights;

/// [`ResampleWeights`] on the device: the start of each output's list, the input positions, and the bits of
/// their weights.
struct Table {
    starts: Arc<CudaSlice<i32>>,
    places: Arc<CudaSlice<i32>>,
    weights: Arc<CudaSlice<i32>>,
}

impl Table {
    fn new(device: &CudaDevice, table: &ResampleWeights) -> Result<Self> {
        let state = state::of(device)?;
        let numbers = |numbers: &[usize]| numbers.iter().map(|&number| number as i32).collect();
        let weights = table.weights.iter().map(|&weight| (weight as f32).to_bits() as i32);
        Ok(Self {
            starts: state.table(device, numbers(&table.starts))?,
            places: state.table(device, numbers(&table.places))?,
            weights: state.table(device, weights.collect())?,
        })
    }
}

/// Resamples images `[batch, height, width, channels]` along both axes.
pub(crate) fn resample(
    x: Array<'_>,
    rows: &ResampleWeights,
    columns: &ResampleWeights,
) -> Result<(CudaStorage, Shape)> {
    let device = x.device();
    let &[batch, in_height, in_width, channels] = x.dims() else {
        candle_core::bail!("interpolate: expected images, got {:?}", x.dims())
    };
    let dims = (batch, rows.outputs(), columns.outputs(), channels);
    let n = dims.0 * dims.1 * dims.2 * dims.3;
    let (rows, columns) = (Table::new(device, rows)?, Table::new(device, columns)?);
    let [in_h, in_w, out_h, out_w] = [in_height, in_width, dims.1, dims.2].map(|size| size as u32);
    with_element!("interpolate", x.storage, T => {
        let mut y = unwritten::<T>(device, n)?;
        let (x, channels) = (x.view::<T>()?, channels as u32);
        let function = device_function::<T>(device, Source::Resample, "resample")?;
        let config = over_packs::<T>(n);
        // SAFETY: y has n elements, and the tables name places inside the input for each row and
        // column of the output.
        unsafe {
            launch!(
                function, config, &n, &channels, &in_h, &in_w, &out_h, &out_w, &*rows.starts,
                &*rows.places, &*rows.weights, &*columns.starts, &*columns.places,
                &*columns.weights, &x, &mut y
            )
        }
        Ok(stored(y, device, dims))
    })
}
