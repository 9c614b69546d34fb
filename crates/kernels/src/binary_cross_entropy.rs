//! Binary cross entropy between logits and targets, class by class.
//!
//! With `s(x) = ln(1 + exp(x))` an element has the loss `(1 - t) x + (1 + (w - 1) t) s(-x)`, where `t` is its target and
//! `w` the weight of its class where the target is 1. `s` is computed so that `exp` cannot overflow.

use super::compiled::compiled;
use super::output::{build, build_from};
use super::pieces::rows_per_piece;

compiled! {
    trait Kernels<T>;

    /// The sum of the losses of all elements. `weights` has one number for each of the columns.
    pub fn binary_cross_entropy(x: &[T], targets: &[T], weights: &[f64]) -> f64 {
        let columns = weights.len();
        let rows = rows_per_piece(columns);
        let piece = rows * columns;
        let losses: Vec<f64> = build_from(x.len(), x.len() / columns, rows, |i, losses| {
            let (x, targets) = (&x[i * piece..], &targets[i * piece..]);
            let rows = x.chunks_exact(columns).zip(targets.chunks_exact(columns));
            for (loss, (x, targets)) in losses.iter_mut().zip(rows) {
                let elements = x.iter().zip(targets).zip(weights);
                *loss = elements.map(|((x, t), &w)| element_loss(x.widen(), t.widen(), w)).sum();
            }
        });
        losses.iter().sum()
    }

    /// The gradient of [`binary_cross_entropy`]'s logits, times `grad`.
    pub fn binary_cross_entropy_gradient(
        x: &[T],
        targets: &[T],
        weights: &[f64],
        grad: f64,
    ) -> Vec<T> {
        let columns = weights.len();
        let piece = rows_per_piece(columns) * columns;
        build(x.len(), piece, |i, dx| {
            let elements = x[i * piece..].iter().zip(&targets[i * piece..]);
            let elements = elements.zip(weights.iter().cycle());
            for (dx, ((x, t), &w)) in dx.iter_mut().zip(elements) {
                *dx = T::narrow(grad * element_gradient(x.widen(), t.widen(), w));
            }
        })
    }
}

fn element_loss(x: f64, target: f64, weight: f64) -> f64 {
    let softplus = (-x).max(0.0) + (-x.abs()).exp().ln_1p();
    (1.0 - target) * x + (1.0 + (weight - 1.0) * target) * softplus
}

fn element_gradient(x: f64, target: f64, weight: f64) -> f64 {
    // The probability of the other answer, without the cancellation of `1 - p`.
    let small = (-x.abs()).exp();
    let other = if x >= 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) };
    (1.0 - target) - (1.0 + (weight - 1.0) * target) * other
}
