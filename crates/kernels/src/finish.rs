//! The operations that follow a product, applied to its result in place.

use rayon::prelude::*;

use super::activation::relu_up_to;
use super::compiled::compiled;
use super::float::Float;
use super::parallel::for_each_of;
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

/// Adds a bias for each channel and a residual, then applies a ReLU with a ceiling. Each is optional.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finish<'a, T> {
    /// `[channels]`.
    pub bias: Option<&'a [T]>,
    /// As long as the values.
    pub residual: Option<&'a [T]>,
    /// The ReLU's upper limit: infinity for a plain ReLU, 6 for ReLU6. `None` for no ReLU.
    pub ceiling: Option<T>,
}

impl<T: Float> Finish<'_, T> {
    /// Finishes one row of `values` on this thread.
    #[inline]
    pub(crate) fn apply_here(&self, values: &mut [T]) {
        finish_rows(values, values.len(), self);
    }
}

compiled! {
    trait Kernels<T>;

    /// Finishes all of `values`, `[rows, channels]`, over all threads.
    ///
    /// # Panics
    /// If a residual is shorter than the values.
    pub fn finish(values: &mut [T], channels: usize, by: &Finish<'_, T>) {
        if by.bias.is_none() && by.residual.is_none() && by.ceiling.is_none() {
            return;
        }
        let (elements, piece) = (values.len(), rows_per_piece(channels) * channels);
        for_each_of(elements, values.par_chunks_mut(piece).enumerate(), |(i, values)| {
            let start = i * piece;
            let residual = by.residual.map(|residual| &residual[start..start + values.len()]);
            finish_rows(values, channels, &Finish { residual, ..*by });
        });
    }
}

vectorize! {
    fn finish_rows<T: Float>(values: &mut [T], channels: usize, finish: &Finish<'_, T>) {
        if let Some(bias) = finish.bias {
            for row in values.chunks_exact_mut(channels) {
                for (value, &bias) in row.iter_mut().zip(bias) {
                    *value += bias;
                }
            }
        }
        if let Some(residual) = finish.residual {
            for (value, &residual) in values.iter_mut().zip(residual) {
                *value += residual;
            }
        }
        if let Some(ceiling) = finish.ceiling {
            for value in values {
                *value = relu_up_to(*value, ceiling);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::PIECE;

    #[test]
    fn every_row_is_finished_in_order() {
        let rows = PIECE;
        let mut values: Vec<f64> = (0..3 * rows).map(|i| (i % 7) as f64 - 3.0).collect();
        let residual: Vec<f64> = (0..3 * rows).map(|i| (i % 5) as f64 - 2.0).collect();
        let expected: Vec<f64> = (0..3 * rows)
            .map(|i| (values[i] + [1.0, 2.0, 3.0][i % 3] + residual[i]).clamp(0.0, 4.0))
            .collect();
        let by =
            Finish { bias: Some(&[1.0, 2.0, 3.0]), residual: Some(&residual), ceiling: Some(4.0) };
        finish(&mut values, 3, &by);
        assert_eq!(values, expected);
    }

    #[test]
    fn nothing_leaves_the_values_alone() {
        let mut values = [-1f32, f32::NAN, 2.0];
        finish(&mut values, 3, &Finish::default());
        assert_eq!((values[0], values[2]), (-1.0, 2.0));
        finish(&mut values, 3, &Finish { ceiling: Some(f32::INFINITY), ..Finish::default() });
        assert!(values[0] == 0.0 && values[1].is_nan(), "a NaN passes");
    }
}
