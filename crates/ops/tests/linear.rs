//! Linear layers against plain products, a worked example and finite differences.

use candle_vision_test_support::reference;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{PreparedLinear, linear};
use reference::{assert_close, signed};

/// Rows, input and output features: single ones, odd ones, and more than a tile in each direction. The last three are
/// large enough for kernels of their own.
const SIZES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [1, 7, 3],
    [5, 1, 2],
    [3, 20, 17],
    [16, 16, 16],
    [300, 5, 260],
    [17, 700, 520],
    [200, 520, 33],
    [390, 64, 130],
    [401, 33, 400],
];

fn inputs([rows, in_features, out_features]: [usize; 3], dtype: DType) -> Result<[Tensor; 4]> {
    Ok([
        signed("x", &[rows, in_features])?.to_dtype(dtype)?,
        signed("weight", &[out_features, in_features])?.to_dtype(dtype)?,
        signed("bias", &[out_features])?.to_dtype(dtype)?,
        signed("grad", &[rows, out_features])?.to_dtype(dtype)?,
    ])
}

/// Output, and the gradients of `x`, weight and bias.
fn run(sizes: [usize; 3], dtype: DType) -> Result<[Tensor; 4]> {
    let [x, weight, bias, grad] = inputs(sizes, dtype)?;
    let (x, weight, bias) =
        (Var::from_tensor(&x)?, Var::from_tensor(&weight)?, Var::from_tensor(&bias)?);
    let y = linear(&x, &weight, Some(&bias))?;
    let grads = (&y * grad)?.sum_all()?.backward()?;
    let gradient = |var: &Var| grads.get(var).expect("every variable has a gradient").clone();
    Ok([y, gradient(&x), gradient(&weight), gradient(&bias)])
}

#[test]
fn values_and_gradients_agree_with_plain_products() -> Result<()> {
    for sizes in SIZES {
        let [x, weight, bias, grad] = inputs(sizes, DType::F64)?;
        let y = x.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        let expected =
            [y, grad.matmul(&weight)?, grad.t()?.contiguous()?.matmul(&x)?, grad.sum(0)?];
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6)] {
            for (i, (computed, expected)) in run(sizes, dtype)?.iter().zip(&expected).enumerate() {
                assert_close(&format!("{sizes:?} {dtype:?} {i}"), computed, expected, tolerance);
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_central_differences() -> Result<()> {
    const STEP: f64 = 0.5;
    let sizes = [3, 5, 4];
    let [x, weight, bias, grad] = inputs(sizes, DType::F64)?;
    let [_, gradients @ ..] = run(sizes, DType::F64)?;
    let inputs = [x, weight, bias];
    for (varied, gradient) in gradients.iter().enumerate() {
        let values = inputs[varied].flatten_all()?.to_vec1::<f64>()?;
        let loss = |i: usize, by: f64| -> Result<f64> {
            let (mut values, mut inputs) = (values.clone(), inputs.clone());
            values[i] += by;
            inputs[varied] = Tensor::from_vec(values, inputs[varied].shape(), &Device::Cpu)?;
            let y = linear(&inputs[0], &inputs[1], Some(&inputs[2]))?;
            (y * &grad)?.sum_all()?.to_scalar()
        };
        // The loss is linear in each input, so only rounding separates the two.
        let slopes =
            (0..values.len()).map(|i| Ok((loss(i, STEP)? - loss(i, -STEP)?) / (2.0 * STEP)));
        let slopes =
            Tensor::from_vec(slopes.collect::<Result<_>>()?, gradient.shape(), &Device::Cpu)?;
        assert_close(&format!("input {varied}"), gradient, &slopes, 1e-9);
    }
    Ok(())
}

#[test]
fn a_worked_example_comes_out_exactly() -> Result<()> {
    // x = arange(6).view(2, 3) / 4; w = arange(6).view(2, 3) / 8 - 0.25; b = tensor([0.5, -1])
    // F.linear(x, w, b).square().sum().backward(): all values are short binary fractions.
    let device = &Device::Cpu;
    let x = Var::from_tensor(&(Tensor::arange(0f32, 6.0, device)?.reshape((2, 3))? / 4.0)?)?;
    let weight = Tensor::arange(0f32, 6.0, device)?.reshape((2, 3))?.affine(0.125, -0.25)?;
    let weight = Var::from_tensor(&weight)?;
    let bias = Var::new(&[0.5f32, -1.0], device)?;
    let y = linear(&x, &weight, Some(&bias))?;
    assert_eq!(y.to_vec2::<f32>()?, [[0.46875, -0.75], [0.1875, -0.1875]]);
    let grads = y.sqr()?.sum_all()?.backward()?;
    let gradient = |var: &Var| grads.get(var).expect("a gradient").clone();
    assert_eq!(
        gradient(&x).to_vec2::<f32>()?,
        [[-0.421875, -0.4921875, -0.5625], [-0.140625, -0.140625, -0.140625]]
    );
    assert_eq!(
        gradient(&weight).to_vec2::<f32>()?,
        [[0.28125, 0.609375, 0.9375], [-0.28125, -0.75, -1.21875]]
    );
    assert_eq!(gradient(&bias).to_vec1::<f32>()?, [1.3125, -1.875]);
    Ok(())
}

#[test]
fn leading_axes_are_kept() -> Result<()> {
    let x = signed("x", &[2, 3, 4, 5])?;
    let weight = signed("weight", &[6, 5])?;
    let y = linear(&x, &weight, None)?;
    assert_eq!(y.dims(), [2, 3, 4, 6]);
    let flat = linear(&x.reshape((24, 5))?, &weight, None)?;
    assert_close("flat", &y.reshape((24, 6))?, &flat, 0.0);
    let single = linear(&x.flatten_all()?.narrow(0, 0, 5)?, &weight, None)?;
    assert_eq!(single.dims(), [6]);
    Ok(())
}

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
    for sizes in SIZES {
        let bits = |threads: usize| -> Result<Vec<Vec<u32>>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let results = pool.expect("a pool of threads").install(|| run(sizes, DType::F32))?;
            let bits = |t: &Tensor| -> Result<Vec<u32>> {
                Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
            };
            results.iter().map(bits).collect()
        };
        let one = bits(1)?;
        assert!(bits(2)? == one && bits(3)? == one, "{sizes:?}");
    }
    Ok(())
}

