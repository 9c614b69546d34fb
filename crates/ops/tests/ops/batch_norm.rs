//! Batch norm against PyTorch, finite differences and its formula.

use std::collections::HashMap;

use crate::places::{Place, places};
use crate::reference;
use crate::support::{check_error, check_gradients, check_threads, nchw, nhwc, random};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{
    Activation, BatchNormConstants, BatchNormParameters, Conv2dConfig, RunningStatistics, backward,
    batch_norm_eval, batch_norm_train, conv2d, conv2d_batch_norm_train,
};

const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::Relu, Activation::Relu6];

/// The four parameters and buffers of a PyTorch layer called `case`.
fn layer(case: &str) -> Result<[Tensor; 4]> {
    let vector = |name: &str| reference::weight(&format!("{case}.{name}"), &[6], 1.0);
    Ok([vector("weight")?, vector("bias")?, vector("running_mean")?, vector("running_var")?])
}

/// Compares `y` and the gradients it gives with the stored ones of `case`.
fn check_case(
    case: &str,
    place: &Place,
    y: &Tensor,
    inputs: [(&str, &Var); 3],
    expected: &HashMap<String, Tensor>,
) -> Result<()> {
    let tolerance = place.tolerance(1e-5);
    let what = format!("{case} at {place:?}");
    reference::assert_close(&what, &nchw(y), &expected[&format!("{case}.y")], tolerance);
    let grad = nhwc(&reference::signed(&format!("{case}.grad"), &[4, 6, 5, 7])?);
    let grad = place.like(&grad, y)?;
    let gradients = (y * grad)?.sum_all()?.backward()?;
    for (name, input) in inputs {
        let gradient = gradients.get(input).expect("a gradient");
        let gradient = if gradient.rank() == 4 { nchw(gradient) } else { gradient.clone() };
        let expected = &expected[&format!("{case}.{name}")];
        reference::assert_close(&format!("{what}, {name}"), &gradient, expected, tolerance);
    }
    Ok(())
}

/// A variable there in `f32`, as parameters of a norm are.
fn full(place: &Place, x: &Tensor) -> Result<Var> {
    Var::from_tensor(&x.to_device(&place.device)?)
}

fn input(case: &str) -> Result<Tensor> {
    let x = reference::image_batch(&format!("{case}.x"), &[4, 6, 5, 7])?.affine(2.0, 0.5)?;
    Ok(nhwc(&x))
}

#[test]
fn training_is_pytorchs() -> Result<()> {
    let expected = reference::tensors("ops.safetensors");
    let [weight, bias, running_mean, running_var] = layer("bn_train")?;
    for place in places() {
        let (weight, bias) = (full(&place, &weight)?, full(&place, &bias)?);
        let x = place.var(&input("bn_train")?)?;
        let (mean, variance) = (full(&place, &running_mean)?, full(&place, &running_var)?);
        let batches = Var::new(3i64, &place.device)?;
        let running = RunningStatistics {
            mean: &mean,
            variance: &variance,
            batches: &batches,
            momentum: 0.1,
        };
        let norm = BatchNormParameters { running: Some(running), ..parameters(&weight, &bias) };
        let (y, statistics) = batch_norm_train(&x, &norm, None, Activation::Identity)?;
        let inputs = [("dx", &x), ("dweight", &weight), ("dbias", &bias)];
        check_case("bn_train", &place, &y, inputs, &expected)?;

        assert_eq!(statistics.count, 4 * 5 * 7);
        assert_eq!(batches.to_scalar::<i64>()?, 4);
        let tolerance = place.tolerance(1e-6);
        reference::assert_close("mean", &mean, &expected["bn_train.running_mean"], tolerance);
        let of_running = &expected["bn_train.running_var"];
        reference::assert_close("variance", &variance, of_running, tolerance);
    }
    Ok(())
}

#[test]
fn evaluation_is_pytorchs() -> Result<()> {
    let expected = reference::tensors("ops.safetensors");
    let [weight, bias, mean, variance] = layer("bn_eval")?;
    for place in places() {
        let (weight, bias) = (full(&place, &weight)?, full(&place, &bias)?);
        let (mean, variance) = (mean.to_device(&place.device)?, variance.to_device(&place.device)?);
        let x = place.var(&input("bn_eval")?)?;
        let (mean, variance) = (&mean, &variance);
        let norm = BatchNormConstants { weight: &weight, bias: &bias, mean, variance, eps: 1e-5 };
        let y = batch_norm_eval(&x, &norm, None, Activation::Identity)?;
        let inputs = [("dx", &x), ("dweight", &weight), ("dbias", &bias)];
        check_case("bn_eval", &place, &y, inputs, &expected)?;
    }
    Ok(())
}

/// `[x, weight, bias, residual]`.
fn arguments(dims: &[usize]) -> Vec<Tensor> {
    let channels = &dims[dims.len() - 1..];
    // Large enough for some values to reach the ceiling of ReLU6.
    let weight = random("bn.weight", channels).affine(8.0, 0.0).expect("a scaled vector");
    let mut arguments = vec![random("bn.x", dims), weight];
    arguments.extend([random("bn.bias", channels), random("bn.residual", dims)]);
    arguments
}

