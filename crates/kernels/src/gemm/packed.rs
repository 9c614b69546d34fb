//! Products of large matrices of `f32`.
//!
//! The second factor is packed once, for all tasks, into the order in which the inner loop reads it. The `gemm` crate
//! packs it again for each tile of the product. The first factor is read where it lies if its rows are contiguous.

use std::fmt;
use std::ops::Range;

use rayon::prelude::*;

use super::{Matrix, MatrixMut, Tile};
use crate::finish::Finish;
use crate::layout::transpose_into;
use crate::output::filled_by;
use crate::parallel::for_each;
use crate::pieces::{even_ranges, split};
use crate::product::{Product, panels};
use crate::scratch::Scratch;
use crate::simd::{Level, Simd, with_simd};
use crate::workspace::Workspace;

/// Multiplies two matrices and adds a bias to each row. The product is in row-major order.
pub type Multiply<T> = fn(&mut [T], Matrix<'_, T>, Matrix<'_, T>, Option<&[T]>);

/// Number of rows of a tile. Its part of the first factor fits the second-level cache.
const ROWS: usize = 96;

/// Number of columns of the first factor that are multiplied at a time. So many rows of a panel of the second factor
/// fit the second-level cache, too.
const DEPTH: usize = 512;

/// From so many rows on, packing the second factor takes little time beside multiplying it. If it is transposed, the
/// `gemm` crate takes long to pack it, too.
const MIN_ROWS: usize = 384;
const MIN_ROWS_IF_TRANSPOSED: usize = 192;

/// From so many columns on, the panels are mostly full.
const MIN_COLS: usize = 32;

/// Whether [`multiply`] is faster for `[rows, depth]` times `[depth, cols]` than the `gemm` crate.
pub(super) fn pays([rows, depth, cols]: [usize; 3], b_is_transposed: bool) -> bool {
    let min_rows = if b_is_transposed { MIN_ROWS_IF_TRANSPOSED } else { MIN_ROWS };
    rows >= min_rows && cols >= MIN_COLS && depth >= MIN_COLS
}

/// The working memory of [`multiply`].
pub(crate) fn workspace([rows, depth, cols]: [usize; 3], a_is_transposed: bool) -> Workspace {
    with_simd!(Level::get(), simd => workspace_with(simd, [rows, depth, cols], a_is_transposed))
}

fn workspace_with<S: Simd>(
    _: S,
    [rows, depth, cols]: [usize; 3],
    a_is_transposed: bool,
) -> Workspace {
    let panels = panels(cols, S::LANES, S::WIDE_BLOCK.1);
    let last = panels.last().cloned().unwrap_or_default();
    let rows = largest(&even_ranges(rows, ROWS));
    let behind = if last.end > cols { rows * last.len() } else { 0 };
    let copied = if a_is_transposed { rows * largest(&even_ranges(depth, DEPTH)) } else { 0 };
    Workspace::of_floats(&[depth * last.end], &[behind, copied])
}

fn largest(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(Range::len).max().unwrap_or(0)
}

/// `product = a * b + bias`. Sets every element of `product` and reads none before.
///
/// # Panics
/// If the sizes do not agree.
pub(crate) fn multiply(
    product: &mut [f32],
    a: Matrix<'_, f32>,
    b: Matrix<'_, f32>,
    bias: Option<&[f32]>,
) {
    with_simd!(Level::get(), simd => PackedMatrix::with(simd, b, Scratch::take).multiply(simd, product, a, bias));
}

/// The second factor of products, in the order in which they read it. It serves a weight that does not change.
pub struct PackedMatrix {
    rows: usize,
    cols: usize,
    /// Columns of each panel. The last may reach behind the matrix, where its elements are zero.
    panels: Vec<Range<usize>>,
    /// Each panel is `[rows, width]`.
    values: Scratch<f32>,
}

impl fmt::Debug for PackedMatrix {
    /// Prints the size, without the numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, cols, .. } = self;
        f.debug_struct("PackedMatrix")
            .field("rows", rows)
            .field("cols", cols)
            .finish_non_exhaustive()
    }
}

