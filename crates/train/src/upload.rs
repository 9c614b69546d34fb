//! How a loader's pictures come to a card.

use candle_core::{Device, Result, Tensor};
use candle_vision_data::{HostImages, Upload};

/// Brings pictures to a device as 8-bit values, a quarter of the bytes, and normalises them there: for
/// [`DataLoader::with_upload`](candle_vision_data::DataLoader::with_upload) where the device is a card.
#[derive(Debug, Clone)]
pub struct DeviceUpload {
    device: Device,
}

impl DeviceUpload {
    /// To this device.
    pub fn new(device: Device) -> Self {
        Self { device }
    }
}

impl Upload for DeviceUpload {
    fn takes_pixels(&self) -> bool {
        true
    }

    fn images(&self, images: HostImages) -> Result<Tensor> {
        images.to_tensor(&self.device)
    }
}
