//! Tensors that follow from their names, so that any language can build them again: the inputs and the weights on which
//! PyTorch computed the values that tests and `parity` compare with. `tests/reference/recipe.py` is the same in Python.
//!
//! `u(name, i)` is a number in `[0, 1)`: the upper 24 bits of `splitmix64(fnv1a64(name) + i)`, divided by 2^24.

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
///
/// ```
/// use candle_vision_ops::reference_tensors::uniform;
///
/// assert_eq!(uniform("conv3x3.x", 2), [0.461_019_933_223_724_37, 0.914_614_021_778_106_7]);
/// ```
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
///
/// # Errors
/// If memory for them cannot be had.
pub fn signed(name: &str, shape: &[usize]) -> Result<Tensor> {
    tensor(name, shape, |u| 2.0 * u - 1.0)
}

/// Inputs like a normalised image batch: uniform with unit variance.
///
/// # Errors
/// If memory for them cannot be had.
pub fn image_batch(name: &str, shape: &[usize]) -> Result<Tensor> {
    tensor(name, shape, |u| (2.0 * u - 1.0) * 3f64.sqrt())
}

/// `count` labels below `classes`, as `u32`.
///
/// # Errors
/// If memory for them cannot be had.
pub fn labels(name: &str, count: usize, classes: usize) -> Result<Tensor> {
    let values: Vec<u32> =
        uniform(name, count).into_iter().map(|u| (u * classes as f64) as u32).collect();
    Tensor::from_vec(values, count, &Device::Cpu)
}

/// The value of a parameter or buffer called `name` (torchvision's `state_dict` key). Kernels are scaled by `gain`.
///
/// # Errors
/// If memory for it cannot be had.
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
            let fan_in = (count / shape.first().copied().unwrap_or(1).max(1)).max(1);
            tensor(name, shape, |u| gain * (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_documented_check_values() {
        assert_eq!(fnv1a64("conv3x3.x"), 0x5DE9_1EAB_7870_0153);
        assert_eq!(uniform("conv3x3.x", 1), [0.461_019_933_223_724_37]);
    }
}