#[test]
fn a_frozen_weight_gets_no_gradient() -> Result<()> {
    let [x, weight, bias, _] = inputs([3, 5, 4], DType::F32)?;
    let x = Var::from_tensor(&x)?;
    let grads = linear(&x, &weight, Some(&bias))?.sum_all()?.backward()?;
    assert!(grads.get(&x).is_some() && grads.get(&weight).is_none() && grads.get(&bias).is_none());
    Ok(())
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
    let check =
        |x: &[usize], weight: &[usize], bias: Option<usize>, expected: &str| -> Result<()> {
            let bias = bias.map(|len| zeros(&[len])).transpose()?;
            let error = linear(&zeros(x)?, &zeros(weight)?, bias.as_ref()).expect_err("an error");
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            assert!(line.starts_with("linear: ") && line.contains(expected), "{line}");
            Ok(())
        };
    check(&[2, 3], &[4, 3, 1], None, "weight is [out_features, in_features]")?;
    check(&[2, 5], &[4, 3], None, "takes 3 features, got x [2, 5]")?;
    check(&[], &[4, 3], None, "takes 3 features, got x []")?;
    check(&[0, 3], &[4, 3], None, "no elements in x [0, 3]")?;
    check(&[2, 0], &[4, 0], None, "no elements")?;
    check(&[2, 3], &[4, 3], Some(3), "bias is [4], one for each output, got [3]")?;
    Ok(())
}

#[test]
fn a_prepared_layer_computes_the_same() -> Result<()> {
    for sizes in SIZES {
        let [x, weight, bias, _] = inputs(sizes, DType::F32)?;
        for bias in [Some(&bias), None] {
            let prepared = PreparedLinear::new(&weight, bias)?;
            let expected = linear(&x, &weight, bias)?;
            assert_close(&format!("{sizes:?}"), &prepared.forward(&x)?, &expected, 2e-6);
            let in_images = prepared.forward(&x.reshape((1, sizes[0], sizes[1]))?)?;
            assert_eq!(in_images.dims(), [1, sizes[0], sizes[2]]);
        }
    }
    let [x, weight, bias, _] = inputs([3, 5, 4], DType::F64)?;
    let error = |result: Result<_>| result.map(|_: Tensor| ()).unwrap_err().to_string();
    let new = |weight: &Tensor, bias: &Tensor| {
        PreparedLinear::new(weight, Some(bias)).and_then(|layer| layer.forward(&x))
    };
    assert!(error(new(&weight, &bias)).contains("weight is f32 on the CPU, got F64"));
    let (weight, half) = (weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?);
    assert!(error(new(&weight, &half.narrow(0, 0, 3)?)).contains("bias"));
    assert!(error(new(&weight, &half)).contains("x has 5 features of f32"));
    Ok(())
}
