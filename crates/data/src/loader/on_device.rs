//! Images that lie in a device's memory, and the batches that are made of them there.

use std::ops::Range;
use std::thread;

use candle_core::Tensor;
use candle_vision_registry::as_reason;

use super::LoaderConfig;
use super::source::Source;
use crate::dataset::{Dataset, check_label};
use crate::random;
use crate::transforms::PixelStep;

/// The images of a data set in a device's memory.
///
/// A [`DataLoader`](crate::DataLoader) that has them ([`DataLoader::keep_on_device`](crate::DataLoader::keep_on_device))
/// reads no image any more. It draws what happens to each, and the device does it.
pub trait DeviceImages: Send + Sync {
    /// Writes images into the memory, one after the other, from image `first` on. This happens once, before any batch
    /// is made.
    ///
    /// # Errors
    /// If the device fails.
    fn write(&mut self, first: usize, pixels: &[u8]) -> candle_core::Result<()>;

    /// Makes a batch. A thread of the loader calls it one batch in advance. The implementation must order its work on
    /// the device with the work of others there.
    ///
    /// # Shapes
    /// Returns the images, [`DrawnBatch::shape`], contiguous, and the labels, `[batch]`, `u32`.
    ///
    /// # Errors
    /// If the device fails.
    fn batch(&self, batch: &DrawnBatch) -> candle_core::Result<(Tensor, Tensor)>;
}

/// What is to become of stored images in a batch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DrawnBatch {
    /// The shape of the batch, `[batch, height, width, channels]`.
    pub shape: [usize; 4],
    /// The index of each image in the data set.
    pub indices: Vec<usize>,
    /// The label of each image.
    pub labels: Vec<u32>,
    /// The steps of the first image, then those of the second, and so on.
    pub steps: Vec<PixelStep>,
    /// For each image, how many steps there are up to its last one.
    pub ends: Vec<usize>,
    /// One factor for each channel. A pixel becomes `scale * pixel + shift`.
    pub scale: Vec<f32>,
    /// One summand for each channel.
    pub shift: Vec<f32>,
}

/// Where the images of a loader's data set are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// In the device's memory.
    OnDevice {
        /// Number of bytes that they take.
        bytes: usize,
    },
    /// With the host, as before.
    OnHost {
        /// Why they cannot be in the device's memory.
        reason: String,
    },
}

impl Kept {
    /// With the host, for this reason.
    pub fn on_host(reason: impl Into<String>) -> Self {
        Self::OnHost { reason: reason.into() }
    }
}

/// Number of bytes that are decoded at a time before they go to the device.
const PART_BYTES: usize = 32 << 20;

/// A data set on a device.
pub(super) struct OnDevice {
    /// `[height, width, channels]` of each image.
    pub(super) shape: [usize; 3],
    pub(super) labels: Vec<u32>,
    pub(super) images: Box<dyn DeviceImages>,
}

impl OnDevice {
    /// Brings the images of a data set to the memory that `place` makes for `[images, height, width, channels]`.
    ///
    /// # Errors
    /// The reason if this is not possible.
    pub(super) fn new(
        source: &Source,
        config: &LoaderConfig,
        most_bytes: u64,
        place: impl FnOnce([usize; 4]) -> candle_core::Result<Box<dyn DeviceImages>>,
    ) -> Result<Self, String> {
        let dataset = source.dataset.as_ref();
        if !dataset.is_cacheable() {
            return Err("the data set may give another image each time".to_owned());
        }
        let first = dataset.sample(0).map_err(as_reason)?.image;
        let shape = [first.height(), first.width(), first.channels()];
        let drawn = source.transform.draw(shape, &mut random::generator(0)).map_err(as_reason)?;
        source.transform.scale_and_shift(drawn.shape()[2]).map_err(as_reason)?;
        let (count, bytes) = (dataset.len(), first.pixels().len());
        // A batch names its images by 32 bits.
        let total =
            u32::try_from(count).ok().and_then(|count| u64::from(count).checked_mul(bytes as u64));
        if total.is_none_or(|total| total > most_bytes) {
            return Err(format!(
                "{count} images of {bytes} bytes are more than {most_bytes} bytes"
            ));
        }
        let mut images = place([count, shape[0], shape[1], shape[2]]).map_err(as_reason)?;
        let (mut labels, of_part) = (Vec::with_capacity(count), (PART_BYTES / bytes).max(1));
        for start in (0..count).step_by(of_part) {
            let part = start..(start + of_part).min(count);
            let decoded = decoded(dataset, part, shape, config.workers.max(1))?;
            images.write(start, &decoded.pixels).map_err(as_reason)?;
            labels.extend(decoded.labels);
        }
        Ok(Self { shape, labels, images })
    }
}

struct Decoded {
    pixels: Vec<u8>,
    labels: Vec<u32>,
}

/// Reads these samples with some threads.
fn decoded(
    dataset: &dyn Dataset,
    samples: Range<usize>,
    shape: [usize; 3],
    threads: usize,
) -> Result<Decoded, String> {
    let (count, bytes) = (samples.len(), shape.iter().product::<usize>());
    let (mut pixels, mut labels) = (vec![0; count * bytes], vec![0; count]);
    let of_thread = count.div_ceil(threads);
    let pieces = pixels.chunks_mut(of_thread * bytes).zip(labels.chunks_mut(of_thread));
    thread::scope(|scope| {
        let mut running = Vec::new();
        for ((pixels, labels), first) in pieces.zip(samples.step_by(of_thread)) {
            let work = move || read(dataset, first, shape, pixels, labels);
            let thread = thread::Builder::new().name("data-loader".to_owned());
            running.push(thread.spawn_scoped(scope, work).map_err(as_reason)?);
        }
        running.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err("a thread that read images panicked".to_owned()))
        })
    })?;
    Ok(Decoded { pixels, labels })
}

/// Reads samples from `first` on, one for each label.
fn read(
    dataset: &dyn Dataset,
    first: usize,
    shape: [usize; 3],
    pixels: &mut [u8],
    labels: &mut [u32],
) -> Result<(), String> {
    let places = pixels.chunks_exact_mut(shape.iter().product()).zip(labels);
    for (index, (pixels, label)) in (first..).zip(places) {
        let sample = dataset.sample(index).map_err(as_reason)?;
        let classes = dataset.classes().len();
        check_label(dataset, index, sample.label, classes).map_err(as_reason)?;
        let found = [sample.image.height(), sample.image.width(), sample.image.channels()];
        if found != shape {
            let name = dataset.name(index);
            return Err(format!("`{name}` has the shape {found:?}, the first image {shape:?}"));
        }
        pixels.copy_from_slice(sample.image.pixels());
        *label = sample.label;
    }
    Ok(())
}
