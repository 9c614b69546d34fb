//! Transposition of a batch of matrices, which converts between image layouts.

use super::compiled::compiled;
use super::float::Float;
use super::output::build_blocks;
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

compiled! {
    trait Kernels<T>;

    /// `[batch, rows, columns]` to `[batch, columns, rows]`.
    ///
    /// # Panics
    /// If `x` does not consist of whole matrices.
    pub fn transpose(x: &[T], rows: usize, columns: usize) -> Vec<T> {
        transpose_any(x, rows, columns)
    }
}

/// [`transpose`] for elements of any type.
fn transpose_any<T>(x: &[T], rows: usize, columns: usize) -> Vec<T>
where
    T: Copy + Default + Send + Sync,
{
    let matrix = rows * columns;
    let piece_columns = rows_per_piece(rows);
    build_blocks(x.len(), matrix, piece_columns * rows, |image, j, out| {
        let x = &x[image * matrix..][..matrix];
        transpose_columns(x, columns, j * piece_columns, rows, out);
    })
}

/// Sets `to[j * to_stride + i] = from[i * from_stride + j]` for `i < rows`, `j < columns`, on this thread.
pub(crate) fn transpose_into<T: Float>(
    from: &[T],
    from_stride: usize,
    [rows, columns]: [usize; 2],
    to: &mut [T],
    to_stride: usize,
) {
    assert!(extent(rows, columns, from_stride) <= from.len(), "the matrix lies inside its slice");
    assert!(extent(columns, rows, to_stride) <= to.len(), "so does the transposed one");
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    // SAFETY: both matrices were just found to lie inside their slices.
    unsafe { T::transpose_unchecked(from, from_stride, [rows, columns], to, to_stride) }
}

/// Number of elements of a slice that a matrix spans.
pub(crate) fn extent(rows: usize, columns: usize, stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns }
}

trait Element: Copy {}
impl<T: Copy> Element for T {}

vectorize! {
    /// Writes the columns of `x`, starting at `first`, as rows of `out`, as many as it holds. Reads go
    /// along rows. The scattered writes stay within `out`, which is one piece and so stays in the nearest
    /// cache.
    fn transpose_columns<T: Element>(
        x: &[T],
        columns: usize,
        first: usize,
        rows: usize,
        out: &mut [T],
    ) {
        let count = out.len() / rows;
        for (r, row) in x.chunks_exact(columns).enumerate() {
            for (j, &value) in row[first..][..count].iter().enumerate() {
                out[j * rows + r] = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_into<T: Float + std::fmt::Debug>(value: impl Fn(usize) -> T) {
        for [rows, columns] in [[0, 3], [1, 1], [9, 70], [16, 144], [33, 9], [5, 0]] {
            let (from_stride, to_stride) = (columns + 2, rows + 3);
            let from: Vec<T> = (0..rows * from_stride).map(&value).collect();
            let mut to = vec![T::ZERO; columns * to_stride];
            transpose_into(&from, from_stride, [rows, columns], &mut to, to_stride);
            for (index, &found) in to.iter().enumerate() {
                let (j, i) = (index / to_stride, index % to_stride);
                let expected = if i < rows { value(i * from_stride + j) } else { T::ZERO };
                assert_eq!(found, expected, "{rows}x{columns} at {i},{j}");
            }
        }
    }

    #[test]
    fn rows_may_lie_apart() {
        check_into(|i| i as f32 + 1.0);
        check_into(|i| i as f64 + 1.0);
    }

    #[test]
    fn is_the_transpose_of_every_matrix() {
        for (batch, rows, columns) in [(1, 1, 1), (3, 5, 7), (2, 3, 5000), (2, 5000, 3)] {
            let count = (batch * rows * columns) as u32;
            let x: Vec<u32> = (0..count).collect();
            let y = transpose_any(&x, rows, columns);
            for (i, &value) in y.iter().enumerate() {
                let (image, rest) = (i / (rows * columns), i % (rows * columns));
                let (column, row) = (rest / rows, rest % rows);
                assert_eq!(value as usize, (image * rows + row) * columns + column);
            }
        }
    }
}