impl PackedMatrix {
    /// A packed copy of `matrix`.
    pub fn new(matrix: Matrix<'_, f32>) -> Self {
        with_simd!(Level::get(), simd => Self::with(simd, matrix, Scratch::lasting))
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// `a` times this matrix in row-major order, with `bias` added to every row.
    ///
    /// # Panics
    /// If `a` has not as many columns as this matrix has rows, or the bias is not as long as a row.
    pub fn product(&self, a: Matrix<'_, f32>, bias: Option<&[f32]>) -> Vec<f32> {
        let write = |product: &mut [f32]| {
            with_simd!(Level::get(), simd => self.multiply(simd, product, a, bias));
        };
        // SAFETY: `multiply` sets every element and reads none before.
        unsafe { filled_by(a.rows * self.cols, write) }
    }

    fn with<S: Simd>(_: S, matrix: Matrix<'_, f32>, memory: fn(usize) -> Scratch<f32>) -> Self {
        let panels = panels(matrix.cols, S::LANES, S::WIDE_BLOCK.1);
        let mut values = memory(matrix.rows * panels.last().map_or(0, |panel| panel.end));
        pack(matrix, &panels, &mut values);
        Self { rows: matrix.rows, cols: matrix.cols, panels, values }
    }

    fn multiply<S: Simd>(
        &self,
        simd: S,
        product: &mut [f32],
        a: Matrix<'_, f32>,
        bias: Option<&[f32]>,
    ) {
        let Self { cols, panels, .. } = self;
        assert_eq!((a.cols, product.len()), (self.rows, a.rows * cols), "sizes agree");
        assert!(bias.is_none_or(|bias| bias.len() == *cols), "one number for each column");
        if a.cols == 0 || product.is_empty() {
            return product.fill(0.0);
        }
        let rows = even_ranges(a.rows, ROWS);
        // Tiles of few columns copy the first factor more often. Each element is added up in the same order in any
        // tile, so the number of threads may decide here.
        let tasks = 2 * rayon::current_num_threads();
        let parts = split(panels.len(), tasks.div_ceil(rows.len()));
        let columns =
            |part: &Range<usize>| panels[part.start].start..panels[part.end - 1].end.min(*cols);
        let columns: Vec<_> = parts.iter().map(columns).collect();
        let tiles = MatrixMut::new(product, a.rows, *cols).tiles(&rows, &columns);
        let tiles: Vec<_> = tiles.into_iter().zip(parts.iter().cycle()).collect();
        for_each(tiles.into_par_iter(), |(mut tile, part)| {
            let factors = Factors { simd, a, packed: &self.values, depth: self.rows };
            factors.multiply(&mut tile, &panels[part.clone()]);
            if let Some(bias) = bias {
                let by = Finish { bias: Some(&bias[tile.cols.clone()]), ..Finish::default() };
                for row in 0..tile.matrix.rows() {
                    by.apply_here(tile.matrix.row_mut(row));
                }
            }
        });
    }
}

/// Writes each panel of columns as `[rows, width]`. Columns behind the last one are zero.
fn pack(matrix: Matrix<'_, f32>, panels: &[Range<usize>], mut to: &mut [f32]) {
    let mut tasks = Vec::new();
    for panel in panels {
        for rows in even_ranges(matrix.rows, DEPTH) {
            let (part, behind) = to.split_at_mut(rows.len() * panel.len());
            tasks.push((panel.clone(), rows, part));
            to = behind;
        }
    }
    for_each(tasks.into_par_iter(), |(panel, rows, to)| {
        let (width, count) = (panel.len(), matrix.cols.min(panel.end) - panel.start);
        if count < width {
            for row in to.chunks_exact_mut(width) {
                row[count..].fill(0.0);
            }
        }
        copy(matrix.block(rows, panel.start..panel.start + count), to, width);
    });
}

/// Copies a matrix to contiguous rows that are `stride` elements apart.
fn copy(from: Matrix<'_, f32>, to: &mut [f32], stride: usize) {
    let Matrix { data, rows, cols, row_stride, col_stride } = from;
    if col_stride == 1 {
        for (row, to) in to.chunks_mut(stride).take(rows).enumerate() {
            to[..cols].copy_from_slice(&data[row * row_stride..][..cols]);
        }
    } else if row_stride == 1 {
        transpose_into(data, col_stride, [cols, rows], to, stride);
    } else {
        for (row, to) in to.chunks_mut(stride).take(rows).enumerate() {
            for (col, to) in to[..cols].iter_mut().enumerate() {
                *to = data[row * row_stride + col * col_stride];
            }
        }
    }
}

/// What is multiplied: a matrix, and another in panels of `depth` rows.
struct Factors<'a, S> {
    simd: S,
    a: Matrix<'a, f32>,
    packed: &'a [f32],
    depth: usize,
}

