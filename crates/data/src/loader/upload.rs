//! From the host's memory to a device's: the plain way, and a hook for a faster one.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::Batch;
use super::source::{HostBatch, Values};
use crate::transforms::Compose;

/// The images of a batch, not yet on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct HostImages {
    /// `[batch, height, width, channels]`.
    pub shape: [usize; 4],
    /// Channels last, as many as the shape says.
    pub values: HostValues,
}

/// What there is of each pixel.
#[derive(Clone, Debug, PartialEq)]
pub enum HostValues {
    /// What a network takes.
    Floats(Vec<f32>),
    /// 8-bit values. What a network takes is `scale * value + shift`, each channel with its own: a
    /// quarter of the memory to move, where the device is to compute the rest.
    Pixels {
        /// One a channel of each pixel.
        values: Vec<u8>,
        /// One a channel.
        scale: Vec<f32>,
        /// One a channel.
        shift: Vec<f32>,
    },
}

/// Brings images to a device, in place of the loader's plain way. It is called from a thread of the
/// loader, a batch ahead of the one in use: what it starts on the device must be in order with what
/// others do there.
pub trait Upload: Send + Sync {
    /// Whether images are to come as [`HostValues::Pixels`]. Their last transforms, `to_tensor` and
    /// `normalize`, are then the uploader's to do.
    fn takes_pixels(&self) -> bool;

    /// The images on the device.
    ///
    /// # Shapes
    /// Returns the images' shape, `[batch, height, width, channels]`, contiguous.
    ///
    /// # Errors
    /// If the device has no room for them.
    fn images(&self, images: HostImages) -> Result<Tensor>;
}

impl HostImages {
    /// The images on a device, by candle's own operations.
    ///
    /// # Shapes
    /// Returns `[batch, height, width, channels]`, f32.
    ///
    /// # Errors
    /// If the number of values is not that of the shape, or the device has no room for them.
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

/// How a loader's batches come to its device.
#[derive(Clone)]
pub(super) struct Uploader {
    pub(super) device: Device,
    /// None: by [`HostImages::to_tensor`].
    pub(super) hook: Option<Arc<dyn Upload>>,
}

impl Uploader {
    pub(super) fn takes_pixels(&self) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.takes_pixels())
    }

    /// A batch on the device. `transform` made its images.
    pub(super) fn batch(&self, batch: HostBatch, transform: &Compose) -> crate::Result<Batch> {
        let HostBatch { values, shape: [height, width, channels], labels, indices } = batch;
        let values = match values {
            Values::Floats(values) => HostValues::Floats(values),
            Values::Pixels(values) => {
                let (scale, shift) = transform.scale_and_shift(channels)?;
                HostValues::Pixels { values, scale, shift }
            }
        };
        let images = HostImages { shape: [indices.len(), height, width, channels], values };
        let images = match &self.hook {
            Some(hook) => hook.images(images)?,
            None => images.to_tensor(&self.device)?,
        };
        let labels = Tensor::from_vec(labels, indices.len(), &self.device)?;
        Ok(Batch { images: images.permute((0, 3, 1, 2))?, labels, indices })
    }
}
