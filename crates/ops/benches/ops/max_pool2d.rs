//! Max pooling on ResNet18's largest feature maps.

use candle_vision_ops::{MaxPool2dConfig, channels_first, max_pool2d};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::{BATCH, FITS, backward, forward, variable};

const SHAPE: [usize; 4] = [BATCH, 112, 112, 64];

pub(crate) fn bench(criterion: &mut Criterion) {
    let x = variable(&SHAPE);
    let mut group = criterion.benchmark_group("max pool");
    group.throughput(Throughput::Elements(SHAPE.iter().product::<usize>() as u64));
    // The 3x3 pool is ResNet's; candle's has no padding, so it is compared on a 2x2 pool.
    let resnet = MaxPool2dConfig::new(3).stride(2).padding(1);
    forward(&mut group, BenchmarkId::new("forward 3x3", "ours"), || max_pool2d(&x, &resnet));
    backward(&mut group, BenchmarkId::new("backward 3x3", "ours"), || max_pool2d(&x, &resnet));
    let halves = MaxPool2dConfig::new(2);
    forward(&mut group, BenchmarkId::new("forward 2x2", "ours"), || max_pool2d(&x, &halves));
    let x = channels_first(&x.as_detached_tensor()).and_then(|x| x.contiguous()).expect(FITS);
    forward(&mut group, BenchmarkId::new("forward 2x2", "candle"), || x.max_pool2d(2));
    group.finish();
}
