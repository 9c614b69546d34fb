//! Products element by element and of matrices.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{matmul, mul};

use crate::places::devices;
use crate::reference::assert_close;
use crate::support::{check_error, check_gradients, check_threads, random};

/// Shapes that are broadcast together.
const FACTORS: [(&[usize], &[usize]); 10] = [
    (&[2, 3, 4, 5], &[2, 3, 4, 5]),
    (&[2, 3, 4, 5], &[5]),
    (&[2, 3, 4, 5], &[2, 1, 1, 5]),
    (&[2, 3, 4, 5], &[2, 3, 4, 1]),
    (&[2, 3, 4, 5], &[]),
    (&[4, 1], &[1, 3]),
    (&[5], &[2, 1, 5]),
    (&[1], &[1]),
    (&[], &[]),
    (&[1, 3, 1, 2], &[2, 1, 4, 1]),
];

/// Shapes of matrices, one or many, and of their products.
const MATRICES: [(&[usize], &[usize], &[usize]); 8] = [
    (&[3, 4], &[4, 5], &[3, 5]),
    (&[1, 1], &[1, 1], &[1, 1]),
    (&[2, 3, 4], &[2, 4, 5], &[2, 3, 5]),
    (&[2, 3, 4], &[4, 5], &[2, 3, 5]),
    (&[3, 4], &[2, 4, 5], &[2, 3, 5]),
    (&[2, 3, 2, 4], &[2, 3, 4, 1], &[2, 3, 2, 1]),
    (&[2, 1, 2, 4], &[3, 4, 2], &[2, 3, 2, 2]),
    (&[17, 2, 3], &[17, 3, 2], &[17, 2, 2]),
];

#[test]
fn products_are_candles() -> Result<()> {
    for device in devices() {
        let of = |name: &str, dims: &[usize]| {
            random(name, dims).to_dtype(DType::F32)?.to_device(&device)
        };
        for (x, y) in FACTORS {
            let (x, y) = (of("x", x)?, of("y", y)?);
            let expected = x.broadcast_mul(&y)?;
            assert_eq!(mul(&x, &y)?.dims(), expected.dims());
            assert_close("mul", &mul(&x, &y)?, &expected, 1e-6);
        }
        for (x, y, product) in MATRICES {
            let (x, y) = (of("x", x)?, of("y", y)?);
            let found = matmul(&x, &y)?;
            assert_eq!(found.dims(), product);
            assert_close("matmul", &found, &x.broadcast_matmul(&y)?, 1e-5);
            // A view of memory in another order.
            let (first, last) = (y.rank() - 2, y.rank() - 1);
            let view = y.transpose(first, last)?.contiguous()?.transpose(first, last)?;
            assert_close("matmul of a view", &matmul(&x, &view)?, &found, 1e-5);
        }
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_values() {
    for (x, y) in FACTORS {
        let inputs = [random("x", x), random("y", y)];
        check_gradients(&format!("mul {x:?} {y:?}"), &inputs, |x| mul(&x[0], &x[1]));
    }
    for (x, y, _) in MATRICES {
        let inputs = [random("x", x), random("y", y)];
        check_gradients(&format!("matmul {x:?} {y:?}"), &inputs, |x| matmul(&x[0], &x[1]));
    }
    let x = [random("x", &[3, 3])];
    check_gradients("a square", &x, |x| mul(&x[0], &x[0]));
    check_gradients("with its transpose", &x, |x| matmul(&x[0], &x[0].t()?));
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let of = |name: &str, dims: &[usize]| random(name, dims).to_dtype(DType::F32);
        let (x, y) = (of("x", &[3, 300, 40])?, of("y", &[3, 40, 270])?);
        let (many, others) = (of("many", &[20, 30, 40])?, of("others", &[20, 40, 10])?);
        let scale = of("scale", &[40])?;
        Ok(vec![matmul(&x, &y)?, matmul(&many, &others)?, mul(&x, &scale)?])
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let x = random("wrong", &[2, 3]);
    check_error(mul(&x, &random("other", &[2])), &["mul", "[2, 3]", "[2]"]);
    check_error(mul(&x, &x.to_dtype(DType::F32)?), &["mul", "F64", "F32"]);
    check_error(matmul(&x, &x), &["matmul", "[2, 3]"]);
    check_error(matmul(&random("row", &[3]), &x), &["matmul", "[3]"]);
    check_error(
        matmul(&random("x", &[2, 1, 3]), &random("y", &[3, 3, 1])),
        &["matmul", "[2]", "[3]", "broadcast"],
    );
    let empty = Tensor::zeros((0, 3), DType::F64, &Device::Cpu)?;
    check_error(mul(&empty, &x), &["mul", "[0, 3]"]);
    check_error(matmul(&empty, &random("y", &[3, 2])), &["matmul", "[0, 3]"]);
    Ok(())
}
