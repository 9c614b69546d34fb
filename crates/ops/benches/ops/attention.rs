//! Attention of ViT-B on images of 224x224, and of Swin's first stage, beside the composition of this crate's
//! other ops.

use candle_core::{Result, Tensor};
use candle_vision_ops::{
    AttentionOptions, attention, matmul, permute, reshape, scale, slice, softmax, transpose,
};
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::{BATCH, backward, forward, variable};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    for (name, [batch, tokens, heads, dim]) in
        [("vit_b", [BATCH, 197, 12, 64]), ("swin_t", [64 * BATCH, 49, 3, 32])]
    {
        let qkv = variable(&[batch, tokens, 3 * heads * dim]);
        let fused = || attention(&qkv, &AttentionOptions::new(heads));
        let plain = || plain_twin(&qkv, heads);
        let id =
            |direction: &str, twin: &str| BenchmarkId::new(format!("{direction} {name}"), twin);
        let product = (batch * heads * tokens * tokens * dim) as u64;
        group.throughput(Throughput::Elements(2 * product));
        forward(&mut group, id("forward", "fused"), fused);
        forward(&mut group, id("forward", "plain"), plain);
        group.throughput(Throughput::Elements(4 * product));
        backward(&mut group, id("backward", "fused"), fused);
        backward(&mut group, id("backward", "plain"), plain);
    }
    group.finish();
}

/// The definition, in this crate's other ops.
fn plain_twin(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, tokens, width) = qkv.dims3()?;
    let dim = width / 3 / heads;
    let parts = permute(&reshape(qkv, (batch, tokens, 3, heads, dim))?, &[2, 0, 3, 1, 4])?;
    let part = |i: usize| reshape(&slice(&parts, 0, i..i + 1)?, (batch, heads, tokens, dim));
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = matmul(&scale(&q, 1.0 / (dim as f64).sqrt())?, &transpose(&k, 2, 3)?)?;
    let y = matmul(&softmax(&scores)?, &v)?;
    reshape(&permute(&y, &[0, 2, 1, 3])?, (batch, tokens, width / 3))
}
