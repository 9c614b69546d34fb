//! Where and in which number type the ops are held against PyTorch's values.

use candle_core::{DType, Device, Result, Tensor, Var};

/// A device and a number type for feature maps and products.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) device: Device,
    pub(crate) dtype: DType,
}

impl Place {
    /// A variable there.
    pub(crate) fn var(&self, x: &Tensor) -> Result<Var> {
        Var::from_tensor(&x.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// A constant like `x`.
    pub(crate) fn like(&self, value: &Tensor, x: &Tensor) -> Result<Tensor> {
        value.to_dtype(x.dtype())?.to_device(&self.device)
    }

    /// How far from PyTorch's `f32` values results may be; `exact` on the CPU in `f32`.
    pub(crate) fn tolerance(&self, exact: f64) -> f64 {
        match (self.dtype, self.device.is_cpu()) {
            (DType::F32, true) => exact,
            (DType::F32, false) => 1e-4,
            _ => 1e-2,
        }
    }
}

/// The CPU, and the first CUDA device if the feature is on and there is one.
pub(crate) fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    devices.extend(cuda());
    devices
}

#[cfg(feature = "cuda")]
#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
fn cuda() -> Option<Device> {
    use std::sync::OnceLock;
    static CUDA: OnceLock<Option<Device>> = OnceLock::new();
    let device = CUDA.get_or_init(|| match candle_vision_ops::cuda_device(0) {
        Ok(device) => {
            candle_vision_ops::set_tf32(false);
            Some(device)
        }
        Err(error) => {
            eprintln!("skipped: no CUDA device: {error}");
            None
        }
    });
    device.clone()
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Option<Device> {
    None
}

/// Every device with `f32`, and with `bf16`.
pub(crate) fn places() -> Vec<Place> {
    let types = [DType::F32, DType::BF16];
    let places = devices().into_iter();
    places.flat_map(|device| types.map(|dtype| Place { device: device.clone(), dtype })).collect()
}
