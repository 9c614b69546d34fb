//! The convolutions of ResNet18 at 224x224, and one at 32x32.

use candle_core::Tensor;
use candle_vision_ops::{Conv2dConfig, channels_first, conv2d, set_exact_convolution};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use crate::{BATCH, FITS, Group, backward, constant, forward, variable};

struct Layer {
    name: &'static str,
    channels: [usize; 2],
    /// Height and width of the input.
    side: usize,
    kernel: usize,
    stride: usize,
}

const LAYERS: [Layer; 8] = [
    Layer { name: "conv1", channels: [3, 64], side: 224, kernel: 7, stride: 2 },
    Layer { name: "layer1.0.conv1", channels: [64, 64], side: 56, kernel: 3, stride: 1 },
    Layer { name: "layer2.0.conv1", channels: [64, 128], side: 56, kernel: 3, stride: 2 },
    Layer { name: "layer2.0.downsample.0", channels: [64, 128], side: 56, kernel: 1, stride: 2 },
    Layer { name: "layer2.0.conv2", channels: [128, 128], side: 28, kernel: 3, stride: 1 },
    Layer { name: "layer3.0.conv2", channels: [256, 256], side: 14, kernel: 3, stride: 1 },
    Layer { name: "layer4.0.conv2", channels: [512, 512], side: 7, kernel: 3, stride: 1 },
    Layer { name: "2x2 maps", channels: [256, 256], side: 2, kernel: 3, stride: 1 },
];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv2d forward");
    group.sampling_mode(SamplingMode::Flat);
    LAYERS.iter().for_each(|layer| layer.bench_forward(&mut group));
    group.finish();
    let mut group = criterion.benchmark_group("conv2d backward");
    group.sampling_mode(SamplingMode::Flat);
    LAYERS.iter().for_each(|layer| layer.bench_backward(&mut group));
    group.finish();
}

impl Layer {
    fn bench_forward(&self, group: &mut Group<'_>) {
        let (x, kernel) = (constant(&self.input()), constant(&self.weight()));
        let config = self.config();
        group.throughput(Throughput::Elements(self.multiply_adds()));
        self.twins(|twin| {
            forward(group, self.id(twin), || conv2d(&x, &kernel, None, &config));
        });
        let x = channels_first(&x).and_then(|x| x.contiguous()).expect(FITS);
        let candle = || x.conv2d(&kernel, self.kernel / 2, self.stride, 1, 1);
        forward(group, self.id("candle"), candle);
    }

    /// With respect to input and kernel; the first layer has no use for the former.
    fn bench_backward(&self, group: &mut Group<'_>) {
        let (x, kernel) = (variable(&self.input()), variable(&self.weight()));
        let is_first = self.channels[0] == 3;
        let x: Tensor = if is_first { x.as_detached_tensor() } else { x.as_tensor().clone() };
        let config = self.config();
        let gradients = if is_first { 1 } else { 2 };
        group.throughput(Throughput::Elements(gradients * self.multiply_adds()));
        self.twins(|twin| {
            backward(group, self.id(twin), || conv2d(&x, &kernel, None, &config));
        });
    }

    /// `run` as training runs it, and, where that may take Winograd's way, as its plain twin.
    fn twins(&self, mut run: impl FnMut(&'static str)) {
        run("fast");
        if self.kernel == 3 && self.stride == 1 {
            set_exact_convolution(true);
            run("exact");
            set_exact_convolution(false);
        }
    }

    fn id(&self, twin: &str) -> BenchmarkId {
        BenchmarkId::new(twin, self.name)
    }

    fn input(&self) -> [usize; 4] {
        [BATCH, self.side, self.side, self.channels[0]]
    }

    fn weight(&self) -> [usize; 4] {
        [self.channels[1], self.channels[0], self.kernel, self.kernel]
    }

    fn config(&self) -> Conv2dConfig {
        Conv2dConfig::default().stride(self.stride).padding(self.kernel / 2)
    }

    /// Of the plain sum, whatever way is taken.
    fn multiply_adds(&self) -> u64 {
        let out_side = self.side / self.stride;
        (BATCH * out_side * out_side * self.weight().iter().product::<usize>()) as u64
    }
}
