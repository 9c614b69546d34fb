//! Copies from the host's memory to a device's: the standard copy, and a hook for a faster one.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::Batch;
use super::on_device::{DrawnBatch, OnDevice};
use super::source::{HostBatch, Images, Samples, Source, Values};
use crate::dataset::multi_hot_values;

/// The images of a batch, in the host's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostImages {
    /// `[batch, height, width, channels]`.
    pub shape: [usize; 4],
    /// The values, channels last. Their number matches the shape.
    pub values: HostValues,
}

/// The values of the images.
#[derive(Clone, Debug, PartialEq)]
pub enum HostValues {
    /// The values for the network.
    Floats(Vec<f32>),
    /// 8-bit values. The values for the network are `scale * value + shift`, with a scale and a shift for each
    /// channel. Only a quarter of the memory is moved, and the device computes the rest.
    Pixels {
        /// One value for each channel of each pixel.
        values: Vec<u8>,
        /// One factor for each channel.
        scale: Vec<f32>,
        /// One summand for each channel.
        shift: Vec<f32>,
    },
}

/// Brings images to a device, instead of the loader's standard copy. A thread of the loader calls it one batch
/// in advance. The implementation must order its work on the device with the work of others there.
pub trait Upload: Send + Sync {
    /// Whether images come as [`HostValues::Pixels`]. If so, the implementation must apply their last
    /// transforms, `to_tensor` and `normalize`.
    fn takes_pixels(&self) -> bool;

    /// Brings the images to the device.
    ///
    /// # Shapes
    /// Returns the images' shape, `[batch, height, width, channels]`, contiguous.
    ///
    /// # Errors
    /// If the device has no room for them.
    fn images(&self, images: HostImages) -> Result<Tensor>;

    /// Brings the labels to the loader's device. The default is candle's copy, which is not ordered with work that
    /// another thread captures there.
    ///
    /// # Shapes
    /// Returns `[batch]`, `u32`.
    ///
    /// # Errors
    /// If the device has no room for them.
    fn labels(&self, labels: Vec<u32>, device: &Device) -> Result<Tensor> {
        let count = labels.len();
        Tensor::from_vec(labels, count, device)
    }

    /// Brings [targets](Batch::targets) to the loader's device. The default is candle's copy, as for the labels.
    ///
    /// # Shapes
    /// Returns `[batch, classes]`, which is `shape`.
    ///
    /// # Errors
    /// If the device has no room for them.
    fn targets(&self, targets: Vec<f32>, shape: [usize; 2], device: &Device) -> Result<Tensor> {
        Tensor::from_vec(targets, shape.as_slice(), device)
    }
}

impl HostImages {
    /// Copies the images to a device with candle's own operations.
    ///
    /// # Shapes
    /// Returns `[batch, height, width, channels]`, f32.
    ///
    /// # Errors
    /// If the number of values does not match the shape, or the device has not enough memory.
    pub fn to_tensor(self, device: &Device) -> Result<Tensor> {
        let shape = self.shape.as_slice();
        match self.values {
            HostValues::Floats(values) => Tensor::from_vec(values, shape, device),
            HostValues::Pixels { values, scale, shift } => {
                let pixels = Tensor::from_vec(values, shape, device)?.to_dtype(DType::F32)?;
                let of_channels = |values: Vec<f32>| Tensor::new(values, device);
                pixels.broadcast_mul(&of_channels(scale)?)?.broadcast_add(&of_channels(shift)?)
            }
        }
    }
}

/// How the batches of a loader get to its device.
#[derive(Clone)]
pub(super) struct Uploader {
    pub(super) device: Device,
    /// `None` uses [`HostImages::to_tensor`].
    pub(super) hook: Option<Arc<dyn Upload>>,
    /// The images, if the device has them. Then nothing is uploaded but what was drawn.
    pub(super) on_device: Option<Arc<OnDevice>>,
    /// Whether batch transforms need targets.
    pub(super) mixes: bool,
}

impl Uploader {
    pub(super) fn takes_pixels(&self) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.takes_pixels())
    }

    /// Brings a batch of `source` to the device.
    pub(super) fn batch(&self, batch: HostBatch, source: &Source) -> crate::Result<Batch> {
        let HostBatch { values, samples } = batch;
        let (transform, targets) = (&source.transform, self.targets(&samples, source)?);
        let Samples { shape: [height, width, channels], labels, indices } = samples;
        let shape = [indices.len(), height, width, channels];
        let values = match values {
            Values::Images(Images::Floats(values)) => HostValues::Floats(values),
            Values::Images(Images::Pixels(values)) => {
                let (scale, shift) = transform.scale_and_shift(channels)?;
                HostValues::Pixels { values, scale, shift }
            }
            Values::Drawn(steps, ends) => {
                let (scale, shift) = transform.scale_and_shift(channels)?;
                let drawn = DrawnBatch { shape, indices, labels, steps, ends, scale, shift };
                let on_device = self.on_device.as_ref().expect("only stored images are drawn");
                let (images, labels) = on_device.images.batch(&drawn)?;
                let images = images.permute((0, 3, 1, 2))?;
                return Ok(Batch { images, labels, targets, indices: drawn.indices });
            }
        };
        let images = HostImages { shape, values };
        let (images, labels) = match &self.hook {
            Some(hook) => (hook.images(images)?, hook.labels(labels, &self.device)?),
            None => {
                let labels = Tensor::from_vec(labels, indices.len(), &self.device)?;
                (images.to_tensor(&self.device)?, labels)
            }
        };
        Ok(Batch { images: images.permute((0, 3, 1, 2))?, labels, targets, indices })
    }

    /// The targets of a batch before batch transforms, if it has any.
    fn targets(&self, samples: &Samples, source: &Source) -> crate::Result<Option<Tensor>> {
        let dataset = source.dataset.as_ref();
        let shape = [samples.indices.len(), dataset.classes().len()];
        let values = if dataset.is_multi_label() {
            multi_hot_values(dataset, &samples.indices)?
        } else if self.mixes {
            // Not by `Dataset::label_set`, which may read the images again.
            let mut values = vec![0.0; shape[0] * shape[1]];
            for (row, &label) in samples.labels.iter().enumerate() {
                values[row * shape[1] + label as usize] = 1.0;
            }
            values
        } else {
            return Ok(None);
        };
        Ok(Some(match &self.hook {
            Some(hook) => hook.targets(values, shape, &self.device)?,
            None => Tensor::from_vec(values, shape.as_slice(), &self.device)?,
        }))
    }
}
