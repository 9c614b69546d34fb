use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Ten times what is measured, a hundredth of what training notices.
const TOLERANCE: f64 = 1e-5;

pub(super) fn shape(
    batch: usize,
    size: [usize; 2],
    in_channels: usize,
    out_channels: usize,
) -> ConvShape {
    ConvShape {
        batch,
        in_size: size,
        in_channels,
        out_size: size,
        out_channels,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        groups: 1,
        exact: false,
    }
}

/// A convolution with operands and gradients of random values.
struct Case {
    shape: ConvShape,
    x: Vec<f32>,
    kernel: Vec<f32>,
    dy: Vec<f32>,
}

/// Output, gradient of the input and gradient of the kernel.
#[derive(Debug, PartialEq)]
struct Results<T> {
    y: Vec<T>,
    dx: Vec<T>,
    dkernel: Vec<T>,
}

impl Case {
    fn new(shape: ConvShape, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut random = |len| (0..len).map(|_| rng.random_range(-1.0..1.0)).collect();
        let pixels = shape.batch * shape.in_size[0] * shape.in_size[1];
        Self {
            shape,
            x: random(pixels * shape.in_channels),
            kernel: random(shape.out_channels * shape.in_channels * 9),
            dy: random(pixels * shape.out_channels),
        }
    }

    fn fast(&self, level: Level, size: Size) -> Results<f32> {
        // Stale values, so that a result that is not written or is added to shows.
        let mut results = Results {
            y: vec![f32::NAN; self.dy.len()],
            dx: vec![f32::NAN; self.x.len()],
            dkernel: vec![f32::NAN; self.kernel.len()],
        };
        let shape = &self.shape;
        forward_at(level, size, &self.x, &self.kernel, &mut results.y, shape);
        backward_data_at(level, size, &self.dy, &self.kernel, &mut results.dx, shape);
        backward_weight_at(level, size, &self.x, &self.dy, &mut results.dkernel, shape);
        results
    }

    /// The definition of the convolution and of its gradients, summed in `f64`.
    fn direct(&self) -> Results<f64> {
        let shape = &self.shape;
        let [height, width] = shape.in_size;
        let (inputs, outputs) = (shape.in_channels, shape.out_channels);
        let mut results = Results {
            y: vec![0.0; self.dy.len()],
            dx: vec![0.0; self.x.len()],
            dkernel: vec![0.0; self.kernel.len()],
        };
        for index in 0..shape.batch * height * width * 9 {
            let (pixel, tap) = (index / 9, index % 9);
            let (row, column) = (pixel / width % height + tap / 3, pixel % width + tap % 3);
            if !(1..=height).contains(&row) || !(1..=width).contains(&column) {
                continue;
            }
            let image = pixel / (height * width);
            let from = (image * height + row - 1) * width + column - 1;
            for (i, o) in (0..inputs).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
                let (x, y, k) =
                    (from * inputs + i, pixel * outputs + o, (o * inputs + i) * 9 + tap);
                let [xv, yv, kv] = [self.x[x], self.dy[y], self.kernel[k]].map(f64::from);
                results.y[y] += xv * kv;
                results.dx[x] += yv * kv;
                results.dkernel[k] += xv * yv;
            }
        }
        results
    }

    /// Compares every level with the definition.
    #[track_caller]
    fn check(&self) {
        let expected = self.direct();
        for (level, size) in ways() {
            let results = self.fast(level, size);
            for (name, values, expected) in [
                ("y", &results.y, &expected.y),
                ("dx", &results.dx, &expected.dx),
                ("dkernel", &results.dkernel, &expected.dkernel),
            ] {
                let error = relative_error(values, expected);
                assert!(
                    error <= TOLERANCE,
                    "{name}: error {error:e} with {level:?}, {size:?} for {:?}",
                    self.shape
                );
            }
        }
    }
}

/// Largest difference, as a fraction of the largest expected value.
fn relative_error(values: &[f32], expected: &[f64]) -> f64 {
    let differences = values.iter().zip(expected);
    let difference = differences
        .map(|(&value, expected)| (f64::from(value) - expected).abs())
        // A NaN must not get lost, as `f64::max` would.
        .fold(0.0, |a, b| if b <= a { a } else { b });
    let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    difference / largest.max(f64::MIN_POSITIVE)
}

