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
}

/// Axes of a product that are gone through row by row: those that lie one after the other in both factors are
/// one axis.
struct Folded {
    dims: Vec<usize>,
    strides: [Vec<usize>; 2],
}

impl Folded {
    fn new(dims: &[usize], of: [&Broadcast; 2]) -> Self {
        let mut folded = Self { dims: Vec::new(), strides: [Vec::new(), Vec::new()] };
        for (axis, &size) in dims.iter().enumerate().filter(|&(_, &size)| size != 1) {
            let strides = of.map(|of| of.strides[axis]);
            let continues = |(before, stride): (&Vec<usize>, usize)| {
                before.last().is_some_and(|&before| before == stride * size)
            };
            let merged = folded.strides.iter().zip(strides).all(continues);
            if let (true, Some(last)) = (merged, folded.dims.last_mut()) {
                *last *= size;
                for (before, stride) in folded.strides.iter_mut().zip(strides) {
                    *before.last_mut().expect("every axis has a stride") = stride;
                }
            } else {
                folded.dims.push(size);
                for (before, stride) in folded.strides.iter_mut().zip(strides) {
                    before.push(stride);
                }
            }
        }
        folded
    }
}

/// Where each row begins in a factor.
fn start(dims: &[usize], strides: &[usize], mut row: usize) -> usize {
    let mut start = 0;
    for (&size, &stride) in dims.iter().zip(strides).rev() {
        start += row % size * stride;
        row /= size;
    }
    start
}

compiled! {
    trait Kernels<T>;

    /// `a * b`, of shape `dims`.
    ///
    /// # Panics
    /// If a factor has fewer elements than its strides reach.
    pub fn mul(a: &[T], of_a: &Broadcast, b: &[T], of_b: &Broadcast, dims: &[usize]) -> Vec<T> {
        let len: usize = dims.iter().product();
        let Folded { dims, strides: [of_a, of_b] } = Folded::new(dims, [of_a, of_b]);
        let Some((&row_len, outer)) = dims.split_last().filter(|_| len > 0) else {
            // A product of one element has no axis that is longer than 1.
            return if len == 0 { Vec::new() } else { vec![a[0] * b[0]] };
        };
        let rows = rows_per_piece(row_len);
        let last = [&of_a, &of_b].map(|of| of[outer.len()]);
        build_from(len, len, rows * row_len, |i, out| {
            for (row, out) in out.chunks_exact_mut(row_len).enumerate() {
                let row = i * rows + row;
                let (a, b) = (&a[start(outer, &of_a, row)..], &b[start(outer, &of_b, row)..]);
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

    /// The sum of `a * b` over the middle one of three axes, `[outer, summed, inner]`: the gradient of a factor
    /// that is repeated along that axis. Sums are taken in `f64`, in an order that depends only on the sizes.
    /// Returns `[outer, inner]`.
    ///
    /// # Panics
    /// If a slice is not as long as `dims` says.
    pub fn sum_of_products(a: &[T], b: &[T], dims: [usize; 3]) -> Vec<T> {
        let [outer, summed, inner] = dims;
        assert_eq!([a.len(), b.len()], [outer * summed * inner; 2], "as long as `dims` says");
        if a.is_empty() {
            return vec![T::ZERO; outer * inner];
        }
        let rows = rows_per_piece(inner).min(summed);
        let pieces = summed.div_ceil(rows);
        let partial = build_from(a.len(), outer * pieces * inner, inner, |i, sums: &mut [f64]| {
            let (image, piece) = (i / pieces, i % pieces);
            let first = image * summed + piece * rows;
            let last = (first + rows).min((image + 1) * summed);
            let place = first * inner..last * inner;
            add_products(&a[place.clone()], &b[place], sums);
        });
        let mut totals = Vec::with_capacity(outer * inner);
        for sums in partial.chunks_exact(pieces * inner) {
            let sum = |i: usize| sums[i..].iter().step_by(inner).sum();
            totals.extend((0..inner).map(|i| T::narrow(sum(i))));
        }
        totals
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

vectorize! {
    fn add_products<T: Float>(a: &[T], b: &[T], sums: &mut [f64]) {
        let inner = sums.len();
        for (a, b) in a.chunks_exact(inner).zip(b.chunks_exact(inner)) {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum += (a * b).widen();
            }
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

    #[test]
    fn axes_that_lie_one_after_the_other_are_one() {
        let dims = [2, 3, 1, 4, 5];
        let whole = Broadcast::new(&dims, &dims).unwrap();
        let of_images = Broadcast::new(&[2, 1, 1, 1, 5], &dims).unwrap();
        let folded = Folded::new(&dims, [&whole, &of_images]);
        assert_eq!(folded.dims, [2, 12, 5]);
        assert_eq!(folded.strides, [vec![60, 5, 1], vec![5, 0, 1]]);
        assert_eq!(Folded::new(&dims, [&whole, &whole]).dims, [120]);
        assert_eq!(Folded::new(&[1, 1], [&Broadcast { strides: vec![0, 0] }; 2]).dims, [0; 0]);
    }

    #[test]
    fn products_are_summed_over_the_middle_axis() {
        for dims in [[2, 3, 4], [1, 5000, 7], [3, 1, 1], [2, 700, 90]] {
            let [outer, summed, inner] = dims;
            let len = outer * summed * inner;
            let a: Vec<f64> = (0..len).map(|i| (i % 13) as f64 - 6.0).collect();
            let b: Vec<f64> = (0..len).map(|i| (i % 7) as f64 - 3.0).collect();
            let expected: Vec<f64> = (0..outer * inner)
                .map(|i| {
                    let place = |row: usize| (i / inner * summed + row) * inner + i % inner;
                    (0..summed).map(|row| a[place(row)] * b[place(row)]).sum()
                })
                .collect();
            assert_eq!(sum_of_products(&a, &b, dims), expected, "{dims:?}");
        }
    }
}
