//! Local response normalisation across neighbouring channels.

use super::compiled::compiled;
use super::float::Float;
use super::output::build;
use super::pieces::rows_per_piece;
use super::scratch::Scratch;
use super::vectorize::vectorize;

/// The constants of `y = x / (k + alpha / size * sum(x^2))^beta`. The sum is over `size` neighbouring channels,
/// `size / 2` before and `(size - 1) / 2` behind. Channels that do not exist count as 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResponseNorm {
    /// Number of channels of a sum.
    pub size: usize,
    /// Factor of the mean square.
    pub alpha: f64,
    /// The exponent.
    pub beta: f64,
    /// Added to the mean square.
    pub k: f64,
}

compiled! {
    trait Kernels<T>;

    /// Normalises every row of `channels`.
    pub fn normalize_responses(x: &[T], channels: usize, norm: &ResponseNorm) -> Vec<T> {
        let rows = rows_per_piece(channels);
        build(x.len(), rows * channels, |i, y| {
            let x = &x[i * rows * channels..][..y.len()];
            let mut memory = Scratch::take(2 * channels + norm.size);
            let (bases, squares) = memory.split_at_mut(channels);
            for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
                set_bases(x, norm, squares, bases);
                multiply_by_power(x, bases, norm.beta, y);
            }
        })
    }

    /// The gradient of `x`.
    pub fn normalize_responses_gradient(
        x: &[T],
        grad: &[T],
        channels: usize,
        norm: &ResponseNorm,
    ) -> Vec<T> {
        let rows = rows_per_piece(channels);
        build(x.len(), rows * channels, |i, dx| {
            let start = i * rows * channels;
            let (x, grad) = (&x[start..][..dx.len()], &grad[start..][..dx.len()]);
            let mut memory = Scratch::take(4 * channels + norm.size);
            let (bases, rest) = memory.split_at_mut(channels);
            let (powers, rest) = rest.split_at_mut(channels);
            let (sums, terms) = rest.split_at_mut(channels);
            let rows = x.chunks_exact(channels).zip(grad.chunks_exact(channels));
            for (dx, (x, grad)) in dx.chunks_exact_mut(channels).zip(rows) {
                set_bases(x, norm, terms, bases);
                // `grad * base^-beta`, which is also the first part of the gradient.
                multiply_by_power(grad, bases, norm.beta, powers);
                // A channel is in the sums of those before it that reach it, and of those behind.
                let before = (norm.size - 1) / 2;
                terms.fill(T::ZERO);
                set_terms(x, bases, powers, &mut terms[before..]);
                add_windows(terms, norm.size, sums);
                let factor = T::narrow(2.0 * norm.alpha * norm.beta / norm.size as f64);
                combine(x, powers, sums, factor, dx);
            }
        })
    }
}

/// Sets `bases` to `k + alpha / size * sum(x^2)`. `padded` is working memory of at least
/// `channels + size` elements.
fn set_bases<T: Float>(x: &[T], norm: &ResponseNorm, padded: &mut [T], bases: &mut [T]) {
    padded.fill(T::ZERO);
    square(x, &mut padded[norm.size / 2..]);
    add_windows(padded, norm.size, bases);
    affine(bases, T::narrow(norm.alpha / norm.size as f64), T::narrow(norm.k));
}

vectorize! {
    fn square<T: Float>(x: &[T], y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * x;
        }
    }

    fn affine<T: Float>(x: &mut [T], scale: T, shift: T) {
        for x in x {
            *x = *x * scale + shift;
        }
    }

    /// Sets each sum to that of `size` elements of `padded`, from its own place on.
    fn add_windows<T: Float>(padded: &[T], size: usize, sums: &mut [T]) {
        sums.fill(T::ZERO);
        for first in 0..size {
            for (sum, &x) in sums.iter_mut().zip(&padded[first..]) {
                *sum += x;
            }
        }
    }

    /// `y = x * bases^-beta`.
    fn multiply_by_power<T: Float>(x: &[T], bases: &[T], beta: f64, y: &mut [T]) {
        let elements = y.iter_mut().zip(x).zip(bases);
        if beta == 0.75 {
            // The exponent of all published networks. Roots become vectors, and a power does not.
            for ((y, &x), &base) in elements {
                let root = base.sqrt();
                *y = x / (root * root.sqrt());
            }
        } else {
            for ((y, &x), &base) in elements {
                *y = x * T::narrow(base.widen().powf(-beta));
            }
        }
    }

    fn set_terms<T: Float>(x: &[T], bases: &[T], powers: &[T], terms: &mut [T]) {
        for (((term, &x), &base), &power) in terms.iter_mut().zip(x).zip(bases).zip(powers) {
            *term = x * power / base;
        }
    }

    fn combine<T: Float>(x: &[T], powers: &[T], sums: &[T], factor: T, dx: &mut [T]) {
        for (((dx, &x), &power), &sum) in dx.iter_mut().zip(x).zip(powers).zip(sums) {
            *dx = power - factor * x * sum;
        }
    }
}
