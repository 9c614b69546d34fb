//! Batch norm, alone and behind a convolution.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_vision_ops::{
    AcrossRanks, Activation, BatchNormConstants, BatchNormParameters, Conv2dConfig,
    RunningStatistics, add, backward_from, batch_norm_eval, batch_norm_train,
    batch_norm_train_across_ranks, conv2d_batch_norm_train, layer_norm, scale,
};

use crate::measure::assert_near;
use crate::twins::{TYPES, WITH_RELU, check_in, cuda, full, map, random};

const EPS: f64 = 1e-5;
const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::Relu, Activation::Relu6];
/// Up to 1024 values of a channel, a pass is one launch. With more it is two.
const MAPS: [[usize; 4]; 7] = [
    [2, 5, 7, 3],
    [4, 3, 3, 64],
    [3, 9, 2, 70],
    [3, 2, 1, 1],
    [4, 16, 16, 40],
    [1, 33, 32, 64],
    [3, 18, 20, 5],
];

#[test]
fn training_is_the_cpus() {
    for dims in MAPS {
        for activation in ACTIVATIONS {
            let c = [dims[3]];
            let inputs =
                [map("x", &dims), full("weight", &c), full("bias", &c), map("residual", &dims)];
            let what = format!("batch norm {dims:?} {activation:?}");
            check_in(&what, &WITH_RELU, &inputs[..3], |x| {
                let norm = BatchNormParameters::new(&x[1], &x[2], EPS);
                Ok(batch_norm_train(&x[0], &norm, None, activation)?.0)
            });
            check_in(&format!("{what} with residual"), &WITH_RELU, &inputs, |x| {
                let norm = BatchNormParameters::new(&x[1], &x[2], EPS);
                Ok(batch_norm_train(&x[0], &norm, Some(&x[3]), activation)?.0)
            });
        }
    }
}

/// The end of a residual block is used twice: its batch norm adds the two gradients itself.
#[test]
fn gradients_of_several_uses_are_added() {
    let same = Conv2dConfig::default().padding(1);
    for dims in [[2, 5, 7, 3], [4, 3, 3, 64], [1, 33, 32, 8], [2, 24, 23, 5]] {
        let c = [dims[3]];
        let kernel = map("kernel", &[dims[3], dims[3], 3, 3]);
        let inputs =
            [map("x", &dims), kernel, full("weight", &c), full("bias", &c), map("residual", &dims)];
        for uses in [2, 3, 4] {
            for activation in [Activation::Relu, Activation::Relu6, Activation::Identity] {
                let what = format!("batch norm {dims:?} {activation:?}, used {uses} times");
                check_in(&what, &WITH_RELU, &inputs, |x| {
                    let norm = BatchNormParameters::new(&x[2], &x[3], EPS);
                    let y = batch_norm_train(&x[0], &norm, Some(&x[4]), activation)?.0;
                    let (z, _) =
                        conv2d_batch_norm_train(&y, &x[1], &same, &norm, Some(&y), activation)?;
                    let mut sum = z.clone();
                    for i in 1..uses {
                        sum = add(&sum, &scale(&z, f64::from(i))?)?;
                    }
                    Ok(sum)
                });
            }
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
            let norm = BatchNormParameters::new(&i[2], &i[3], EPS);
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
    let alone: Arc<dyn AcrossRanks> = Arc::new(Alone);
    let run = |device: &Device, ranks: Option<&Arc<dyn AcrossRanks>>| -> Result<[Tensor; 2]> {
        let there = |x: &Tensor| x.to_device(device);
        let (x, one) = (there(&x)?, there(&Tensor::ones(6, x.dtype(), &Device::Cpu)?)?);
        let zero = one.zeros_like()?;
        let mean = Var::from_tensor(&there(&random("mean", &[6]))?)?;
        let variance = Var::from_tensor(&there(&random("var", &[6]))?)?;
        let batches = Var::new(6i64, device)?;
        let running = RunningStatistics {
            mean: &mean,
            variance: &variance,
            batches: &batches,
            momentum: 0.1,
        };
        let running = Some(running);
        let norm = BatchNormParameters { running, ..BatchNormParameters::new(&one, &zero, EPS) };
        match ranks {
            None => batch_norm_train(&x, &norm, None, Activation::Identity)?,
            Some(ranks) => {
                batch_norm_train_across_ranks(&x, &norm, None, Activation::Identity, ranks)?
            }
        };
        assert_eq!(batches.to_scalar::<i64>()?, 7);
        let back = |var: Var| var.as_detached_tensor().to_device(&Device::Cpu);
        Ok([back(mean)?, back(variance)?])
    };
    let expected = run(&Device::Cpu, None)?;
    for ranks in [None, Some(&alone)] {
        let found = run(&cuda.device, ranks)?;
        for (what, (found, expected)) in
            ["mean", "variance"].iter().zip(found.iter().zip(&expected))
        {
            assert_near(what, found, expected, 1e-5);
        }
    }
    Ok(())
}

/// A job of one process.
#[derive(Debug)]
struct Alone;

impl AcrossRanks for Alone {
    fn all_gather(&self, tensor: &Tensor) -> Result<Vec<Tensor>> {
        Ok(vec![tensor.clone()])
    }
}

/// Chunks of rows; columns of blocks; both, in packs of 4, of 8, and of none.
const MANY_CHUNKS: [[usize; 4]; 5] =
    [[4, 41, 43, 64], [2, 3, 5, 600], [3, 24, 24, 272], [3, 20, 20, 261], [2, 70, 70, 3]];

#[test]
fn sums_of_many_chunks_are_the_cpus() {
    for dims in MANY_CHUNKS {
        let c = [dims[3]];
        let inputs =
            [map("x", &dims), full("weight", &c), full("bias", &c), map("residual", &dims)];
        for count in [3, 4] {
            check_in(
                &format!("batch norm {dims:?} of {count}"),
                &WITH_RELU,
                &inputs[..count],
                |x| {
                    let norm = BatchNormParameters::new(&x[1], &x[2], EPS);
                    Ok(batch_norm_train(&x[0], &norm, x.get(3), Activation::Relu)?.0)
                },
            );
        }
        check_in(&format!("layer norm {dims:?}"), &TYPES, &inputs[..3], |x| {
            layer_norm(&x[0], &x[1], &x[2], 1e-5)
        });
    }
}

/// The block that ends last adds up what all have left, and the next launch counts from the beginning.
#[test]
fn every_launch_gives_the_same_sums() -> Result<()> {
    let Some(cuda) = cuda() else { return Ok(()) };
    for dims in MANY_CHUNKS {
        let x =
            Var::from_tensor(&random("x", &dims).to_dtype(DType::F32)?.to_device(&cuda.device)?)?;
        let weight = Var::ones(dims[3], DType::F32, &cuda.device)?;
        let run = || -> Result<[Vec<f32>; 2]> {
            let norm = BatchNormParameters::new(&weight, &weight, EPS);
            let (y, statistics) = batch_norm_train(&x, &norm, Some(&x), Activation::Relu)?;
            let gradients = backward_from(&y, &y.detach())?;
            let of_weight = gradients.get(&weight).expect("a gradient").to_vec1()?;
            Ok([statistics.variance.to_vec1()?, of_weight])
        };
        let first = run()?;
        for _ in 0..3 {
            assert_eq!(run()?, first, "{dims:?}");
        }
    }
    Ok(())
}
