//! Batch norm with ReLU on the feature maps of ResNet18's first stage.

use candle_core::{Result, Tensor};
use candle_vision_ops::{
    Activation, BatchNormConstants, BatchNormParameters, batch_norm_eval, batch_norm_train,
};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::{BATCH, FITS, backward, forward, variable};

const CHANNELS: usize = 64;
const SHAPE: [usize; 4] = [BATCH, 56, 56, CHANNELS];
const EPS: f64 = 1e-5;

pub(crate) fn bench(criterion: &mut Criterion) {
    let (x, weight, bias) = (variable(&SHAPE), variable(&[CHANNELS]), variable(&[CHANNELS]));
    let train = || {
        let relu = Activation::Relu;
        let norm = BatchNormParameters::new(&weight, &bias, EPS);
        Ok(batch_norm_train(&x, &norm, None, relu)?.0)
    };
    let plain = || plain_twin(&x, &weight, &bias);
    let mut group = criterion.benchmark_group("batch norm");
    group.throughput(Throughput::Elements(SHAPE.iter().product::<usize>() as u64));
    forward(&mut group, BenchmarkId::new("forward", "fused"), train);
    forward(&mut group, BenchmarkId::new("forward", "plain"), plain);
    backward(&mut group, BenchmarkId::new("backward", "fused"), train);
    backward(&mut group, BenchmarkId::new("backward", "plain"), plain);

    let detached = [&x, &weight, &bias].map(|var| var.as_detached_tensor());
    let [x, weight, bias] = &detached;
    let (mean, variance) = (weight, &weight.sqr().expect(FITS));
    let norm = BatchNormConstants { weight, bias, mean, variance, eps: EPS };
    forward(&mut group, BenchmarkId::new("eval", "fused"), || {
        batch_norm_eval(x, &norm, None, Activation::Relu)
    });
    group.finish();
}

/// The definition, in candle's operations.
fn plain_twin(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let centered = x.broadcast_sub(&x.mean_keepdim((0, 1, 2))?)?;
    let variance = centered.sqr()?.mean_keepdim((0, 1, 2))?;
    let normalized = centered.broadcast_div(&(variance + EPS)?.sqrt()?)?;
    normalized.broadcast_mul(weight)?.broadcast_add(bias)?.relu()
}
