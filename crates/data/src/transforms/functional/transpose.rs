//! Turns rows of bytes into columns.

/// Rows of a block: a word of 8 bytes becomes a column of it.
const SIDE: usize = 8;
/// Columns of a block, a whole number of words. Machines with vectors turn all words of a row at once.
const COLUMNS: usize = SIDE * WORDS;
const WORDS: usize = 8;

/// A matrix of bytes, whose rows may be parts of longer rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    /// Begins with the first byte of the matrix.
    pub(super) bytes: &'a [u8],
    /// The distance of two rows.
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl<'a> Rows<'a> {
    /// A matrix whose rows follow each other.
    pub(super) fn whole(bytes: &'a [u8], rows: usize, columns: usize) -> Self {
        Self { bytes, stride: columns, rows, columns }
    }

    fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.stride..][..self.columns]
    }
}

/// The transpose of a matrix: `[rows, columns]` to `[columns, rows]`.
pub(super) fn transpose(matrix: Rows<'_>) -> Vec<u8> {
    let mut turned = vec![0; matrix.rows * matrix.columns];
    if matrix.rows < SIDE || matrix.columns < COLUMNS {
        for row in 0..matrix.rows {
            let places = turned[row..].iter_mut().step_by(matrix.rows);
            places.zip(matrix.row(row)).for_each(|(place, &value)| *place = value);
        }
    } else {
        pulp::Arch::new().dispatch(Blocks { matrix, turned: &mut turned });
    }
    turned
}

/// The work of [`transpose`] by blocks.
struct Blocks<'a> {
    matrix: Rows<'a>,
    turned: &'a mut [u8],
}

impl pulp::WithSimd for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Self { matrix, turned } = self;
        // The last block of an axis begins early enough to be a whole one.
        let starts = |length: usize, side: usize| {
            (0..length.div_ceil(side)).map(move |i| (i * side).min(length - side))
        };
        for left in starts(matrix.columns, COLUMNS) {
            for top in starts(matrix.rows, SIDE) {
                let mut block = [[0; WORDS]; SIDE];
                for (i, words) in block.iter_mut().enumerate() {
                    let (bytes, _) = matrix.row(top + i)[left..].as_chunks::<SIDE>();
                    for (word, &bytes) in words.iter_mut().zip(bytes) {
                        *word = u64::from_le_bytes(bytes);
                    }
                }
                turn(&mut block);
                for word in 0..WORDS {
                    for (i, words) in block.iter().enumerate() {
                        let at = (left + word * SIDE + i) * matrix.rows + top;
                        turned[at..at + SIDE].copy_from_slice(&words[word].to_le_bytes());
                    }
                }
            }
        }
    }
}

/// Byte `j` of row `i` becomes byte `i` of row `j`, in each of the words by itself: halves change places, then quarters,
/// then bytes (Warren, Hacker's Delight, section 7-3).
#[inline(always)]
fn turn(block: &mut [[u64; WORDS]; SIDE]) {
    exchange::<4>(block, 0x0000_0000_ffff_ffff);
    exchange::<2>(block, 0x0000_ffff_0000_ffff);
    exchange::<1>(block, 0x00ff_00ff_00ff_00ff);
}

/// Exchanges the bytes of a row that `low` does not name with those that it names, `DISTANCE` rows below.
#[inline(always)]
fn exchange<const DISTANCE: usize>(block: &mut [[u64; WORDS]; SIDE], low: u64) {
    for i in 0..SIDE / 2 {
        let upper = i / DISTANCE * 2 * DISTANCE + i % DISTANCE;
        let (mut above, mut below) = (block[upper], block[upper + DISTANCE]);
        for (above, below) in above.iter_mut().zip(&mut below) {
            let changed = ((*above >> (8 * DISTANCE)) ^ *below) & low;
            *below ^= changed;
            *above ^= changed << (8 * DISTANCE);
        }
        (block[upper], block[upper + DISTANCE]) = (above, below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_changes_row_and_column() {
        let sizes = [(1, 1), (7, 64), (8, 63), (8, 64), (9, 65), (16, 128), (33, 200), (70, 70)];
        for (rows, columns) in sizes {
            // Rows of a wider matrix.
            let (stride, first) = (columns + 5, 3);
            let bytes: Vec<u8> = (0..rows * stride).map(|i| (i * 193 % 251) as u8).collect();
            let turned = transpose(Rows { bytes: &bytes[first..], stride, rows, columns });
            for row in 0..rows {
                for column in 0..columns {
                    let expected = bytes[row * stride + first + column];
                    assert_eq!(turned[column * rows + row], expected, "{rows}x{columns}");
                }
            }
        }
    }
}
