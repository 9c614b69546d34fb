//! Layer norm against its formula and finite differences.

use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, random};
use candle_core::{D, DType, Result, Tensor, Var};
use candle_vision_ops::layer_norm;

const EPS: f64 = 1e-3;
const SHAPES: [&[usize]; 5] = [&[3, 4], &[2, 3, 5], &[1, 2, 3, 17], &[6], &[5, 70]];

/// `[x, weight, bias]`.
fn arguments(dims: &[usize]) -> Vec<Tensor> {
    let features = &dims[dims.len() - 1..];
    let weight = random("ln.weight", features);
    vec![random("ln.x", dims), weight, random("ln.bias", features)]
}

/// As the paper writes it, of tensor operations.
fn plain(x: &[Tensor]) -> Result<Tensor> {
    let centred = x[0].broadcast_sub(&x[0].mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = centred.broadcast_div(&(variance + EPS)?.sqrt()?)?;
    normal.broadcast_mul(&x[1])?.broadcast_add(&x[2])
}

#[test]
fn values_are_those_of_the_formula() -> Result<()> {
    for dims in SHAPES {
        let x = arguments(dims);
        let found = layer_norm(&x[0], &x[1], &x[2], EPS)?;
        reference::assert_close(&format!("{dims:?}"), &found, &plain(&x)?, 1e-12);
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_values() {
    for dims in SHAPES {
        check_gradients(&format!("layer norm {dims:?}"), &arguments(dims), |x| {
            layer_norm(&x[0], &x[1], &x[2], EPS)
        });
    }
}

#[test]
fn a_large_mean_costs_no_digits() -> Result<()> {
    let exact = random("far", &[4, 100]).affine(1.0, 3000.0)?.to_dtype(DType::F32)?;
    let one = Tensor::ones(100, DType::F32, exact.device())?;
    let found = layer_norm(&exact, &one, &one.zeros_like()?, EPS)?;
    let wide = [&exact, &one, &one.zeros_like()?].map(|x| x.to_dtype(DType::F64));
    let [x, weight, bias] = wide;
    let expected = plain(&[x?, weight?, bias?])?;
    reference::assert_close("far from zero", &found, &expected, 2e-4);
    Ok(())
}

#[test]
fn frozen_parameters_get_no_gradient() -> Result<()> {
    let arguments = arguments(&[3, 4]);
    let x = Var::from_tensor(&arguments[0])?;
    let y = layer_norm(&x, &arguments[1], &arguments[2], EPS)?;
    let gradients = y.sum_all()?.backward()?;
    assert!(gradients.get(&x).is_some());
    assert_eq!(gradients.get_ids().filter(|&&id| id == arguments[1].id()).count(), 0);
    Ok(())
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let arguments = arguments(&[3000, 24]);
    check_threads(|| {
        let x = arguments.iter().map(|x| Var::from_tensor(&x.to_dtype(DType::F32)?));
        let x = x.collect::<Result<Vec<_>>>()?;
        let y = layer_norm(&x[0], &x[1], &x[2], EPS)?;
        let mut gradients = y.sqr()?.sum_all()?.backward()?;
        let gradients = x.iter().map(|x| gradients.remove(x).expect("a gradient"));
        Ok([y.detach()].into_iter().chain(gradients).collect())
    });
}

#[test]
fn wrong_arguments_are_named() {
    let x = arguments(&[3, 4]);
    let short = random("short", &[3]);
    check_error(layer_norm(&x[0], &short, &x[2], EPS), &["layer_norm", "weight", "[4]", "[3]"]);
    let half = x[2].to_dtype(DType::F32).expect("a tensor");
    check_error(layer_norm(&x[0], &x[1], &half, EPS), &["bias", "F64", "F32"]);
}
