//! What PyTorch computes on tensors that any language can rebuild (`tests/reference`): the recipe
//! for the inputs, and a reader for the stored results.
use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor};

fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

fn splitmix64(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `count` numbers in `[0, 1)`, the same in every language.
pub fn uniform(name: &str, count: usize) -> Vec<f64> {
    let start = fnv1a64(name);
    (0..count as u64)
        .map(|i| (splitmix64(start.wrapping_add(i)) >> 40) as f64 / (1u64 << 24) as f64)
        .collect()
}

fn tensor(name: &str, shape: &[usize], value: impl Fn(f64) -> f64) -> Result<Tensor> {
    let count = shape.iter().product();
    let values: Vec<f32> = uniform(name, count).into_iter().map(|u| value(u) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Output gradients: uniform in `[-1, 1)`.
pub fn signed(name: &str, shape: &[usize]) -> Result<Tensor> {
    tensor(name, shape, |u| 2.0 * u - 1.0)
}

/// Inputs like a normalised image batch: uniform with unit variance.
pub fn image_batch(name: &str, shape: &[usize]) -> Result<Tensor> {
    tensor(name, shape, |u| (2.0 * u - 1.0) * 3f64.sqrt())
}

/// `count` labels below `classes`, as `u32`.
pub fn labels(name: &str, count: usize, classes: usize) -> Result<Tensor> {
    let values: Vec<u32> =
        uniform(name, count).into_iter().map(|u| (u * classes as f64) as u32).collect();
    Tensor::from_vec(values, count, &Device::Cpu)
}

/// The value of a parameter or buffer called `name` (torchvision's `state_dict` key).
pub fn weight(name: &str, shape: &[usize], gain: f64) -> Result<Tensor> {
    let leaf = name.rsplit('.').next().unwrap_or(name);
    let count: usize = shape.iter().product();
    match leaf {
        "num_batches_tracked" => Tensor::zeros(shape, DType::I64, &Device::Cpu),
        "running_var" => tensor(name, shape, |u| 1.0 + 0.5 * u),
        "running_mean" => tensor(name, shape, |u| 0.1 * (2.0 * u - 1.0)),
        "weight" if shape.len() == 1 => tensor(name, shape, |u| 1.0 + 0.1 * (2.0 * u - 1.0)),
        leaf if leaf.ends_with("bias") => tensor(name, shape, |u| 0.1 * (2.0 * u - 1.0)),
        _ => {
            let fan_in = (count / shape[0]).max(1);
            tensor(name, shape, |u| gain * (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt())
        }
    }
}

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

#[test]
fn recipe_gives_the_documented_check_values() {
    assert_eq!(fnv1a64("conv3x3.x"), 0x5DE9_1EAB_7870_0153);
    assert_eq!(uniform("conv3x3.x", 2), [0.461_019_933_223_724_37, 0.914_614_021_778_106_7]);
}
