//! Batch norm, alone and behind a convolution.

use candle_core::{Device, Result, Tensor, Var};
use candle_vision_ops::{
    Activation, BatchNormConstants, BatchNormParameters, Conv2dConfig, batch_norm_eval,
    batch_norm_train, conv2d_batch_norm_train, layer_norm,
};

use crate::measure::assert_near;
use crate::twins::{TYPES, WITH_RELU, check_in, cuda, full, map, random};

const EPS: f64 = 1e-5;
const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::Relu, Activation::Relu6];
const MAPS: [[usize; 4]; 4] = [[2, 5, 7, 3], [4, 3, 3, 64], [3, 9, 2, 70], [3, 2, 1, 1]];

#[test]
fn training_is_the_cpus() {
    for dims in MAPS {
        for activation in ACTIVATIONS {
            let c = [dims[3]];
            let inputs =
                [map("x", &dims), full("weight", &c), full("bias", &c), map("residual", &dims)];
            let what = format!("batch norm {dims:?} {activation:?}");
            check_in(&what, &WITH_RELU, &inputs[..3], |x| {
                Ok(batch_norm_train(&x[0], &x[1], &x[2], None, activation, EPS)?.0)
            });
            check_in(&format!("{what} with residual"), &WITH_RELU, &inputs, |x| {
                Ok(batch_norm_train(&x[0], &x[1], &x[2], Some(&x[3]), activation, EPS)?.0)
            });
        }
    }
}

#[test]
fn evaluation_is_the_cpus() {
    for dims in MAPS {
        for activation in ACTIVATIONS {
            let c = [dims[3]];
            let inputs =
                [map("x", &dims), full("weight", &c), full("bias", &c), map("residual", &dims)];
            check_in(&format!("batch norm, evaluated {dims:?}"), &WITH_RELU, &inputs, |x| {
                let there = |name: &str| random(name, &c).to_device(x[0].device());
                let (mean, variance) = (there("mean")?, (there("variance")?.sqr()? + 0.1)?);
                let residual = Some(&x[3]);
                let (weight, bias, mean, variance) = (&x[1], &x[2], &mean, &variance);
                let norm = BatchNormConstants { weight, bias, mean, variance, eps: EPS };
                batch_norm_eval(&x[0], &norm, residual, activation)
            });
        }
    }
}

#[test]
fn behind_a_convolution_it_is_the_cpus() {
    let same = Conv2dConfig::default().padding(1);
    let uneven = Conv2dConfig::default().padding([0, 2, 2, 0]);
    for (activation, config) in ACTIVATIONS
        .map(|activation| (activation, same))
        .into_iter()
        .chain([(Activation::Relu, uneven), (Activation::Silu, same)])
    {
        let inputs = [
            map("x", &[2, 6, 5, 4]),
            map("kernel", &[8, 4, 3, 3]),
            full("weight", &[8]),
            full("bias", &[8]),
            map("residual", &[2, 6, 5, 8]),
        ];
        check_in(&format!("conv + batch norm {activation:?}"), &WITH_RELU, &inputs, |i| {
            let norm = BatchNormParameters { weight: &i[2], bias: &i[3], eps: EPS };
            let residual = Some(&i[4]);
            let (y, _) =
                conv2d_batch_norm_train(&i[0], &i[1], &config, &norm, residual, activation)?;
            Ok(y)
        });
    }
}

#[test]
fn layer_norm_is_the_cpus() {
    for dims in [vec![4, 10], vec![2, 3, 5, 96], vec![300, 70], vec![4, 1], vec![1]] {
        let features = &dims[dims.len() - 1..];
        let inputs = [map("x", &dims), full("weight", features), full("bias", features)];
        check_in(&format!("layer norm {dims:?}"), &TYPES, &inputs, |x| {
            layer_norm(&x[0], &x[1], &x[2], 1e-5)
        });
    }
}

#[test]
fn running_statistics_move_as_on_the_cpu() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    let x = (random("x", &[5, 4, 3, 6]) + 100.0)?;
    let run = |device: &Device| -> Result<[Tensor; 4]> {
        let there = |x: &Tensor| x.to_device(device);
        let (one, zero) = (there(&Tensor::ones(6, x.dtype(), &Device::Cpu)?)?, 0.0);
        let bias = (&one * zero)?;
        let (_, statistics) =
            batch_norm_train(&there(&x)?, &one, &bias, None, Activation::Identity, EPS)?;
        let (mean, variance) = (there(&random("mean", &[6]))?, there(&random("var", &[6]))?);
        let running = [Var::from_tensor(&mean)?, Var::from_tensor(&variance)?];
        let batches = Var::new(6i64, device)?;
        statistics.update_in_place([&running[0], &running[1]], &batches, 0.1)?;
        assert_eq!(batches.to_scalar::<i64>()?, 7);
        let [in_place_mean, in_place_variance] = running.map(|var| var.as_detached_tensor());
        let (mean, variance) = statistics.update(&mean, &variance, 0.1)?;
        let back = |tensor: Tensor| tensor.to_device(&Device::Cpu);
        let in_place = [back(in_place_mean)?, back(in_place_variance)?];
        let [in_place_mean, in_place_variance] = in_place;
        Ok([back(mean)?, back(variance)?, in_place_mean, in_place_variance])
    };
    let (expected, found) = (run(&Device::Cpu)?, run(&cuda.device)?);
    let what = ["mean", "variance", "mean in place", "variance in place"];
    for (what, (found, expected)) in what.iter().zip(found.iter().zip(&expected)) {
        assert_near(what, found, expected, 1e-5);
    }
    Ok(())
}
