//! Matrix products with a factor that was packed in advance.

use std::ops::Range;

use super::pieces::split;
use super::simd::Simd;

/// Divides `columns` columns into panels of at most `most` whole vectors of `lanes`, as evenly as possible.
/// The last panel may end behind the last column.
pub(crate) fn panels(columns: usize, lanes: usize, most: usize) -> Vec<Range<usize>> {
    let vectors = columns.div_ceil(lanes);
    let panels = split(vectors, vectors.div_ceil(most));
    panels.into_iter().map(|panel| panel.start * lanes..panel.end * lanes).collect()
}

/// `c[i][j] = Σ_p a[i * a_row + p * a_step] * b[p * width + j]` for `i < rows`, `j < width`, `p < depth`.
/// The rows of `c` are `c_row` elements apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    /// A multiple of the lanes, and at most four vectors.
    pub(crate) width: usize,
    pub(crate) a_row: usize,
    pub(crate) a_step: usize,
    pub(crate) c_row: usize,
    /// Number of rows of a block: 8, or at most 6.
    pub(crate) block_rows: usize,
    /// Whether to add to `c` instead of overwriting it.
    pub(crate) accumulate: bool,
}

impl Product {
    /// # Safety
    /// Every index that the definition of the product names is inside its buffer.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(&self, simd: S, a: *const f32, b: *const f32, c: *mut f32) {
        // SAFETY: passed on.
        unsafe {
            match self.width / S::LANES {
                1 => self.run_width::<S, 1>(simd, a, b, c),
                2 => self.run_width::<S, 2>(simd, a, b, c),
                3 => self.run_width::<S, 3>(simd, a, b, c),
                4 => self.run_width::<S, 4>(simd, a, b, c),
                vectors => unreachable!("a panel of {vectors} vectors"),
            }
        }
    }

    #[inline(always)]
    unsafe fn run_width<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        a: *const f32,
        b: *const f32,
        c: *mut f32,
    ) {
        let mut row = 0;
        while row < self.rows {
            let rows = self.block_rows.min(self.rows - row);
            // SAFETY: rows `row..row + rows` are among those of the product.
            unsafe {
                let (a, c) = (a.add(row * self.a_row), c.add(row * self.c_row));
                match rows {
                    1 => self.block::<S, 1, VECTORS>(simd, a, b, c),
                    2 => self.block::<S, 2, VECTORS>(simd, a, b, c),
                    3 => self.block::<S, 3, VECTORS>(simd, a, b, c),
                    4 => self.block::<S, 4, VECTORS>(simd, a, b, c),
                    5 => self.block::<S, 5, VECTORS>(simd, a, b, c),
                    6 => self.block::<S, 6, VECTORS>(simd, a, b, c),
                    8 => self.block::<S, 8, VECTORS>(simd, a, b, c),
                    rows => unreachable!("a block of {rows} rows"),
                }
            }
            row += rows;
        }
    }

    /// Computes `ROWS` rows. Their sums stay in registers.
    #[inline(always)]
    unsafe fn block<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &self,
        simd: S,
        mut a: *const f32,
        mut b: *const f32,
        c: *mut f32,
    ) {
        // SAFETY: the caller vouches for all of `a` and `c`, of `ROWS` rows, and of `b`.
        unsafe {
            let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
            if self.accumulate {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.load(c.add(i * self.c_row + j * S::LANES));
                    }
                }
            }
            for _ in 0..self.depth {
                let mut columns = [simd.splat(0.0); VECTORS];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = simd.load(b.add(j * S::LANES));
                    simd.prefetch(b.wrapping_add((8 * VECTORS + j) * S::LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let value = simd.splat(*a.add(i * self.a_row));
                    for (sum, &column) in sums.iter_mut().zip(&columns) {
                        *sum = simd.mul_add(value, column, *sum);
                    }
                }
                // The last step leaves both pointers past their data, but nothing is read there.
                a = a.wrapping_add(self.a_step);
                b = b.wrapping_add(VECTORS * S::LANES);
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, &sum) in sums.iter().enumerate() {
                    simd.store(c.add(i * self.c_row + j * S::LANES), sum);
                }
            }
        }
    }
}
