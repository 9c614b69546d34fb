//! Single operations at the sizes of ResNet18, beside their plain twins and candle's own.
//!
//! `cargo bench --package candle-vision-ops -- conv2d` runs those whose name holds `conv2d`;
//! `RAYON_NUM_THREADS` sets the threads. candle's own gradients are left out: of convolutions and
//! max pools they are slow by orders of magnitude, or wrong.

mod attention;
mod batch_norm;
mod conv2d;
mod cross_entropy;
mod linear;
mod max_pool2d;

use std::time::Duration;

use candle_core::{Device, Result, Tensor, Var};
use candle_vision_ops::Generator;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion};
use rand::{RngExt, SeedableRng};

// As the programs that train: else page faults are measured instead of kernels.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Images in every batch of feature maps.
const BATCH: usize = 4;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    conv2d::bench(&mut criterion);
    batch_norm::bench(&mut criterion);
    max_pool2d::bench(&mut criterion);
    cross_entropy::bench(&mut criterion);
    linear::bench(&mut criterion);
    attention::bench(&mut criterion);
    criterion.final_summary();
}

/// Times `run`.
fn forward(group: &mut Group<'_>, id: BenchmarkId, run: impl Fn() -> Result<Tensor>) {
    group.bench_function(id, |b| b.iter(|| run().expect(FITS)));
}

/// Times the backward pass of what `run` returns, from a gradient of ones.
fn backward(group: &mut Group<'_>, id: BenchmarkId, run: impl Fn() -> Result<Tensor>) {
    group.bench_function(id, |b| {
        let output = || run().expect(FITS);
        b.iter_batched(output, |y| y.backward().expect(FITS), BatchSize::PerIteration);
    });
}

/// The same noise for the same shape, with a gradient.
fn variable(shape: &[usize]) -> Var {
    let mut rng = Generator::seed_from_u64(0);
    let values = (0..shape.iter().product()).map(|_| rng.random::<f32>() - 0.5).collect();
    let tensor = Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).expect(FITS);
    Var::from_tensor(&tensor).expect(FITS)
}

/// As [`variable`], without a gradient.
fn constant(shape: &[usize]) -> Tensor {
    variable(shape).as_detached_tensor()
}

/// Why no bench fails: its sizes stand in its source.
const FITS: &str = "the operation takes these shapes";
