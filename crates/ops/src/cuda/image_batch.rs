//! Batches of images that lie on the device: one small upload and one kernel.

use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, DType, Result, Storage, Tensor, bail};
use candle_vision_kernels::pixel_steps::{Edge, PixelStep, fixed_point};

use super::array::{stored, tensor, unwritten};
use super::element::{Element, with_dtype};
use super::function::{Source, device_function, launch, over_rows};
use super::size::count;
use super::state::{self, locked};
use super::upload::refuse_capture;
use crate::image_batch::ImageBatch;

const NAME: &str = "image_batch";

/// Largest number of bytes of an image that changes in a block's own memory.
const MOST_SHARED: usize = 8192;

/// The images, of shape `output`, and the labels of a batch that was checked.
pub(crate) fn image_batch(
    device: &CudaDevice,
    images: &Tensor,
    batch: &ImageBatch<'_>,
    output: [usize; 3],
    dtype: DType,
) -> Result<(Tensor, Tensor)> {
    refuse_capture(NAME)?;
    with_dtype!(NAME, dtype, T => made::<T>(device, images, batch, output))
}

fn made<T: Element>(
    device: &CudaDevice,
    images: &Tensor,
    batch: &ImageBatch<'_>,
    [height, width, channels]: [usize; 3],
) -> Result<(Tensor, Tensor)> {
    let samples = batch.indices.len();
    let out_len = height * width * channels;
    let (pixels, layout) = images.storage_and_layout();
    let Storage::Cuda(pixels) = &*pixels else { bail!("{NAME}: the images are not on the device") };
    let pixels = pixels.as_cuda_slice::<u8>()?.slice(layout.start_offset()..);
    let stored_shape = [layout.dims()[1], layout.dims()[2], layout.dims()[3]];
    let Table { words, most_bytes } = Table::new(batch, stored_shape)?;
    // One image's bytes are counted in 32 bits.
    count("bytes of an image", most_bytes)?;
    let state = state::of(device)?;
    // Before anything is asked of the device, which may be capturing the work of another thread.
    let mut staging = locked(&state.staging);
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits() as i32).collect();
    let (scale, shift) =
        (state.table(device, bits(batch.scale))?, state.table(device, bits(batch.shift))?);
    let config = over_rows(samples);
    let needs_scratch = most_bytes > MOST_SHARED;
    let scratch_len = 2 * most_bytes * config.grid_dim.0 as usize;
    // SAFETY: a step writes all of its image before the next one reads it.
    let scratch: Option<CudaSlice<u8>> =
        needs_scratch.then(|| unsafe { device.alloc(scratch_len) }).transpose()?;
    let scratch = scratch.as_ref().map(|scratch| scratch.slice(..));
    let mut numbers = unwritten::<T>(device, samples * out_len)?;
    // SAFETY: the kernel writes every label.
    let mut labels = unsafe { device.alloc::<u32>(samples)? };
    let sizes = stored_shape.map(|size| size as i32);
    let (samples_32, out_len_32) = (samples as i32, out_len as i32);
    // SAFETY: any bytes of i32 may be read as bytes.
    let bytes = unsafe {
        std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), size_of_val(words.as_slice()))
    };
    staging.with(device, bytes, |arrived| {
        let function = device_function::<T>(device, Source::ImageBatch, "image_batch")?;
        // SAFETY: the op has checked that every index is that of an image, that steps stay inside their images, that
        // no image between them has more than `most_bytes` bytes, and that the result has `out_len` for each sample.
        unsafe {
            launch!(
                function,
                config,
                &samples_32,
                &pixels,
                &sizes[0],
                &sizes[1],
                &sizes[2],
                arrived,
                &*scale,
                &*shift,
                &scratch,
                &most_bytes,
                &out_len_32,
                &mut numbers,
                &mut labels
            )
        }
        Ok(())
    })?;
    let numbers = stored(numbers, device, (samples, height, width, channels));
    Ok((tensor(numbers), tensor(stored(labels, device, samples))))
}

/// What `image_batch.cu` reads.
struct Table {
    /// The labels, the indices, where each image's steps begin and where the last ones end, and the steps.
    words: Vec<i32>,
    /// Number of bytes of the largest image before, between or after steps.
    most_bytes: usize,
}

impl Table {
    fn new(batch: &ImageBatch<'_>, stored_shape: [usize; 3]) -> Result<Self> {
        let samples = batch.indices.len();
        let numbers = batch.labels.iter().chain(batch.indices);
        let mut words: Vec<i32> = numbers.map(|&number| number as i32).collect();
        let starts = words.len();
        words.resize(starts + samples + 1, 0);
        let (mut first, mut most_bytes) = (0, stored_shape.iter().product::<usize>());
        for (i, &end) in batch.ends.iter().enumerate() {
            words[starts + i] = count("words of a batch", words.len())?;
            let mut shape = stored_shape;
            for step in &batch.steps[first..end] {
                shape = step.output_shape(shape).map_err(candle_core::Error::wrap)?;
                most_bytes = most_bytes.max(shape.iter().product());
                push(step, &mut words)?;
            }
            first = end;
        }
        words[starts + samples] = count("words of a batch", words.len())?;
        Ok(Self { words, most_bytes })
    }
}

/// A colour in one word, with red in the lowest byte.
fn packed([red, green, blue]: [u8; 3]) -> i32 {
    i32::from_le_bytes([red, green, blue, 0])
}

/// Appends the words of a step. The first says which it is.
fn push(step: &PixelStep, words: &mut Vec<i32>) -> Result<()> {
    match *step {
        PixelStep::Window { corner: [top, left], size, edge } => {
            let (mode, fill) = match edge {
                Edge::Constant(fill) => (0, packed(fill)),
                Edge::Nearest => (1, 0),
                Edge::Reflect => (2, 0),
                Edge::Symmetric => (3, 0),
                other => bail!("{NAME}: no kernel for {other:?}"),
            };
            let [height, width] = [count("rows", size[0])?, count("columns", size[1])?];
            words.extend([0, top, left, height, width, mode, fill]);
        }
        PixelStep::HorizontalFlip => words.push(1),
        PixelStep::VerticalFlip => words.push(2),
        PixelStep::Affine { matrix, is_bilinear: false, fill } => {
            words.extend([3, packed(fill)]);
            fixed_point(matrix).as_flattened().iter().for_each(|&number| push_wide(number, words));
        }
        PixelStep::Affine { matrix, is_bilinear: true, fill } => {
            words.extend([4, packed(fill)]);
            matrix.iter().for_each(|number| push_wide(number.to_bits() as i64, words));
        }
        PixelStep::Brightness(factor) => words.extend([5, factor.to_bits() as i32]),
        PixelStep::Contrast(factor) => words.extend([6, factor.to_bits() as i32]),
        PixelStep::Saturation(factor) => words.extend([7, factor.to_bits() as i32]),
        PixelStep::Hue(shift) => words.extend([8, i32::from(shift)]),
        PixelStep::Grayscale { channels } => words.extend([9, count("channels", channels)?]),
        PixelStep::Fill { corner, size, color: [red, green, blue] } => {
            words.push(10);
            for number in corner.into_iter().chain(size) {
                words.push(count("rows or columns", number)?);
            }
            words.extend([red, green, blue].map(i32::from));
        }
        other => bail!("{NAME}: no kernel for {other:?}"),
    }
    Ok(())
}

/// 64 bits as two words, the lower ones first.
fn push_wide(number: i64, words: &mut Vec<i32>) {
    words.extend([number as i32, (number >> 32) as i32]);
}
