//! Softmax, its logarithm, and the cross entropy made of it, row by row.
//!
//! The row's maximum is subtracted before `exp`, which would overflow otherwise, and sums over a row
//! are taken in `f64`.

use super::float::Float;
use super::output::{build, build_from};
use super::pieces::rows_per_piece;

/// `exp(x) / sum(exp(x))` of every row.
pub(crate) fn softmax<T: Float>(x: &[T], columns: usize) -> Vec<T> {
    map_rows([x, x], columns, |x, _, y| {
        let max = maximum(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - max).exp();
        }
        let scale = T::narrow(1.0 / y.iter().map(|y| y.widen()).sum::<f64>());
        for y in y {
            *y *= scale;
        }
    })
}

/// The gradient of [`softmax`]'s input, from its output `y`.
pub(crate) fn softmax_gradient<T: Float>(y: &[T], grad: &[T], columns: usize) -> Vec<T> {
    map_rows([y, grad], columns, |y, grad, dx| {
        let mean = T::narrow(y.iter().zip(grad).map(|(y, grad)| y.widen() * grad.widen()).sum());
        for ((dx, &y), &grad) in dx.iter_mut().zip(y).zip(grad) {
            *dx = y * (grad - mean);
        }
    })
}

/// `x - log(sum(exp(x)))` of every row.
pub(crate) fn log_softmax<T: Float>(x: &[T], columns: usize) -> Vec<T> {
    map_rows([x, x], columns, |x, _, y| {
        let (max, log_sum) = log_sum_exp(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x - max - T::narrow(log_sum);
        }
    })
}

/// The gradient of [`log_softmax`]'s input, from its output `y`.
pub(crate) fn log_softmax_gradient<T: Float>(y: &[T], grad: &[T], columns: usize) -> Vec<T> {
    map_rows([y, grad], columns, |y, grad, dx| {
        let sum = T::narrow(grad.iter().map(|grad| grad.widen()).sum());
        for ((dx, &y), &grad) in dx.iter_mut().zip(y).zip(grad) {
            *dx = grad - y.exp() * sum;
        }
    })
}

/// `-sum(targets * log_softmax(x))` over all rows.
pub(crate) fn cross_entropy<T: Float>(x: &[T], targets: &[T], columns: usize) -> f64 {
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

/// The gradient of [`cross_entropy`]'s input for an output gradient of `grad`.
pub(crate) fn cross_entropy_gradient<T: Float>(
    x: &[T],
    targets: &[T],
    grad: T,
    columns: usize,
) -> Vec<T> {
    map_rows([x, targets], columns, |x, targets, dx| {
        let (max, log_sum) = log_sum_exp(x);
        let mass = T::narrow(targets.iter().map(|target| target.widen()).sum());
        let log_sum = T::narrow(log_sum);
        for ((dx, &x), &target) in dx.iter_mut().zip(x).zip(targets) {
            let probability = (x - max - log_sum).exp();
            *dx = (probability * mass - target) * grad;
        }
    })
}

fn row_loss<T: Float>(x: &[T], targets: &[T]) -> f64 {
    let (max, log_sum) = log_sum_exp(x);
    let terms = x.iter().zip(targets).map(|(&x, &target)| {
        // A class of no weight may have a logit of minus infinity.
        if target == T::ZERO { 0.0 } else { target.widen() * (log_sum - (x - max).widen()) }
    });
    terms.sum()
}

/// The maximum of a row and the logarithm of the sum of `exp(x - maximum)`.
fn log_sum_exp<T: Float>(x: &[T]) -> (T, f64) {
    let max = maximum(x);
    let sum: f64 = x.iter().map(|&x| (x - max).exp().widen()).sum();
    (max, sum.ln())
}

fn maximum<T: Float>(x: &[T]) -> T {
    x.iter().fold(x[0], |max, &x| if x > max { x } else { max })
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
