//! Convolutions, through cuDNN and without.

use std::process::Command;

use candle_core::{DType, Result, Tensor, Var};
use candle_vision_ops::{
    Activation, BatchNormConstants, BatchNormParameters, Conv2dConfig, Padding2d, PreparedConv2d,
    add, backward_from, cast, conv2d, conv2d_activated, conv2d_batch_norm_train, kernels_in_order,
    linear,
};

use crate::twins::{Input, WITH_RELU, check, check_in, cuda, map, random};

/// Images `[batch, height, width, in]`, kernel `[out, in / groups, height, width]`.
fn cases() -> Vec<([usize; 4], [usize; 4], Conv2dConfig)> {
    let config = Conv2dConfig::default;
    vec![
        ([2, 8, 8, 16], [16, 16, 3, 3], config().padding(1)),
        ([1, 7, 9, 3], [10, 3, 7, 7], config().padding(3).stride(2)),
        ([3, 5, 6, 8], [4, 8, 1, 1], config().stride(2)),
        ([2, 9, 7, 4], [6, 2, 3, 3], config().padding(1).groups(2)),
        ([2, 6, 6, 5], [5, 1, 3, 3], config().padding(1).groups(5)),
        ([1, 11, 10, 2], [3, 2, 3, 3], config().padding(2).dilation(2)),
        ([2, 8, 10, 3], [4, 3, 3, 5], config().stride([2, 1]).padding([0, 2])),
        ([2, 8, 10, 4], [6, 4, 3, 3], config().stride(2).padding(Padding2d::SameTf)),
        ([2, 8, 7, 4], [4, 1, 3, 2], config().padding([0, 2, 1, 0]).groups(4)),
        // The first layers of networks, whose pixels become channels.
        ([2, 6, 5, 3], [8, 3, 3, 3], config().padding(1)),
        ([2, 9, 8, 1], [4, 1, 5, 5], config().padding(2)),
        ([1, 9, 13, 3], [5, 3, 4, 4], config().stride(4)),
        ([2, 7, 6, 2], [3, 2, 1, 1], config().stride(2)),
        ([1, 11, 11, 3], [4, 3, 5, 5], config().stride(4).padding(2)),
        ([1, 9, 8, 3], [4, 3, 3, 3], config().stride([3, 2]).padding([1, 0, 2, 1])),
    ]
}

#[test]
fn convolutions_and_their_gradients_are_the_cpus() {
    for (x, kernel, config) in cases() {
        let inputs = [map("x", &x), map("kernel", &kernel)];
        check(&format!("conv2d {x:?} {kernel:?}"), &inputs, |inputs| {
            conv2d(&inputs[0], &inputs[1], None, &config)
        });
    }
}

/// Laid out together, kernels give the same bits as one by one.
#[test]
fn kernels_in_order_change_nothing() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    // The third and the fourth need no order. 60 kernels take two launches.
    let mut shapes = vec![[16, 16, 3, 3], [6, 5, 1, 7], [8, 3, 3, 3], [4, 8, 1, 1]];
    shapes.extend([[5, 6, 2, 3]; 56]);
    let kernels = shapes.iter().enumerate().map(|(i, shape)| {
        Var::from_tensor(&random(&format!("kernel {i}"), shape).to_device(&cuda.device)?)
    });
    let kernels: Vec<Var> = kernels.collect::<Result<_>>()?;
    let one = Tensor::ones(16, DType::F32, &cuda.device)?;
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let all: Vec<&Tensor> = kernels.iter().map(|kernel| kernel.as_tensor()).collect();
        let in_order = kernels_in_order(&all, dtype)?;
        let one_by_one: Vec<Tensor> =
            all.iter().map(|kernel| cast(kernel, dtype)).collect::<Result<_>>()?;
        for (i, (kernel, laid_out)) in one_by_one.iter().zip(&in_order).enumerate() {
            let size = kernel.dim(1)?;
            let config = Conv2dConfig::default().padding(3);
            let x = random("x", &[2, 5, 4, size]).to_dtype(dtype)?.to_device(&cuda.device)?;
            let x = Var::from_tensor(&x)?;
            let run = |kernel: &Tensor| -> Result<Vec<Vec<f32>>> {
                let y = conv2d(&x, kernel, None, &config)?;
                let y = if i == 0 {
                    let norm = BatchNormParameters::new(&one, &one, 1e-5);
                    let relu = Activation::Relu;
                    let z = conv2d_batch_norm_train(&x, kernel, &config, &norm, None, relu)?.0;
                    add(&y, &z)?
                } else {
                    y
                };
                let mut gradients = backward_from(&y, &y.detach())?;
                let of_kernel = gradients.remove(&kernels[i]).expect("a gradient");
                assert_eq!((of_kernel.dtype(), of_kernel.dims()), (DType::F32, kernel.dims()));
                let of_x = gradients.remove(&x).expect("a gradient").to_dtype(DType::F32)?;
                let tensors = [kernel.to_dtype(DType::F32)?, of_kernel, of_x];
                tensors.iter().map(|x| x.flatten_all()?.to_vec1()).collect()
            };
            assert_eq!(run(laid_out)?, run(kernel)?, "{dtype:?} {:?}", kernel.dims());
        }
    }
    Ok(())
}

#[test]
fn so_are_those_with_a_bias_and_a_relu() {
    for activation in [Activation::Identity, Activation::Relu, Activation::Relu6, Activation::Mish]
    {
        for (x, kernel, config) in cases() {
            let inputs = [map("x", &x), map("kernel", &kernel), map("bias", &kernel[..1])];
            let what = format!("{activation:?} of conv2d {x:?} {kernel:?}");
            check_in(&what, &WITH_RELU, &inputs, |inputs| {
                conv2d_activated(&inputs[0], &inputs[1], Some(&inputs[2]), activation, &config)
            });
        }
    }
}