const SHAPES: [&[usize]; 5] = [&[2, 3, 5, 4], &[1, 7, 3, 1], &[5, 1, 1, 3], &[3, 4], &[2, 8, 9, 2]];

fn parameters<'a>(weight: &'a Tensor, bias: &'a Tensor) -> BatchNormParameters<'a> {
    BatchNormParameters::new(weight, bias, 1e-5)
}

#[test]
fn training_gradient_is_that_of_its_values() {
    for dims in SHAPES {
        for activation in ACTIVATIONS {
            let what = format!("{dims:?} {activation:?}");
            let run = |x: &[Tensor], residual: Option<&Tensor>| {
                let norm = BatchNormParameters::new(&x[1], &x[2], 1e-3);
                let (y, _) = batch_norm_train(&x[0], &norm, residual, activation)?;
                Ok(y)
            };
            let arguments = arguments(dims);
            check_gradients(&what, &arguments[..3], |x| run(x, None));
            check_gradients(&format!("{what} residual"), &arguments, |x| run(x, Some(&x[3])));
        }
    }
}

#[test]
fn evaluation_gradient_is_that_of_its_values() -> Result<()> {
    for dims in SHAPES {
        let channels = dims[dims.len() - 1];
        let mean = random("bn.mean", &[channels]);
        let variance = random("bn.variance", &[channels]).sqr()?.affine(1.0, 0.1)?;
        for activation in ACTIVATIONS {
            let what = format!("{dims:?} {activation:?}");
            let run = |x: &[Tensor], residual: Option<&Tensor>| {
                let [x, weight, bias] = [&x[0], &x[1], &x[2]];
                let (mean, variance) = (&mean, &variance);
                let norm = BatchNormConstants { weight, bias, mean, variance, eps: 1e-3 };
                batch_norm_eval(x, &norm, residual, activation)
            };
            let arguments = arguments(dims);
            check_gradients(&what, &arguments[..3], |x| run(x, None));
            check_gradients(&format!("{what} residual"), &arguments, |x| run(x, Some(&x[3])));
        }
    }
    Ok(())
}

/// One node does what two do, whichever of their arguments are trained.
#[test]
fn convolution_and_batch_norm_in_one_are_the_same() -> Result<()> {
    let dims = [&[2, 5, 4, 3][..], &[6, 3, 3, 3], &[6], &[6], &[2, 3, 2, 6]];
    let names = ["x", "kernel", "weight", "bias", "residual"];
    let values: Vec<Tensor> =
        names.iter().zip(dims).map(|(name, dims)| random(name, dims)).collect();
    let config = Conv2dConfig::default().stride(2).padding(1);
    let scale = random("grad", dims[4]);
    for trained in 0..1u32 << names.len() {
        for activation in ACTIVATIONS {
            let variables = values.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
            let input = |i: usize| {
                let is_trained = trained >> i & 1 == 1;
                if is_trained { variables[i].as_tensor().clone() } else { values[i].clone() }
            };
            let [x, kernel, weight, bias, residual] = [0, 1, 2, 3, 4].map(input);
            let residual = Some(&residual);
            let norm = BatchNormParameters::new(&weight, &bias, 1e-3);
            let (y, statistics) =
                conv2d_batch_norm_train(&x, &kernel, &config, &norm, residual, activation)?;
            let plain = conv2d(&x, &kernel, None, &config)?;
            let (plain, plain_statistics) = batch_norm_train(&plain, &norm, residual, activation)?;
            reference::assert_close("values", &y, &plain, 1e-14);
            reference::assert_close("mean", &statistics.mean, &plain_statistics.mean, 1e-14);
            let loss = |y: &Tensor| (y * &scale)?.sum_all();
            let plain = loss(&plain)?.backward()?;
            for gradients in [loss(&y)?.backward()?, backward(&loss(&y)?)?] {
                for (variable, name) in variables.iter().zip(names) {
                    let (found, expected) = (gradients.get(variable), plain.get(variable));
                    assert_eq!(found.is_some(), expected.is_some(), "{name} of {trained:b}");
                    if let (Some(found), Some(expected)) = (found, expected) {
                        reference::assert_close(name, found, expected, 1e-12);
                    }
                }
            }
        }
    }
    Ok(())
}

/// What is not a variable gets no gradient, and what is gets the same one as if all were.
#[test]
fn frozen_arguments_do_not_change_the_others() -> Result<()> {
    let arguments = arguments(&[2, 3, 5, 4]);
    let run = |trained: [bool; 4]| -> Result<Vec<Option<Tensor>>> {
        let variables = arguments.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
        let input = |i: usize| {
            if trained[i] { variables[i].as_tensor().clone() } else { arguments[i].clone() }
        };
        let (x, residual) = (input(0), input(3));
        let (weight, bias) = (input(1), input(2));
        let norm = parameters(&weight, &bias);
        let (y, _) = batch_norm_train(&x, &norm, Some(&residual), Activation::Relu)?;
        let gradients = y.sqr()?.sum_all()?.backward()?;
        Ok(variables.iter().map(|variable| gradients.get(variable).cloned()).collect())
    };
    let all = run([true; 4])?;
    for which in 0..4 {
        let mut trained = [false; 4];
        trained[which] = true;
        for (i, gradient) in run(trained)?.iter().enumerate() {
            assert_eq!(gradient.is_some(), i == which);
            if let (Some(gradient), Some(all)) = (gradient, &all[i]) {
                reference::assert_close(&format!("argument {i} alone"), gradient, all, 1e-12);
            }
        }
    }
    Ok(())
}

