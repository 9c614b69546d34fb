//! Normalisation of every row of a matrix. Sums are taken in `f64`, in an order that depends only on the
//! sizes.

use super::channel_sums::sum_pieces;
use super::compiled::compiled;
use super::float::Float;
use super::output::{build, build_from};
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

/// Number of parallel sums. A single sum would wait for each addition before the next.
const LANES: usize = 8;

compiled! {
    trait Kernels<T>;

    /// Mean and inverse standard deviation of every row.
    pub fn statistics(x: &[T], features: usize, eps: f64) -> Vec<[f64; 2]> {
        let rows = rows_per_piece(features);
        build_from(x.len(), x.len() / features, rows, |i, statistics| {
            let x = x[i * rows * features..].chunks_exact(features);
            for (statistics, x) in statistics.iter_mut().zip(x) {
                let mean = sum(|sums| add(x, sums)) / features as f64;
                let squares = sum(|sums| add_squares(x, mean, sums));
                *statistics = [mean, 1.0 / (squares / features as f64 + eps).sqrt()];
            }
        })
    }

    /// `weight * (x - mean) * inverse deviation + bias`.
    pub fn normalize(
        x: &[T],
        weight: &[T],
        bias: &[T],
        statistics: &[[f64; 2]],
    ) -> Vec<T> {
        let features = weight.len();
        let rows = rows_per_piece(features);
        build(x.len(), rows * features, |i, y| {
            for (row, y) in y.chunks_exact_mut(features).enumerate() {
                let row = i * rows + row;
                normalize_row(&x[row * features..], weight, bias, statistics[row].map(T::narrow), y);
            }
        })
    }

    /// The gradient of `x`.
    pub fn input_gradient(
        x: &[T],
        grad: &[T],
        weight: &[T],
        statistics: &[[f64; 2]],
    ) -> Vec<T> {
        let features = weight.len();
        let rows = rows_per_piece(features);
        build(x.len(), rows * features, |i, dx| {
            for (row, dx) in dx.chunks_exact_mut(features).enumerate() {
                let row = i * rows + row;
                let (x, grad) = (&x[row * features..][..features], &grad[row * features..][..features]);
                let of_row = statistics[row].map(T::narrow);
                let mut flowing = [[0.0; LANES]; 2];
                add_flowing(x, grad, weight, of_row, &mut flowing);
                let means = flowing.map(|sums| T::narrow(sums.iter().sum::<f64>() / features as f64));
                gradient_row(x, grad, weight, [of_row[0], of_row[1], means[0], means[1]], dx);
            }
        })
    }

    /// The gradients of the weights, followed by those of the biases.
    pub fn parameter_gradients(
        x: &[T],
        grad: &[T],
        features: usize,
        statistics: &[[f64; 2]],
    ) -> Vec<T> {
        let sums = sum_pieces(x.len(), features, 2 * features, |piece, sums| {
            let rows = piece.start / features..piece.end / features;
            for row in rows {
                let place = row * features..(row + 1) * features;
                add_parameter_gradients(&x[place.clone()], &grad[place], statistics[row], sums);
            }
        });
        sums.into_iter().map(T::narrow).collect()
    }
}

fn sum(add: impl FnOnce(&mut [f64; LANES])) -> f64 {
    let mut sums = [0.0; LANES];
    add(&mut sums);
    sums.iter().sum()
}

vectorize! {
    fn add<T: Float>(x: &[T], sums: &mut [f64; LANES]) {
        let mut near = *sums;
        let (groups, rest) = x.as_chunks::<LANES>();
        for group in groups {
            for (sum, x) in near.iter_mut().zip(group) {
                *sum += x.widen();
            }
        }
        for (sum, x) in near.iter_mut().zip(rest) {
            *sum += x.widen();
        }
        *sums = near;
    }

    fn add_squares<T: Float>(x: &[T], mean: f64, sums: &mut [f64; LANES]) {
        let mut near = *sums;
        let square = |x: &T| (x.widen() - mean) * (x.widen() - mean);
        let (groups, rest) = x.as_chunks::<LANES>();
        for group in groups {
            for (sum, x) in near.iter_mut().zip(group) {
                *sum += square(x);
            }
        }
        for (sum, x) in near.iter_mut().zip(rest) {
            *sum += square(x);
        }
        *sums = near;
    }

    fn normalize_row<T: Float>(x: &[T], weight: &[T], bias: &[T], of_row: [T; 2], y: &mut [T]) {
        let [mean, inv_std] = of_row;
        for (((y, &x), &weight), &bias) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = (x - mean) * inv_std * weight + bias;
        }
    }

    /// Sums the gradient of the normalised values, and its product with them.
    fn add_flowing<T: Float>(
        x: &[T],
        grad: &[T],
        weight: &[T],
        of_row: [T; 2],
        sums: &mut [[f64; LANES]; 2],
    ) {
        let [mean, inv_std] = of_row;
        let [mut of_mean, mut of_scale] = *sums;
        let scaled = |x: T, flowing: T| (flowing * (x - mean) * inv_std).widen();
        let (xs, x_rest) = x.as_chunks::<LANES>();
        let (grads, grad_rest) = grad.as_chunks::<LANES>();
        let (weights, weight_rest) = weight.as_chunks::<LANES>();
        for ((x, grad), weight) in xs.iter().zip(grads).zip(weights) {
            for lane in 0..LANES {
                let flowing = grad[lane] * weight[lane];
                of_mean[lane] += flowing.widen();
                of_scale[lane] += scaled(x[lane], flowing);
            }
        }
        let rest = x_rest.iter().zip(grad_rest).zip(weight_rest);
        for (lane, ((&x, &grad), &weight)) in rest.enumerate() {
            let flowing = grad * weight;
            of_mean[lane] += flowing.widen();
            of_scale[lane] += scaled(x, flowing);
        }
        *sums = [of_mean, of_scale];
    }

    /// `constants`: the row's mean and inverse standard deviation, the mean of the gradient of the
    /// normalised values, and the mean of its product with them.
    fn gradient_row<T: Float>(
        x: &[T],
        grad: &[T],
        weight: &[T],
        constants: [T; 4],
        dx: &mut [T],
    ) {
        let [mean, inv_std, of_mean, of_scale] = constants;
        for (((dx, &x), &grad), &weight) in dx.iter_mut().zip(x).zip(grad).zip(weight) {
            let normal = (x - mean) * inv_std;
            *dx = inv_std * (grad * weight - of_mean - normal * of_scale);
        }
    }

    /// Adds the gradients of one row to the sums for the weights and then the biases.
    fn add_parameter_gradients<T: Float>(
        x: &[T],
        grad: &[T],
        of_row: [f64; 2],
        sums: &mut [f64],
    ) {
        let [mean, inv_std] = of_row;
        let (of_weight, of_bias) = sums.split_at_mut(x.len());
        let sums = of_weight.iter_mut().zip(of_bias);
        for ((&x, &grad), (of_weight, of_bias)) in x.iter().zip(grad).zip(sums) {
            *of_weight += grad.widen() * (x.widen() - mean) * inv_std;
            *of_bias += grad.widen();
        }
    }
}