#[test]
fn prepared_convolutions_are_the_cpus() -> Result<()> {
    for (x, kernel, config) in cases() {
        let out = kernel[0];
        let constants = ["weight", "bias", "mean"].map(|name| random(name, &[out]));
        let variance = (random("variance", &[out]).sqr()? + 0.5)?;
        let (x, kernel) = (random("x", &x), random("kernel", &kernel));
        let run = |device: &candle_core::Device| -> Result<Vec<Tensor>> {
            let there = |x: &Tensor| x.to_device(device);
            let [weight, bias, mean] = constants.each_ref().map(there);
            let norm = BatchNormConstants {
                weight: &weight?,
                bias: &bias?,
                mean: &mean?,
                variance: &there(&variance)?,
                eps: 1e-5,
            };
            let conv = PreparedConv2d::with_batch_norm(&there(&kernel)?, &norm, &config)?;
            let x = there(&x)?;
            let y = conv.forward(&x, None, Activation::Identity)?;
            let residual = there(&random("residual", y.dims()))?;
            let z = conv.forward(&x, Some(&residual), Activation::Relu)?;
            let w = conv.forward(&x, Some(&residual), Activation::Elu { alpha: 0.7 })?;
            [y, z, w].iter().map(|y| y.to_device(&candle_core::Device::Cpu)).collect()
        };
        let Some(cuda) = cuda() else { return Ok(()) };
        let (expected, found) = (run(&candle_core::Device::Cpu)?, run(&cuda.device)?);
        for (found, expected) in found.iter().zip(&expected) {
            let (found, expected) = (found.to_dtype(DType::F64)?, expected.to_dtype(DType::F64)?);
            crate::measure::assert_near("prepared", &found, &expected, 1e-4);
        }
    }
    Ok(())
}

#[test]
fn prepared_convolutions_of_halves_are_the_cpus() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for (x, kernel, config) in cases() {
        let (bias, x) = (random("bias", &kernel[..1]), random("x", &x));
        let kernel = random("kernel", &kernel);
        for (dtype, tolerance) in [(DType::F16, 4e-3), (DType::BF16, 3e-2)] {
            // The CPU computes with the halves' values.
            let rounded = |x: &Tensor| x.to_dtype(dtype)?.to_dtype(DType::F32);
            let plain = PreparedConv2d::new(&rounded(&kernel)?, Some(&rounded(&bias)?), &config)?;
            let there = |x: &Tensor| x.to_device(&cuda.device);
            let halves = PreparedConv2d::new(&there(&kernel)?, Some(&there(&bias)?), &config)?;
            let halves = halves.to_dtype(dtype)?;
            let plain_y = plain.forward(&rounded(&x)?, None, Activation::Relu)?;
            let residual = random("residual", plain_y.dims());
            let with = |activation| -> Result<[Tensor; 2]> {
                let expected =
                    plain.forward(&rounded(&x)?, Some(&rounded(&residual)?), activation)?;
                let (x, residual) =
                    (there(&x)?.to_dtype(dtype)?, there(&residual)?.to_dtype(dtype)?);
                Ok([expected, halves.forward(&x, Some(&residual), activation)?])
            };
            let y = halves.forward(&there(&x)?.to_dtype(dtype)?, None, Activation::Relu)?;
            for [expected, found] in
                [[plain_y, y], with(Activation::Relu)?, with(Activation::Identity)?]
            {
                let found = found.to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F64)?;
                let what = format!("{dtype:?} {config:?}");
                crate::measure::assert_near(
                    &what,
                    &found,
                    &expected.to_dtype(DType::F64)?,
                    tolerance,
                );
            }
        }
    }
    Ok(())
}

#[test]
fn linear_layers_are_the_cpus() {
    for (x, outputs) in [(vec![4, 6], 3), (vec![7], 5), (vec![2, 3, 10], 1)] {
        let inputs =
            [map("x", &x), map("weight", &[outputs, x[x.len() - 1]]), map("bias", &[outputs])];
        check(&format!("linear {x:?}"), &inputs, |inputs| {
            linear(&inputs[0], &inputs[1], Some(&inputs[2]))
        });
        check(&format!("linear {x:?} without bias"), &inputs[..2], |inputs| {
            linear(&inputs[0], &inputs[1], None)
        });
    }
}

#[test]
fn an_input_without_a_variable_gets_no_gradient() {
    let image = random("image", &[2, 6, 6, 3]);
    let kernel = [Input::Map(random("kernel", &[4, 3, 3, 3]))];
    check("conv2d of a constant", &kernel, |inputs| {
        let x = image.to_device(inputs[0].device())?.to_dtype(inputs[0].dtype())?;
        conv2d(&x, &inputs[0], None, &Conv2dConfig::default())
    });
}

/// Runs this program's convolutions again with cuDNN switched off: the way of products.
#[test]
fn all_of_it_holds_without_cudnn() {
    const SWITCH: &str = "CANDLE_VISION_CUDNN";
    if std::env::var_os(SWITCH).is_some() || cuda().is_none() {
        return;
    }
    let program = std::env::current_exe().expect("this test has a program");
    let output = Command::new(program).arg("convolution::").env(SWITCH, "off").output();
    let output = output.expect("the program starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "without cuDNN:\n{text}");
    assert!(!text.contains("running 0 tests"), "no test is called so");
}
