//! Bias of a row-by-channel matrix: added to every row, and its gradient, the sum of all rows.

use rayon::prelude::*;

use super::element::Element;

/// Rows that one task handles; a constant, so that sums run in the same order everywhere.
const ROWS: usize = 512;

/// Adds `bias` to every row of `bias.len()` elements.
pub(crate) fn add_bias<T: Element>(values: &mut [T], bias: &[T]) {
    values.par_chunks_mut(ROWS * bias.len()).for_each(|rows| {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (value, &bias) in row.iter_mut().zip(bias) {
                *value += bias;
            }
        }
    });
}

/// Sum over the rows of each of the `channels` columns, carried in `f64`.
pub(crate) fn sum_rows<T: Element>(values: &[T], channels: usize) -> Vec<T> {
    let partials: Vec<Vec<f64>> =
        values.par_chunks(ROWS * channels).map(|rows| sum_chunk(rows, channels)).collect();
    let mut sums = vec![0f64; channels];
    for partial in partials {
        for (sum, value) in sums.iter_mut().zip(partial) {
            *sum += value;
        }
    }
    sums.into_iter().map(T::from_f64).collect()
}

fn sum_chunk<T: Element>(rows: &[T], channels: usize) -> Vec<f64> {
    let mut sums = vec![0f64; channels];
    for row in rows.chunks_exact(channels) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value.to_f64();
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_keeps_small_values_beside_large_ones() {
        // In f32 every 1 after the first 2^24 would be lost.
        let mut values = vec![1f32; 2 * (ROWS + 3)];
        values[0] = 16_777_216.0;
        let sums = sum_rows(&values, 2);
        assert_eq!(sums, [16_777_216.0 + (ROWS + 2) as f32, (ROWS + 3) as f32]);
    }

    #[test]
    fn bias_reaches_every_row() {
        let mut values = vec![0f64; 3 * (ROWS + 1)];
        add_bias(&mut values, &[1.0, 2.0, 3.0]);
        assert!(values.chunks_exact(3).all(|row| row == [1.0, 2.0, 3.0]));
    }
}
