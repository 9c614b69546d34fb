//! The matrix products of a classifier: ResNet18's `fc`, and the first layer of an MLP.

use candle_core::{Result, Tensor};
use candle_vision_ops::linear;
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::{backward, forward, variable};

const ROWS: usize = 64;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    for [inputs, outputs] in [[512, 1000], [784, 128]] {
        let x = variable(&[ROWS, inputs]);
        let (weight, bias) = (variable(&[outputs, inputs]), variable(&[outputs]));
        let ours = || linear(&x, &weight, Some(&bias));
        let candle = || candle_twin(&x, &weight, &bias);
        let id = |direction: &str, twin: &str| {
            BenchmarkId::new(format!("{direction} {inputs}-{outputs}"), twin)
        };
        group.throughput(Throughput::Elements((ROWS * inputs * outputs) as u64));
        forward(&mut group, id("forward", "ours"), ours);
        forward(&mut group, id("forward", "candle"), candle);
        group.throughput(Throughput::Elements((2 * ROWS * inputs * outputs) as u64));
        backward(&mut group, id("backward", "ours"), ours);
        backward(&mut group, id("backward", "candle"), candle);
    }
    group.finish();
}

fn candle_twin(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)?.broadcast_add(bias)
}
