//! Sums element by element.

use super::compiled::compiled;
use super::float::Float;
use super::output::filled_in_pieces;
use super::pieces::PIECE;
use super::vectorize::vectorize;

compiled! {
    trait Kernels<T>;

    /// `a + b`. Both must have the same length.
    pub fn add(a: &[T], b: &[T]) -> Vec<T> {
        let write = |i: usize, out: &mut [T]| {
            let start = i * PIECE;
            add_piece(&a[start..][..out.len()], &b[start..][..out.len()], out);
        };
        // SAFETY: `add_piece` sets every element of three slices of one length, and reads none of them.
        unsafe { filled_in_pieces(a.len(), PIECE, write) }
    }
}

vectorize! {
    fn add_piece<T: Float>(a: &[T], b: &[T], out: &mut [T]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = a + b;
        }
    }
}
