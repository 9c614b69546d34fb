//! Matrices side by side.

use super::compiled::compiled;
use super::output::filled_in_pieces;
use super::pieces::rows_per_piece;

compiled! {
    trait Kernels<T>;

    /// Puts matrices side by side. Row `i` of the output is row `i` of each part in turn. A part is its elements and
    /// the length of its rows.
    ///
    /// # Panics
    /// If the parts have different numbers of rows.
    pub fn cat_rows(parts: &[(&[T], usize)]) -> Vec<T> {
        let row_len: usize = parts.iter().map(|(_, len)| len).sum();
        let rows = parts.iter().find(|(_, len)| *len > 0);
        let rows = rows.map_or(0, |(part, len)| part.len() / len);
        let fits = |(part, len): &(&[T], usize)| part.len() == rows * len;
        assert!(parts.iter().all(fits), "every part has as many rows");
        if rows * row_len == 0 {
            return Vec::new();
        }
        let per_piece = rows_per_piece(row_len);
        let write = |i: usize, out: &mut [T]| {
            for (row, mut out) in out.chunks_exact_mut(row_len).enumerate() {
                let row = i * per_piece + row;
                for (part, len) in parts {
                    let (own, rest) = out.split_at_mut(*len);
                    own.copy_from_slice(&part[row * len..][..*len]);
                    out = rest;
                }
            }
        };
        // SAFETY: a piece has whole rows, the parts of a row add up to `row_len`, and nothing is read from it.
        unsafe { filled_in_pieces(rows * row_len, per_piece * row_len, write) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_side_by_side() {
        let (x, y) = ([1f32, 2.0, 3.0, 4.0], [10f32, 20.0]);
        assert_eq!(cat_rows(&[(&x, 2), (&y, 1)]), [1.0, 2.0, 10.0, 3.0, 4.0, 20.0]);
        assert_eq!(cat_rows(&[(&y, 1), (&[], 0), (&x, 2)]), [10.0, 1.0, 2.0, 20.0, 3.0, 4.0]);
        assert!(cat_rows::<f32>(&[(&[], 3), (&[], 1)]).is_empty());
        assert!(cat_rows::<f32>(&[]).is_empty());
    }
}