#[test]
fn statistics_of_a_large_batch_are_accurate() -> Result<()> {
    let x = reference::image_batch("statistics", &[4, 61, 67, 5])?.affine(0.1, 30.0)?;
    let (one, zero) =
        (Tensor::ones(5, DType::F32, &Device::Cpu)?, Tensor::zeros(5, DType::F32, &Device::Cpu)?);
    let norm = BatchNormParameters::new(&one, &zero, 0.0);
    let (y, statistics) = batch_norm_train(&x, &norm, None, Activation::Identity)?;
    let exact = x.to_dtype(DType::F64)?.reshape(((), 5))?;
    let mean = exact.mean(0)?;
    let centred = exact.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean(0)?;
    reference::assert_close("mean", &statistics.mean, &mean, 1e-7);
    reference::assert_close("variance", &statistics.variance, &variance, 1e-6);
    let normalised = centred.broadcast_div(&variance.sqrt()?)?.reshape(x.dims())?;
    // The input itself is rounded to 3e-5 of its deviation at this mean.
    reference::assert_close("output", &y, &normalised, 3e-5);
    Ok(())
}

#[test]
fn views_are_taken() -> Result<()> {
    let arguments = arguments(&[2, 3, 5, 4]);
    let view = arguments[0].permute([0, 2, 1, 3])?;
    let copy = view.contiguous()?;
    let run = |x: &Tensor| -> Result<Vec<f64>> {
        let norm = BatchNormParameters::new(&arguments[1], &arguments[2], 0.1);
        batch_norm_train(x, &norm, Some(x), Activation::Relu)?.0.flatten_all()?.to_vec1()
    };
    assert_eq!(run(&view)?, run(&copy)?);
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    check_threads(|| {
        let x = Var::from_tensor(&reference::image_batch("threads", &[3, 31, 29, 17])?)?;
        let residual = Var::from_tensor(&reference::image_batch("residual", x.dims())?)?;
        let weight = Var::from_tensor(&reference::image_batch("weight", &[17])?)?;
        let bias = Var::from_tensor(&reference::image_batch("bias", &[17])?)?;
        let norm = parameters(&weight, &bias);
        let (y, statistics) = batch_norm_train(&x, &norm, Some(&residual), Activation::Relu)?;
        let gradients = y.sqr()?.sum_all()?.backward()?;
        let inputs = [&x, &residual, &weight, &bias];
        let gradients = inputs.map(|x| gradients.get(x).expect("a gradient").clone());
        Ok([vec![y.detach(), statistics.mean, statistics.variance], gradients.to_vec()].concat())
    });
}

#[test]
fn wrong_arguments_are_named() -> Result<()> {
    let arguments = arguments(&[2, 3, 5, 4]);
    let [x, weight, bias] = [&arguments[0], &arguments[1], &arguments[2]];
    let short = random("short", &[3]);
    let train = |x: &Tensor, weight: &Tensor, bias: &Tensor, residual: Option<&Tensor>| {
        batch_norm_train(x, &parameters(weight, bias), residual, Activation::Relu)
    };
    check_error(train(x, &short, bias, None), &["batch_norm", "weight", "[4]", "[3]"]);
    check_error(train(x, weight, &short, None), &["batch_norm", "bias", "[4]", "[3]"]);
    check_error(train(x, weight, bias, Some(bias)), &["batch_norm", "residual", "[2, 3, 5, 4]"]);
    check_error(
        train(&x.narrow(0, 0, 1)?.narrow(1, 0, 1)?.narrow(2, 0, 1)?, weight, bias, None),
        &["more than one value"],
    );
    check_error(train(x, &weight.to_dtype(DType::F32)?, bias, None), &["weight", "F32", "F64"]);
    let (short_var, batches) = (Var::from_tensor(&short)?, Var::new(0i64, x.device())?);
    let running = RunningStatistics {
        mean: &short_var,
        variance: &short_var,
        batches: &batches,
        momentum: 0.1,
    };
    let norm = BatchNormParameters { running: Some(running), ..parameters(weight, bias) };
    let trained = batch_norm_train(x, &norm, None, Activation::Relu);
    check_error(trained, &["batch_norm", "running mean", "[4]", "[3]"]);
    let norm = BatchNormConstants { weight, bias, mean: &short, variance: bias, eps: 1e-5 };
    check_error(batch_norm_eval(x, &norm, None, Activation::Identity), &["mean", "[4]", "[3]"]);
    Ok(())
}
