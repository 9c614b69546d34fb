//! Batches of images that lie on the device as bytes.

use candle_core::{DType, Device, Result, Tensor, bail};
pub use candle_vision_kernels::pixel_steps::{Edge, PixelStep};
use candle_vision_kernels::pixel_steps::{changed, numbers};

#[cfg(feature = "cuda")]
use crate::cuda;
use crate::storage::kept;

/// What [`image_batch`] makes of stored images.
#[derive(Debug, Clone, Copy)]
pub struct ImageBatch<'a> {
    /// The number of each image among those that are stored.
    pub indices: &'a [u32],
    /// The label of each image.
    pub labels: &'a [u32],
    /// The steps of the first image, then those of the second, and so on.
    pub steps: &'a [PixelStep],
    /// For each image, how many steps there are up to its last one.
    pub ends: &'a [usize],
    /// A factor for each channel.
    pub scale: &'a [f32],
    /// A summand for each channel.
    pub shift: &'a [f32],
}

/// Makes a batch of stored images: changes each by its own steps and computes `pixel * scale + shift` of the result.
///
/// Only the batch's description goes to a GPU, and one kernel does the work there. It does not wait for the device. The
/// values are those of the CPU, bit for bit.
///
/// # Shapes
/// - `images`: `[images, height, width, channels]`, `u8`, with 1 or 3 channels
/// - returns the images, `[batch, height, width, channels]` of type `dtype` after all steps, and the labels, `[batch]`,
///   `u32`
///
/// # Errors
/// If a list has another length than `indices`, a number is not that of an image, a step does not fit its image, the
/// changed images differ in shape, the channels are not those of `scale` and `shift`, `dtype` is not `f32`, `f16` or
/// `bf16`, or memory runs out.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_ops::{ImageBatch, PixelStep, image_batch};
///
/// let images = Tensor::new(&[[0u8, 255], [51, 102]], &Device::Cpu)?.reshape((2, 1, 2, 1))?;
/// let batch = ImageBatch {
///     indices: &[1, 0],
///     labels: &[7, 3],
///     steps: &[PixelStep::HorizontalFlip],
///     ends: &[1, 1],
///     scale: &[1.0 / 255.0],
///     shift: &[-0.2],
/// };
/// let (numbers, labels) = image_batch(&images, &batch, DType::F32)?;
/// let numbers = numbers.flatten_all()?.to_vec1::<f32>()?;
/// for (number, expected) in numbers.into_iter().zip([0.2, 0.0, -0.2, 0.8]) {
///     assert!((number - expected).abs() < 1e-6);
/// }
/// assert_eq!(labels.to_vec1::<u32>()?, [7, 3]);
/// # candle_core::Result::Ok(())
/// ```
pub fn image_batch(
    images: &Tensor,
    batch: &ImageBatch<'_>,
    dtype: DType,
) -> Result<(Tensor, Tensor)> {
    let output = batch.output_shape(images)?;
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        bail!("{NAME}: expected f32, f16 or bf16, got {dtype:?}")
    }
    match images.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::image_batch(device, images, batch, output, dtype),
        device => on_host(images, batch, output, dtype, device),
    }
}

const NAME: &str = "image_batch";

impl ImageBatch<'_> {
    /// Checks the batch. Returns the shape of the changed images.
    fn output_shape(&self, images: &Tensor) -> Result<[usize; 3]> {
        let &[stored, height, width, channels] = images.dims() else {
            bail!("{NAME}: expected images of rank 4, got {:?}", images.dims())
        };
        if images.dtype() != DType::U8 || !images.is_contiguous() {
            bail!("{NAME}: expected contiguous images of u8, got {:?}", images.dtype())
        }
        let Self { indices, labels, steps, ends, scale, shift } = self;
        let count = indices.len();
        if labels.len() != count || ends.len() != count {
            let (labels, ends) = (labels.len(), ends.len());
            bail!("{NAME}: {count} images, but {labels} labels and {ends} ends of steps")
        }
        if let Some(index) = indices.iter().find(|&&index| index as usize >= stored) {
            bail!("{NAME}: there is no image {index}, but only {stored}")
        }
        let (mut output, mut start) = (None, 0);
        for (&index, &end) in indices.iter().zip(*ends) {
            let Some(of_image) = steps.get(start..end) else {
                bail!("{NAME}: the steps of image {index} are {start}..{end} of {}", steps.len())
            };
            let mut shape = [height, width, channels];
            for step in of_image {
                shape = step.output_shape(shape).map_err(candle_core::Error::wrap)?;
            }
            let expected = *output.get_or_insert(shape);
            if shape != expected {
                bail!("{NAME}: image {index} becomes {shape:?}, others {expected:?}")
            }
            start = end;
        }
        let Some(output) = output else { bail!("{NAME}: a batch has at least one image") };
        if scale.len() != output[2] || shift.len() != output[2] {
            let (scale, shift) = (scale.len(), shift.len());
            bail!("{NAME}: {} channels, but {scale} scales and {shift} shifts", output[2])
        }
        Ok(output)
    }
}

/// The plain form.
fn on_host(
    images: &Tensor,
    batch: &ImageBatch<'_>,
    [height, width, channels]: [usize; 3],
    dtype: DType,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let count = batch.indices.len();
    let shape = [images.dims()[1], images.dims()[2], images.dims()[3]];
    let bytes: usize = shape.iter().product();
    let stored = kept(images);
    let pixels = stored.elements::<u8>()?;
    let changed = |i: usize| {
        let image = &pixels[batch.indices[i] as usize * bytes..][..bytes];
        let start = if i == 0 { 0 } else { batch.ends[i - 1] };
        changed(image, shape, &batch.steps[start..batch.ends[i]])
            .map(|(pixels, _)| pixels)
            .expect("every step was checked")
    };
    let numbers = numbers(count, height * width * channels, [batch.scale, batch.shift], changed);
    let numbers = Tensor::from_vec(numbers, (count, height, width, channels), device)?;
    Ok((numbers.to_dtype(dtype)?, Tensor::new(batch.labels, device)?))
}
