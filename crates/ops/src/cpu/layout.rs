//! Transposing a batch of matrices, which is what turns one image layout into the other.

use super::output::build_blocks;
use super::pieces::rows_per_piece;
use super::vectorize::vectorize;

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
pub(crate) fn transpose<T>(x: &[T], rows: usize, columns: usize) -> Vec<T>
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

trait Element: Copy {}
impl<T: Copy> Element for T {}

vectorize! {
    /// Writes the columns of `x` from `first` on as rows of `out`, as many as it holds. Reads along
    /// rows; the scattered writes stay within `out`, which is a piece and so in the nearest cache.
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

    #[test]
    fn is_the_transpose_of_every_matrix() {
        for (batch, rows, columns) in [(1, 1, 1), (3, 5, 7), (2, 3, 5000), (2, 5000, 3)] {
            let count = (batch * rows * columns) as u32;
            let x: Vec<u32> = (0..count).collect();
            let y = transpose(&x, rows, columns);
            for (i, &value) in y.iter().enumerate() {
                let (image, rest) = (i / (rows * columns), i % (rows * columns));
                let (column, row) = (rest / rows, rest % rows);
                assert_eq!(value as usize, (image * rows + row) * columns + column);
            }
        }
    }
}
