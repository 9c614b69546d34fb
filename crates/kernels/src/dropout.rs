//! Applying a dropout mask.

use super::compiled::compiled;
use super::float::Float;
use super::output::build;
use super::pieces::PIECE;
use super::vectorize::vectorize;

compiled! {
    trait Kernels<T>;

    /// `x * scale` where `keep` is not 0, otherwise 0.
    pub fn keep(x: &[T], keep: &[u8], scale: f64) -> Vec<T> {
        let scale = T::narrow(scale);
        build(x.len(), PIECE, |i, out| {
            let start = i * PIECE;
            keep_piece(&x[start..][..out.len()], &keep[start..][..out.len()], scale, out);
        })
    }
}

vectorize! {
    fn keep_piece<T: Float>(x: &[T], keep: &[u8], scale: T, out: &mut [T]) {
        for ((out, &x), &keep) in out.iter_mut().zip(x).zip(keep) {
            *out = if keep == 0 { T::ZERO } else { x * scale };
        }
    }
}
