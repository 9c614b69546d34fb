//! How far apart two ways of adding up may be.

use candle_core::{DType, Result, Tensor};

/// A root mean square that counts as 0 beside inputs of about 1. A gradient is exactly 0 where a norm has
/// one feature, or a loss one class: the terms cancel, and a device that rounds them in another order,
/// or contracts a product and a sum, leaves some of their last bits.
const ZERO: f64 = 1e-4;

/// Root mean squares of `found - expected` and of `expected`.
fn sizes(found: &Tensor, expected: &Tensor) -> Result<[f64; 2]> {
    let flat = |x: &Tensor| x.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (found, expected) = (flat(found)?, flat(expected)?);
    let mean = |sum: f64| (sum / expected.len().max(1) as f64).sqrt();
    let difference: f64 = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum();
    Ok([mean(difference), mean(expected.iter().map(|b| b.powi(2)).sum())])
}

/// The error, relative to what is expected; where that is 0, to the inputs.
fn error(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let [difference, size] = sizes(found, expected)?;
    Ok(if size < ZERO { difference } else { difference / size })
}

/// Fails with the measured error when `found` is further than `tolerance` from `expected`.
#[track_caller]
pub(crate) fn assert_near(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let error = error(found, expected).expect("tensors are readable");
    assert!(error <= tolerance, "{what}: error {error:.2e}, at most {tolerance:.0e}");
}

#[test]
fn what_is_left_where_the_truth_is_0_is_held_against_the_inputs() -> Result<()> {
    let of = |values: &[f64]| Tensor::new(values, &candle_core::Device::Cpu);
    // As one H100 gave it for the layer norm of one feature: half a unit in the last place of a product,
    // times 1 / sqrt(1e-5).
    assert!(error(&of(&[9.4e-6])?, &of(&[0.0])?)? < 1e-4);
    assert!(error(&of(&[0.0, 0.02])?, &of(&[0.0, 0.0])?)? > 1e-2);
    assert!(error(&of(&[f64::NAN])?, &of(&[0.0])?)?.is_nan());
    // Elsewhere a small value is a value.
    assert!((error(&of(&[0.0011])?, &of(&[0.001])?)? - 0.1).abs() < 1e-9);
    assert!((error(&of(&[30.0, 0.0])?, &of(&[20.0, 0.0])?)? - 0.5).abs() < 1e-9);
    Ok(())
}

#[test]
#[should_panic(expected = "error NaN")]
fn not_a_number_is_never_near() {
    let of = |value: f64| Tensor::new(&[value], &candle_core::Device::Cpu).expect("a number");
    assert_near("zero", &of(f64::NAN), &of(0.0), 1e-2);
}
