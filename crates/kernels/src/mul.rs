//! Products element by element, with broadcasting.

use super::compiled::compiled;
use super::float::Float;
use super::output::build_from;
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

/// The strides of a factor: for each axis of the product, the number of its elements from one position to
/// the next. It is 0 for axes over which the factor is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// One stride per axis.
    pub strides: Vec<usize>,
}

impl Broadcast {
    /// A contiguous factor of shape `from`, aligned with the last axes of `to`. `None` if a size is neither
    /// that of `to` nor 1.
    pub fn new(from: &[usize], to: &[usize]) -> Option<Self> {
        let missing = to.len().checked_sub(from.len())?;
        let mut strides = vec![0; to.len()];
        let mut stride = 1;
        for (i, &size) in from.iter().enumerate().rev() {
            match size {
                1 => {}
                size if size == to[missing + i] => strides[missing + i] = stride,
                _ => return None,
            }
            stride *= size;
        }
        Some(Self { strides })
    }

    fn start(&self, dims: &[usize], mut row: usize) -> usize {
        let mut start = 0;
        for (&size, &stride) in dims.iter().zip(&self.strides).rev() {
            start += row % size * stride;
            row /= size;
        }
        start
    }
}

compiled! {
    trait Kernels<T>;

    /// `a * b`, of shape `dims`.
    ///
    /// # Panics
    /// If a factor has fewer elements than its strides reach.
    pub fn mul(a: &[T], of_a: &Broadcast, b: &[T], of_b: &Broadcast, dims: &[usize]) -> Vec<T> {
        let len: usize = dims.iter().product();
        let Some((&row_len, outer)) = dims.split_last().filter(|_| len > 0) else {
            // A product of rank 0 has one element.
            return if len == 0 { Vec::new() } else { vec![a[0] * b[0]] };
        };
        let rows = rows_per_piece(row_len);
        let last = [of_a, of_b].map(|of| of.strides[outer.len()]);
        build_from(len, len, rows * row_len, |i, out| {
            for (row, out) in out.chunks_exact_mut(row_len).enumerate() {
                let row = i * rows + row;
                let (a, b) = (&a[of_a.start(outer, row)..], &b[of_b.start(outer, row)..]);
                match last {
                    [1, 1] => mul_rows(&a[..row_len], &b[..row_len], out),
                    [1, 0] => mul_by(&a[..row_len], b[0], out),
                    [0, 1] => mul_by(&b[..row_len], a[0], out),
                    [of_a, of_b] => {
                        for (i, out) in out.iter_mut().enumerate() {
                            *out = a[i * of_a] * b[i * of_b];
                        }
                    }
                }
            }
        })
    }
}

vectorize! {
    fn mul_rows<T: Float>(a: &[T], b: &[T], out: &mut [T]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = a * b;
        }
    }

    fn mul_by<T: Float>(a: &[T], b: T, out: &mut [T]) {
        for (out, &a) in out.iter_mut().zip(a) {
            *out = a * b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_repeated_along_axes_of_one() {
        let dims = [2, 2, 3];
        let a: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let whole = Broadcast::new(&dims, &dims).unwrap();
        let by = |b: &[f32], shape: &[usize]| {
            mul(&a, &whole, b, &Broadcast::new(shape, &dims).unwrap(), &dims)
        };
        assert_eq!(by(&[1.0, 0.0, 2.0], &[3])[..6], [0.0, 0.0, 4.0, 3.0, 0.0, 10.0]);
        assert_eq!(by(&[1.0, 2.0], &[2, 1, 1])[5..8], [5.0, 12.0, 14.0]);
        assert_eq!(by(&[1.0, 2.0, 3.0, 4.0], &[2, 2, 1])[3..7], [6.0, 8.0, 10.0, 18.0]);
        assert_eq!(Broadcast::new(&[2], &dims), None);
        assert_eq!(Broadcast::new(&[1, 2, 2, 3], &dims), None);
    }
}
