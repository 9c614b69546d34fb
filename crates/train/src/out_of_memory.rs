//! Explains an error that a device gives when its memory is full.

use std::error::Error as StdError;

use candle_core::{Device, DeviceLocation};

use crate::{Error, Result};

/// Texts by which the driver and the libraries of a CUDA device report it. candle passes them on as text.
const SIGNS: [&str; 4] = [
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
];

/// If the memory of `device` was too small for batches of `batch_size` images, replaces the error by one
/// that names the batch size. Other results are returned as they are.
pub(crate) fn explained<T>(result: Result<T>, device: &Device, batch_size: usize) -> Result<T> {
    result.map_err(|error| match error {
        Error::OutOfMemory { .. } => error,
        error if is_out_of_memory(&error) => {
            let source = Box::new(error);
            Error::OutOfMemory { device: name(device), batch_size, source }
        }
        error => error,
    })
}

/// Whether a device had too little memory. candle passes on what the driver said as text, which is looked for in the whole
/// chain of causes.
pub fn is_out_of_memory(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if SIGNS.iter().any(|sign| text.contains(sign)) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(error: impl Into<Error>) -> Error {
        explained::<()>(Err(error.into()), &Device::Cpu, 64).expect_err("it was an error")
    }

    #[test]
    fn every_library_is_understood_at_any_depth() {
        for sign in SIGNS {
            let error = candle_core::Error::Cuda(format!("Some({sign}, \"full\")").into());
            let error = error.context("layer `conv1`").context("layers");
            for error in [Error::Tensor(error), Error::Data(candle_core::Error::msg(sign).into())] {
                let error = explain(error);
                assert_eq!(
                    error.to_string(),
                    "the memory of cpu is too small for batches of 64 images; make `batch_size` \
                     smaller, 32 for instance; saved checkpoints are untouched"
                );
                assert!(is_out_of_memory(&error), "the cause is kept");
                // Said once, however many ask.
                let again = explained::<()>(Err(error), &Device::Cpu, 1).unwrap_err();
                assert!(matches!(again, Error::OutOfMemory { batch_size: 64, .. }));
            }
        }
    }

    #[test]
    fn other_errors_stay_what_they_are() {
        let error = explain(candle_core::Error::msg("CUDA_ERROR_ILLEGAL_ADDRESS"));
        assert!(matches!(error, Error::Tensor(_)), "{error}");
    }

    #[test]
    fn of_one_image_a_batch_has_no_less() {
        let error = candle_core::Error::msg(SIGNS[0]);
        let error = explained::<()>(Err(error.into()), &Device::Cpu, 1).unwrap_err().to_string();
        assert!(error.contains("for one image; take a smaller network"), "{error}");
    }
}
