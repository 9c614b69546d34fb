//! Copies made over all threads.

use super::compiled::compiled;
use super::output::build;
use super::pieces::PIECE;

compiled! {
    trait Kernels<T>;

    /// A copy of `x`, made over all threads.
    pub fn copied(x: &[T]) -> Vec<T> {
        build(x.len(), PIECE, |i, out| out.copy_from_slice(&x[i * PIECE..][..out.len()]))
    }
}
