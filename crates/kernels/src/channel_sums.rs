//! Sums over the rows of a row-by-channel matrix.

use std::ops::Range;

use super::compiled::compiled;
use super::float::Float;
use super::output::build_from;
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

/// Pieces start at a multiple of this number of rows.
pub(crate) const GROUP: usize = 32;

compiled! {
    trait Kernels<T>;

    /// The sum over the rows for each of the `channels` columns, computed in `f64`.
    pub fn sum_rows(values: &[T], channels: usize) -> Vec<T> {
        let sums = sum_pieces(values.len(), channels, channels, |piece, sums| {
            add_rows(&values[piece], sums);
        });
        sums.into_iter().map(T::narrow).collect()
    }
}

/// Computes `width` sums over `len` elements in rows of `row_len`. `add` adds the elements of a piece of
/// whole rows to the sums it gets.
///
/// The pieces' sums are added in order, so the result is the same for any number of threads.
pub(crate) fn sum_pieces(
    len: usize,
    row_len: usize,
    width: usize,
    add: impl Fn(Range<usize>, &mut [f64]) + Sync,
) -> Vec<f64> {
    let piece = rows_per_piece(row_len).next_multiple_of(GROUP) * row_len;
    let pieces = len.div_ceil(piece);
    let partial = build_from(len, pieces * width, width, |i, sums| {
        add(i * piece..len.min((i + 1) * piece), sums);
    });
    let mut totals = vec![0.0; width];
    for sums in partial.chunks_exact(width) {
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    totals
}

vectorize! {
    fn add_rows<T: Float>(values: &[T], sums: &mut [f64]) {
        for row in values.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value.widen();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::PIECE;

    #[test]
    fn sum_keeps_small_values_beside_large_ones() {
        // In f32 every 1 after the first 2^24 would be lost.
        let rows = PIECE;
        let mut values = vec![1f32; 2 * (rows + 3)];
        values[0] = 16_777_216.0;
        let sums = sum_rows(&values, 2);
        assert_eq!(sums, [16_777_216.0 + (rows + 2) as f32, (rows + 3) as f32]);
    }
}
