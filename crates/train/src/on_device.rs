//! Data sets that lie in a GPU's memory.

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_vision_data::transforms::{Interpolation, PaddingMode, PixelStep};
use candle_vision_data::{DataLoader, DeviceImages, DrawnBatch, Kept};
use candle_vision_ops::{self as ops, Edge, ImageBatch, card_memory, image_batch};

/// The share of a card's memory that the images of one data set may take.
const SHARE: f64 = 0.25;

/// Keeps the images of a loader's data set in the memory of its GPU, if its transforms are among those that the GPU can
/// do, and if they fit into a quarter of what is free there, and of `memory` bytes if that is said. From then on batches
/// are made there, and the loader's threads are free. The batches have the bits that they have with
/// [`DeviceUpload`](crate::DeviceUpload).
///
/// [`DataLoader::keep_on_device`] says when this is possible. Otherwise the loader stays as it is, and the answer says
/// why.
pub fn keep_on_device(loader: &mut DataLoader, memory: Option<u64>) -> Kept {
    let device = loader.device().clone();
    if !device.is_cuda() {
        return Kept::on_host("its batches go to no CUDA card");
    }
    let Some(free) = card_memory(&device).map(|memory| memory.available()) else {
        return Kept::on_host("the driver does not say how much memory the card has left");
    };
    let most = (memory.map_or(free, |memory| memory.min(free)) as f64 * SHARE) as u64;
    loader.keep_on_device(most, |shape| Ok(Box::new(StoredImages::new(shape, &device)?)))
}

/// Images as bytes in the memory of a device. [`keep_on_device`] makes them. On the CPU they serve to check the GPU's.
#[derive(Debug)]
pub struct StoredImages {
    /// `[images, height, width, channels]`, `u8`.
    pixels: Tensor,
}

impl StoredImages {
    /// Memory for images of shape `[images, height, width, channels]`.
    ///
    /// # Errors
    /// If the device has no room for them.
    pub fn new(shape: [usize; 4], device: &Device) -> Result<Self> {
        Ok(Self { pixels: Tensor::zeros(shape.as_slice(), DType::U8, device)? })
    }
}

impl DeviceImages for StoredImages {
    fn write(&mut self, first: usize, pixels: &[u8]) -> Result<()> {
        let (_, height, width, channels) = self.pixels.dims4()?;
        let images = pixels.len() / (height * width * channels);
        let shape = (images, height, width, channels);
        let part = Tensor::from_slice(pixels, shape, self.pixels.device())?;
        self.pixels.slice_set(&part, 0, first)
    }

    fn batch(&self, batch: &DrawnBatch) -> Result<(Tensor, Tensor)> {
        let indices: Vec<u32> = batch.indices.iter().map(|&index| index as u32).collect();
        let steps = batch.steps.iter().map(step).collect::<Result<Vec<_>>>()?;
        let batch = ImageBatch {
            indices: &indices,
            labels: &batch.labels,
            steps: &steps,
            ends: &batch.ends,
            scale: &batch.scale,
            shift: &batch.shift,
        };
        image_batch(&self.pixels, &batch, DType::F32)
    }
}

/// A transform's step as the ops have it.
fn step(step: &PixelStep) -> Result<ops::PixelStep> {
    Ok(match *step {
        PixelStep::Window { top, left, height, width, mode, fill } => {
            let [Ok(top), Ok(left)] = [i32::try_from(top), i32::try_from(left)] else {
                bail!("a window at row {top}, column {left} is too far away for a GPU")
            };
            let corner = [top, left];
            let edge = match mode {
                PaddingMode::Constant => Edge::Constant(fill),
                PaddingMode::Edge => Edge::Nearest,
                PaddingMode::Reflect => Edge::Reflect,
                PaddingMode::Symmetric => Edge::Symmetric,
            };
            ops::PixelStep::Window { corner, size: [height, width], edge }
        }
        PixelStep::HorizontalFlip => ops::PixelStep::HorizontalFlip,
        PixelStep::VerticalFlip => ops::PixelStep::VerticalFlip,
        PixelStep::Affine { matrix, interpolation, fill } => {
            let is_bilinear = interpolation == Interpolation::Bilinear;
            ops::PixelStep::Affine { matrix, is_bilinear, fill }
        }
        PixelStep::Brightness(factor) => ops::PixelStep::Brightness(factor),
        PixelStep::Contrast(factor) => ops::PixelStep::Contrast(factor),
        PixelStep::Saturation(factor) => ops::PixelStep::Saturation(factor),
        PixelStep::Hue(shift) => ops::PixelStep::Hue(shift),
        PixelStep::Grayscale { channels } => ops::PixelStep::Grayscale { channels },
        PixelStep::Fill { top, left, height, width, color } => {
            ops::PixelStep::Fill { corner: [top, left], size: [height, width], color }
        }
        other => bail!("a GPU does not know the step {other:?}"),
    })
}
