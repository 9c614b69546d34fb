//! Sums over the rows of a matrix, and over all elements. Each has two stages whose form depends only on
//! the sizes, so the bits are the same every time.

use candle_core::cuda_backend::WrapErr;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::array::{Array, stored, unwritten};
use super::element::with_element;
use super::function::{
    ONE_BLOCK, Source, device_function, launch, over_chunks_of, over_columns, over_packs,
};

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

/// The sum of the squares of the elements of all `tensors`, which must be `f32`. Waits for the device.
pub(crate) fn sums_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    let mut sums = Vec::with_capacity(tensors.len());
    for x in tensors.iter().filter(|x| x.elem_count() > 0) {
        sums.push(x.contiguous()?.apply_op1_no_bwd(&Squares)?);
    }
    if sums.is_empty() {
        return Ok(0.0);
    }
    let sums = Tensor::stack(&sums, 0)?;
    Ok(sums.to_vec1::<f64>()?.into_iter().sum())
}

/// The sum of the squares of all elements, an `f64`.
struct Squares;

impl CustomOp1 for Squares {
    fn name(&self) -> &'static str {
        "sums_of_squares"
    }

    fn cpu_fwd(&self, _x: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("sums_of_squares: the CPU has a kernel of its own")
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let x = Array::new(x, layout);
        let (device, n, x) = (x.device(), x.len(), x.view::<f32>()?);
        let config = over_packs::<f32>(n);
        let blocks = config.grid_dim.0;
        let stream = device.cuda_stream();
        // SAFETY: the first kernel writes every block's sum before the second, which writes the
        // whole sum, reads it.
        let (mut partial, mut sum) =
            unsafe { (stream.alloc::<f64>(blocks as usize).w()?, stream.alloc::<f64>(1).w()?) };
        let function = device_function::<f32>(device, Source::Sums, "squares")?;
        // SAFETY: x has n elements, partial one for each block.
        unsafe { launch!(function, config, &n, &x, &mut partial) }
        let function = device_function::<f32>(device, Source::Sums, "squares_finish")?;
        // SAFETY: partial has `blocks` elements, sum one.
        unsafe { launch!(function, ONE_BLOCK, &blocks, &partial, &mut sum) }
        Ok(stored(sum, device, ()))
    }
}
