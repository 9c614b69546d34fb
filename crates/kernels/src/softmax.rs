//! Softmax, its logarithm, and the cross entropy based on it, row by row.
//!
//! The row's maximum is subtracted before `exp`, which would overflow otherwise. Sums over a row are taken
//! in `f64`, in an order that depends only on its length.

use super::compiled::compiled;
use super::float::Float;
use super::output::{build, build_from};
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

/// Number of parallel maxima and sums. A single one would wait for each step before the next.
const LANES: usize = 8;

compiled! {
    trait Kernels<T>;

    /// `exp(x) / sum(exp(x))` of every row.
    pub fn softmax(x: &[T], columns: usize) -> Vec<T> {
        map_rows([x, x], columns, |x, _, y| {
            let max = maximum(x);
            exp_of_differences(x, max, y);
            let scale = T::narrow(1.0 / y.iter().map(|y| y.widen()).sum::<f64>());
            for y in y {
                *y *= scale;
            }
        })
    }

    /// The gradient of [`softmax`]'s input, from its output `y`.
    pub fn softmax_gradient(y: &[T], grad: &[T], columns: usize) -> Vec<T> {
        map_rows([y, grad], columns, |y, grad, dx| {
            let mean = T::narrow(y.iter().zip(grad).map(|(y, grad)| y.widen() * grad.widen()).sum());
            for ((dx, &y), &grad) in dx.iter_mut().zip(y).zip(grad) {
                *dx = y * (grad - mean);
            }
        })
    }

    /// `x - log(sum(exp(x)))` of every row.
    pub fn log_softmax(x: &[T], columns: usize) -> Vec<T> {
        map_rows([x, x], columns, |x, _, y| {
            let (max, log_sum) = log_sum_exp(x);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x - max - T::narrow(log_sum);
            }
        })
    }

    /// The gradient of [`log_softmax`]'s input, from its output `y`.
    pub fn log_softmax_gradient(y: &[T], grad: &[T], columns: usize) -> Vec<T> {
        map_rows([y, grad], columns, |y, grad, dx| {
            let sum = T::narrow(grad.iter().map(|grad| grad.widen()).sum());
            for ((dx, &y), &grad) in dx.iter_mut().zip(y).zip(grad) {
                *dx = grad - y.exp() * sum;
            }
        })
    }

    /// `-sum(targets * log_softmax(x))` over all rows.
    pub fn cross_entropy(x: &[T], targets: &[T], columns: usize) -> f64 {
        let rows = rows_per_piece(columns);
        let piece = rows * columns;
        let losses: Vec<f64> = build_from(x.len(), x.len() / columns, rows, |i, losses| {
            let (x, targets) = (&x[i * piece..], &targets[i * piece..]);
            let rows = x.chunks_exact(columns).zip(targets.chunks_exact(columns));
            for (loss, (x, targets)) in losses.iter_mut().zip(rows) {
                *loss = row_loss(x, targets);
            }
        });
        losses.iter().sum()
    }

    /// The gradient of [`cross_entropy`]'s input. `grad` is the gradient of its output.
    pub fn cross_entropy_gradient(
        x: &[T],
        targets: &[T],
        grad: T,
        columns: usize,
    ) -> Vec<T> {
        map_rows([x, targets], columns, |x, targets, dx| {
            let (max, log_sum) = log_sum_exp(x);
            let mass = T::narrow(targets.iter().map(|target| target.widen()).sum());
            let log_sum = T::narrow(log_sum);
            cross_entropy_gradient_row(x, targets, [max, log_sum, mass, grad], dx);
        })
    }
}

fn row_loss<T: Float>(x: &[T], targets: &[T]) -> f64 {
    let (max, log_sum) = log_sum_exp(x);
    let terms = x.iter().zip(targets).map(|(&x, &target)| {
        // A class with zero weight may have a logit of minus infinity.
        if target == T::ZERO { 0.0 } else { target.widen() * (log_sum - (x - max).widen()) }
    });
    terms.sum()
}

/// The maximum of a row and the logarithm of the sum of `exp(x - maximum)`.
fn log_sum_exp<T: Float>(x: &[T]) -> (T, f64) {
    let max = maximum(x);
    let mut sums = [0.0; LANES];
    sums_of_exp(x, max, &mut sums);
    (max, sums.iter().sum::<f64>().ln())
}

fn maximum<T: Float>(x: &[T]) -> T {
    let mut maxima = [x[0]; LANES];
    raise(x, &mut maxima);
    maxima.into_iter().fold(maxima[0], larger)
}

#[inline(always)]
fn larger<T: Float>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

vectorize! {
    /// Updates each of the maxima with every eighth element of `x`.
    fn raise<T: Float>(x: &[T], maxima: &mut [T; LANES]) {
        let mut best = *maxima;
        let (groups, rest) = x.as_chunks::<LANES>();
        for group in groups {
            for (best, &x) in best.iter_mut().zip(group) {
                *best = larger(*best, x);
            }
        }
        for (best, &x) in best.iter_mut().zip(rest) {
            *best = larger(*best, x);
        }
        *maxima = best;
    }

    /// Adds `exp(x - max)` of every eighth element of `x` to each of the sums.
    fn sums_of_exp<T: Float>(x: &[T], max: T, sums: &mut [f64; LANES]) {
        let mut near = *sums;
        let (groups, rest) = x.as_chunks::<LANES>();
        for group in groups {
            for (sum, &x) in near.iter_mut().zip(group) {
                *sum += (x - max).exp().widen();
            }
        }
        for (sum, &x) in near.iter_mut().zip(rest) {
            *sum += (x - max).exp().widen();
        }
        *sums = near;
    }

    fn exp_of_differences<T: Float>(x: &[T], from: T, y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - from).exp();
        }
    }

    /// `constants`: the row's maximum, the logarithm of its sum, the sum of its targets, and the gradient
    /// of the loss.
    fn cross_entropy_gradient_row<T: Float>(
        x: &[T],
        targets: &[T],
        constants: [T; 4],
        dx: &mut [T],
    ) {
        let [max, log_sum, mass, grad] = constants;
        for ((dx, &x), &target) in dx.iter_mut().zip(x).zip(targets) {
            let probability = (x - max - log_sum).exp();
            *dx = (probability * mass - target) * grad;
        }
    }
}

/// Calls `f(a, b, out)` on the rows of two matrices and of the result.
fn map_rows<T: Float>(
    [a, b]: [&[T]; 2],
    columns: usize,
    f: impl Fn(&[T], &[T], &mut [T]) + Sync,
) -> Vec<T> {
    let piece = rows_per_piece(columns) * columns;
    build(a.len(), piece, |i, out| {
        let rows = a[i * piece..].chunks_exact(columns).zip(b[i * piece..].chunks_exact(columns));
        for (out, (a, b)) in out.chunks_exact_mut(columns).zip(rows) {
            f(a, b, out);
        }
    })
}
