//! `cast` gives candle's values, and gradients in the type that they are wanted in.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{backward, cast};

const TYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

fn values() -> Result<Tensor> {
    let values: Vec<f32> = (0..24).map(|i| (1.7 * i as f32).sin() * 1000.0).collect();
    Tensor::from_vec(values, (4, 6), &Device::Cpu)
}

fn wide(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

#[test]
fn values_are_candles_also_of_a_view() -> Result<()> {
    for from in TYPES {
        for to in TYPES {
            let x = values()?.to_dtype(from)?;
            for x in [x.clone(), x.t()?, x.narrow(0, 1, 2)?] {
                let y = cast(&x, to)?;
                assert_eq!((y.dtype(), y.dims()), (to, x.dims()));
                assert_eq!(wide(&y)?, wide(&x.to_dtype(to)?)?, "{from:?} to {to:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_gradient_comes_back_in_the_type_of_its_variable() -> Result<()> {
    for (from, to) in
        [(DType::F32, DType::BF16), (DType::F32, DType::F16), (DType::F64, DType::F32)]
    {
        let x = Var::from_tensor(&values()?.to_dtype(from)?)?;
        // Twice: the two gradients add up. The factor is exact in every type.
        let loss = (cast(&x, to)?.affine(0.5, 0.0)? + cast(&x, to)?)?.sum_all()?;
        for gradients in [backward(&loss)?, loss.backward()?] {
            let gradient = gradients.get(&x).expect("the loss depends on it");
            assert_eq!(gradient.dtype(), from);
            assert_eq!(wide(gradient)?, [1.5; 24]);
        }
    }
    Ok(())
}

#[test]
fn a_type_that_is_no_float_is_an_error() -> Result<()> {
    for (x, to) in [(values()?, DType::U32), (values()?.to_dtype(DType::U32)?, DType::F32)] {
        let error = cast(&x, to).unwrap_err().to_string();
        assert!(error.starts_with("cast: expected two float types"), "{error}");
    }
    Ok(())
}
