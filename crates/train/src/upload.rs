//! Upload of a loader's images to a GPU.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_data::{HostImages, HostValues, Upload};
use candle_vision_ops::{upload, upload_labels, upload_pixels};

/// Uploads images to a device as 8-bit values, a quarter of the bytes, and normalises them there. It is for
/// [`DataLoader::with_upload`](candle_vision_data::DataLoader::with_upload) with a GPU. The upload goes
/// from pinned memory and runs while the GPU computes.
#[derive(Debug, Clone)]
pub struct DeviceUpload {
    device: Device,
}

impl DeviceUpload {
    /// Uploads to this device.
    pub fn new(device: Device) -> Self {
        Self { device }
    }
}

impl Upload for DeviceUpload {
    fn takes_pixels(&self) -> bool {
        true
    }

    fn images(&self, images: HostImages) -> Result<Tensor> {
        if !self.device.is_cuda() {
            return images.to_tensor(&self.device);
        }
        let shape = images.shape.to_vec();
        match images.values {
            HostValues::Floats(values) => upload(&values, shape, &self.device),
            HostValues::Pixels { values, scale, shift } => {
                upload_pixels(&values, shape, [&scale, &shift], DType::F32, &self.device)
            }
        }
    }

    fn labels(&self, labels: Vec<u32>, device: &Device) -> Result<Tensor> {
        if device.is_cuda() {
            return upload_labels(&labels, device);
        }
        Tensor::new(labels, device)
    }

    fn targets(&self, targets: Vec<f32>, shape: [usize; 2], device: &Device) -> Result<Tensor> {
        if device.is_cuda() {
            return upload(&targets, shape.as_slice(), device);
        }
        Tensor::from_vec(targets, shape.as_slice(), device)
    }
}
