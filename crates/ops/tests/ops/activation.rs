//! Activation functions against PyTorch and finite differences.

use crate::places::devices;
use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, random};
use candle_core::{Device, Result, Tensor, Var};
use candle_vision_ops as ops;

type Function = fn(&Tensor) -> Result<Tensor>;

const FUNCTIONS: [(&str, Function); 7] = [
    ("relu", ops::relu),
    ("relu6", ops::relu6),
    ("sigmoid", ops::sigmoid),
    ("silu", ops::silu),
    ("gelu", ops::gelu),
    ("hardswish", ops::hardswish),
    ("hardsigmoid", ops::hardsigmoid),
];

/// `image_batch * 3` with the kinks in front.
fn input(name: &str) -> Result<Tensor> {
    let x = reference::image_batch(&format!("{name}.x"), &[4, 50])?.affine(3.0, 0.0)?;
    let mut values = x.flatten_all()?.to_vec1::<f32>()?;
    values[..5].copy_from_slice(&[0.0, 6.0, 3.0, -3.0, -0.0]);
    Tensor::from_vec(values, (4, 50), &Device::Cpu)
}

#[test]
fn values_and_gradients_are_pytorchs() -> Result<()> {
    let expected = reference::tensors("ops.safetensors");
    for (name, f) in FUNCTIONS {
        for device in devices() {
            let name_there = format!("{name} at {device:?}");
            let x = Var::from_tensor(&input(name)?.to_device(&device)?)?;
            let y = f(&x)?;
            reference::assert_close(&name_there, &y, &expected[&format!("{name}.y")], 1e-6);
            let grad = reference::signed(&format!("{name}.grad"), &[4, 50])?.to_device(&device)?;
            let dx = (y * &grad)?.sum_all()?.backward()?.remove(&x).expect("a gradient");
            let expected = &expected[&format!("{name}.dx")];
            reference::assert_close(&format!("{name_there}, gradient"), &dx, expected, 1e-6);
            // A wrong choice at one kink would hide in the norm over 200 elements.
            let kinks =
                |dx: &Tensor| dx.narrow(0, 0, 1)?.narrow(1, 0, 5)?.flatten_all()?.to_vec1::<f32>();
            for (i, (dx, expected)) in kinks(&dx)?.into_iter().zip(kinks(expected)?).enumerate() {
                let near = (dx - expected).abs() < 1e-6;
                assert!(near, "{name_there}, kink {i}: {dx} instead of {expected}");
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_values() {
    for (name, f) in FUNCTIONS {
        let x = random(name, &[3, 5, 7]).affine(3.0, 0.0).expect("a tensor");
        check_gradients(name, &[x], |x| f(&x[0]));
    }
}

#[test]
fn extremes_stay_finite_and_nan_stays_nan() -> Result<()> {
    for (name, f) in FUNCTIONS {
        let x = Var::new(&[-1e4f32, 1e4, f32::NAN], &Device::Cpu)?;
        let y = f(&x)?;
        let values = y.to_vec1::<f32>()?;
        assert!(values[0].is_finite() && values[1].is_finite(), "{name}: {values:?}");
        assert!(values[2].is_nan(), "{name} of NaN is {}", values[2]);
        let dx = y.narrow(0, 0, 2)?.sum_all()?.backward()?.remove(&x).expect("a gradient");
        let slopes = dx.to_vec1::<f32>()?;
        assert!(slopes[0].is_finite() && slopes[1].is_finite(), "{name}: {slopes:?}");
    }
    Ok(())
}

#[test]
fn views_and_empty_tensors_are_taken() -> Result<()> {
    let x = random("view", &[4, 6]).t()?;
    let y = ops::relu(&x)?;
    assert_eq!(y.to_vec2::<f64>()?, x.contiguous()?.relu()?.to_vec2::<f64>()?);
    assert_eq!(ops::gelu(&random("empty", &[0, 3]))?.dims(), [0, 3]);
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let x = Var::from_tensor(&reference::image_batch("threads", &[7, 3001])?)?;
        let y = ops::silu(&x)?;
        let dx = y.sqr()?.sum_all()?.backward()?.remove(&x).expect("a gradient");
        Ok(vec![y.detach(), dx])
    });
}

#[test]
fn integers_are_refused() -> Result<()> {
    let x = Tensor::new(&[1u32], &Device::Cpu)?;
    check_error(ops::relu6(&x), &["relu6", "U32"]);
    Ok(())
}
