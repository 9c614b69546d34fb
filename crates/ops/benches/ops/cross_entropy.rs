//! Softmax and cross entropy over ImageNet's classes.

use candle_core::{Device, Result, Tensor};
use candle_vision_ops::{CrossEntropyConfig, Targets, cross_entropy};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::{FITS, backward, forward, variable};

const ROWS: usize = 64;
const CLASSES: usize = 1000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let logits = variable(&[ROWS, CLASSES]);
    let labels = Tensor::arange(0, ROWS as u32, &Device::Cpu).expect(FITS);
    let config = CrossEntropyConfig::default();
    let fused = || cross_entropy(&logits, Targets::Labels(&labels), &config);
    let plain = || plain_twin(&logits, &labels);
    let mut group = criterion.benchmark_group("cross entropy");
    group.throughput(Throughput::Elements((ROWS * CLASSES) as u64));
    forward(&mut group, BenchmarkId::new("forward", "fused"), fused);
    forward(&mut group, BenchmarkId::new("forward", "plain"), plain);
    backward(&mut group, BenchmarkId::new("backward", "fused"), fused);
    backward(&mut group, BenchmarkId::new("backward", "plain"), plain);
    group.finish();
}

/// The definition, in candle's operations.
fn plain_twin(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let log_probabilities = logits.broadcast_sub(&logits.log_sum_exp(1)?.unsqueeze(1)?)?;
    log_probabilities.gather(&labels.unsqueeze(1)?, 1)?.mean_all()?.neg()
}