/// Every instruction set with every size of tiles.
fn ways() -> impl Iterator<Item = (Level, Size)> {
    let sizes = |level| [Size::F2, Size::F4].map(|size| (level, size));
    Level::available().into_iter().flat_map(sizes)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[test]
fn random_shapes_agree_with_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for seed in 0..60 {
        let size = [rng.random_range(1..=17), rng.random_range(1..=17)];
        let (inputs, outputs) = (rng.random_range(1..=70), rng.random_range(1..=70));
        let batch = rng.random_range(1..=3);
        Case::new(shape(batch, size, inputs, outputs), seed).check();
    }
}

#[test]
fn smallest_maps_agree_with_the_definition() {
    for size in [[1, 1], [1, 5], [6, 1], [2, 2], [4, 4], [5, 5]] {
        Case::new(shape(1, size, 1, 1), 1).check();
        // Under Miri, which takes a thousand times as long, the tails of small vectors have to do.
        if !cfg!(miri) {
            Case::new(shape(2, size, 16, 33), 2).check();
        }
    }
}

/// Takes the ways in which `correlate` and `backward_weight` order the work.
#[test]
fn many_channels_agree_with_the_definition() {
    Case::new(shape(1, [6, 5], 260, 257), 3).check();
    Case::new(shape(2, [31, 37], 19, 130), 4).check();
    Case::new(shape(1, [75, 70], 70, 64), 5).check();
}

#[test]
fn empty_batch_has_empty_maps_and_no_gradient() {
    let case = Case::new(shape(0, [5, 5], 3, 4), 1);
    for (level, size) in ways() {
        let results = case.fast(level, size);
        assert!(results.y.is_empty() && results.dx.is_empty());
        assert_eq!(results.dkernel, vec![0.0; case.kernel.len()]);
    }
}

#[test]
fn gradients_are_adjoints() {
    let case = Case::new(shape(2, [13, 10], 24, 40), 5);
    for (level, size) in ways() {
        let results = case.fast(level, size);
        let expected = dot(&results.y, &case.dy);
        let scale = dot(&results.y, &results.y).sqrt() * dot(&case.dy, &case.dy).sqrt();
        for product in [dot(&case.x, &results.dx), dot(&case.kernel, &results.dkernel)] {
            let error = (product - expected).abs() / scale;
            assert!(error < 1e-6, "{product} and {expected} with {level:?}");
        }
    }
}

#[test]
fn number_of_threads_does_not_change_a_bit() {
    for (seed, shape) in
        [shape(3, [17, 19], 70, 33), shape(1, [66, 90], 64, 64), shape(1, [9, 9], 256, 256)]
            .into_iter()
            .enumerate()
    {
        let case = Case::new(shape, seed as u64);
        for (level, size) in ways() {
            let mut results = [1, 2, 3, 9].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let pool = pool.build().expect("a few threads can be started");
                pool.install(|| case.fast(level, size))
            });
            let [single, others @ ..] = &mut results;
            for other in others {
                assert!(single == other, "bits differ with {level:?} for {shape:?}");
            }
        }
    }
}

#[test]
fn concurrent_calls_do_not_share_memory() {
    let case = Case::new(shape(2, [9, 11], 20, 30), 6);
    for (level, size) in ways() {
        let alone = case.fast(level, size);
        let (a, b) = rayon::join(|| case.fast(level, size), || case.fast(level, size));
        assert!(a == alone && b == alone);
    }
}

#[test]
fn other_geometries_are_left_to_others() {
    let fitting = shape(16, [56, 56], 64, 64);
    for other in [
        ConvShape { kernel: [5, 5], ..fitting },
        ConvShape { stride: [2, 2], ..fitting },
        ConvShape { padding: [0, 0], ..fitting },
        ConvShape { dilation: [2, 2], ..fitting },
        ConvShape { groups: 2, ..fitting },
    ] {
        assert_eq!(Size::of(&other), None, "{other:?}");
    }
}
