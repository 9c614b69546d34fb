//! What PyTorch computes on tensors that any language can rebuild (`tests/reference`): the inputs, and a reader for the
//! stored results.

use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor};

pub use candle_vision_ops::reference_tensors::{image_batch, labels, signed, uniform, weight};

/// The path of a file in `tests/reference` of the crate that is tested.
///
/// # Panics
/// Outside of a test: cargo says which crate is tested.
pub fn path(file: &str) -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    PathBuf::from(package).join("tests/reference").join(file)
}

/// The cases of a `.json` file in `tests/reference`.
pub fn json(file: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(path(file)).expect("reference file is readable");
    serde_json::from_str(&text).expect("reference file is JSON")
}

/// The tensors of a `.safetensors` file in `tests/reference`, by name.
pub fn tensors(file: &str) -> std::collections::HashMap<String, Tensor> {
    candle_core::safetensors::load(path(file), &Device::Cpu).expect("reference file is readable")
}

/// `||a - b|| / ||b||` in f64, the measure for sums that run in another order.
pub fn relative_error(a: &Tensor, b: &Tensor) -> Result<f64> {
    let flat = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    assert_eq!(a.dims(), b.dims(), "shapes differ");
    let (a, b) = (flat(a)?, flat(b)?);
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    let norm: f64 = b.iter().map(|b| b.powi(2)).sum();
    Ok((difference / norm.max(1e-300)).sqrt())
}

/// Fails with the measured error when `a` is further than `tolerance` from `b`.
#[track_caller]
pub fn assert_close(what: &str, a: &Tensor, b: &Tensor, tolerance: f64) {
    let error = relative_error(a, b).expect("tensors are readable");
    assert!(error <= tolerance, "{what}: relative error {error:.2e}, at most {tolerance:.0e}");
}