impl<S: Simd> Factors<'_, S> {
    /// Writes one tile of the product, whose columns are those of `panels`.
    fn multiply(&self, tile: &mut Tile<'_, f32>, panels: &[Range<usize>]) {
        let rows = tile.rows.len();
        let (cols, last) = (tile.cols.clone(), panels.last().expect("a tile has columns").clone());
        // Whole vectors of the last panel may reach behind the row.
        let mut behind = (last.end > cols.end).then(|| Scratch::take(rows * last.len()));
        let slices = even_ranges(self.depth, DEPTH);
        let is_in_rows = self.a.col_stride == 1;
        let mut copied = Scratch::take(if is_in_rows { 0 } else { rows * largest(&slices) });
        for slice in &slices {
            let mut a = self.a.block(tile.rows.clone(), slice.clone());
            if !is_in_rows {
                copy(a, &mut copied, slice.len());
                a = Matrix::new(&copied, rows, slice.len());
            }
            for panel in panels {
                let (c, c_row) = match &mut behind {
                    Some(behind) if *panel == last => (behind.as_mut_ptr(), panel.len()),
                    _ => {
                        let start = panel.start - cols.start;
                        // SAFETY: the panel's columns lie in the tile.
                        (unsafe { tile.matrix.start.add(start) }, tile.matrix.row_stride)
                    }
                };
                let product = Product {
                    rows,
                    depth: slice.len(),
                    width: panel.len(),
                    a_row: a.row_stride,
                    a_step: 1,
                    c_row,
                    block_rows: S::WIDE_BLOCK.0,
                    accumulate: slice.start > 0,
                };
                let b = &self.packed[self.depth * panel.start + slice.start * panel.len()..];
                let b = &b[..slice.len() * panel.len()];
                self.simd.vectorize(
                    #[inline(always)]
                    // SAFETY: `a` is a block of `rows` rows of `slice.len()` elements inside its slice, and `b` was cut
                    // to as many rows of the panel. `c` is this tile's, or has `rows` rows of the panel's width.
                    || unsafe { product.run(self.simd, a.data.as_ptr(), b.as_ptr(), c) },
                );
            }
        }
        if let Some(behind) = behind {
            for (row, sums) in behind.chunks_exact(last.len()).enumerate() {
                let count = cols.end - last.start;
                tile.matrix.row_mut(row)[last.start - cols.start..].copy_from_slice(&sums[..count]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, whose products add up without rounding.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7 + seed) % 13) as f32 - 6.0).collect()
    }

    fn check<S: Simd>(
        simd: S,
        [rows, depth, cols]: [usize; 3],
        transposed: [bool; 2],
        biased: bool,
    ) {
        let (of_a, of_b) = (numbers(rows * depth, 1), numbers(depth * cols, 2));
        let matrix = |data, rows, cols, transposed| {
            if transposed {
                Matrix::new(data, cols, rows).transposed()
            } else {
                Matrix::new(data, rows, cols)
            }
        };
        let a = matrix(&of_a, rows, depth, transposed[0]);
        let b = matrix(&of_b, depth, cols, transposed[1]);
        let bias = numbers(cols, 3);
        let bias = biased.then_some(&bias[..]);
        let mut product = vec![f32::NAN; rows * cols];
        PackedMatrix::with(simd, b, Scratch::take).multiply(simd, &mut product, a, bias);
        let at =
            |m: Matrix<'_, f32>, i: usize, j: usize| m.data[i * m.row_stride + j * m.col_stride];
        for i in 0..rows {
            for j in 0..cols {
                let sum: f32 = (0..depth).map(|p| at(a, i, p) * at(b, p, j)).sum();
                let expected = sum + bias.map_or(0.0, |bias| bias[j]);
                assert_eq!(
                    product[i * cols + j],
                    expected,
                    "{rows}x{depth}x{cols} {transposed:?} at {i}, {j}"
                );
            }
        }
    }

    #[test]
    fn products_of_every_form_are_exact_on_small_numbers() {
        for level in Level::available() {
            for size in [[1, 1, 1], [7, 5, 16], [97, 33, 65], [193, 600, 40], [64, 1030, 130]] {
                for transposed in [[false, false], [true, false], [false, true], [true, true]] {
                    with_simd!(level, simd => check(simd, size, transposed, size[0] % 2 == 1));
                }
            }
        }
    }
}
