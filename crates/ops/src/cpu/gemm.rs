//! Matrix products on views of slices.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::float::Float;
use super::layout::extent;
use super::output::filled_by;
use super::parallel::for_each_of;
use super::pieces::even_ranges;

/// A matrix to read: element `(row, col)` lies at `row * row_stride + col * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Rows one after the other.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::with_row_stride(data, rows, cols, cols)
    }

    /// Rows that start `row_stride` elements apart.
    pub(crate) fn with_row_stride(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> Self {
        assert!(extent(rows, cols, row_stride) <= data.len(), "the matrix lies inside its slice");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// All elements from the first on, and the distance between rows.
    pub(crate) fn as_rows(&self) -> (&'a [T], usize) {
        assert_eq!(self.col_stride, 1, "a row's elements lie side by side");
        (self.data, self.row_stride)
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The part of the matrix in `rows` and `cols`, neither of them empty.
    pub(crate) fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.rows, "rows lie inside the matrix");
        assert!(cols.start < cols.end && cols.end <= self.cols, "columns lie inside the matrix");
        let start = rows.start * self.row_stride + cols.start * self.col_stride;
        Self { data: &self.data[start..], rows: rows.len(), cols: cols.len(), ..self }
    }
}

/// A matrix to write, with rows `row_stride` elements apart.
///
/// It stands for an exclusive borrow of its elements only, so that tiles side by side in the same
/// rows can go to different threads.
pub(crate) struct MatrixMut<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a `MatrixMut` is an exclusive borrow of its elements, like `&mut [T]`.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}

/// A part of a `MatrixMut`, and where in it the part lies.
pub(crate) struct Tile<'a, T> {
    pub(crate) rows: Range<usize>,
    pub(crate) cols: Range<usize>,
    pub(crate) matrix: MatrixMut<'a, T>,
}

impl<'a, T> MatrixMut<'a, T> {
    /// Rows one after the other.
    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        assert!(rows * cols <= data.len(), "the matrix lies inside its slice");
        Self { start: data.as_mut_ptr(), rows, cols, row_stride: cols, borrow: PhantomData }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The elements of one row.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "the row lies inside the matrix");
        // SAFETY: the row's elements lie inside the matrix, which `self` borrows exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.cols) }
    }

    /// One tile for each pair of ranges, row by row. Both lists must ascend without overlap.
    pub(crate) fn tiles(self, rows: &[Range<usize>], cols: &[Range<usize>]) -> Vec<Tile<'a, T>> {
        assert_disjoint(rows, self.rows);
        assert_disjoint(cols, self.cols);
        let tile = |rows: &Range<usize>, cols: &Range<usize>| Tile {
            rows: rows.clone(),
            cols: cols.clone(),
            matrix: MatrixMut {
                // SAFETY: the ranges lie inside the matrix. As they do not overlap, no two tiles
                // share an element, and `self` is consumed.
                start: unsafe { self.start.add(rows.start * self.row_stride + cols.start) },
                rows: rows.len(),
                cols: cols.len(),
                row_stride: self.row_stride,
                borrow: PhantomData,
            },
        };
        rows.iter().flat_map(|rows| cols.iter().map(move |cols| tile(rows, cols))).collect()
    }
}

fn assert_disjoint(ranges: &[Range<usize>], len: usize) {
    let mut end = 0;
    for range in ranges {
        assert!(end <= range.start && range.start < range.end, "ranges ascend without overlap");
        end = range.end;
    }
    assert!(end <= len, "ranges lie inside the matrix");
}

/// `product = a * b`, or `product += a * b`, on the current thread.
pub(crate) fn multiply<T: Float>(
    product: &mut MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    accumulate: bool,
) {
    assert_eq!((product.rows, product.cols, a.cols), (a.rows, b.cols, b.rows), "sizes agree");
    // SAFETY: each view's constructor checked that its elements lie inside its slice, and
    // `product` borrows its elements exclusively.
    unsafe {
        gemm::gemm(
            product.rows,
            product.cols,
            a.cols,
            product.start,
            1,
            product.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `a * b` row by row, computed over all cores.
pub(crate) fn product<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>) -> Vec<T> {
    let write = |output: &mut [T]| multiply_parallel(MatrixMut::new(output, a.rows, b.cols), a, b);
    // SAFETY: the tiles cover the product, and each is written without being read.
    unsafe { filled_by(a.rows * b.cols, write) }
}

fn multiply_parallel<T: Float>(product: MatrixMut<'_, T>, a: Matrix<'_, T>, b: Matrix<'_, T>) {
    let rows = even_ranges(product.rows, 256);
    let cols = even_ranges(product.cols, 256);
    // So many multiplications take about as long as it takes to read a number.
    const MULTIPLICATIONS: usize = 64;
    let cost = product.rows * product.cols * a.cols / MULTIPLICATIONS;
    for_each_of(cost, product.tiles(&rows, &cols).into_par_iter(), |mut tile| {
        let (a, b) = (a.block(tile.rows, 0..a.cols), b.block(0..b.rows, tile.cols));
        multiply(&mut tile.matrix, a, b, false);
    });
}
