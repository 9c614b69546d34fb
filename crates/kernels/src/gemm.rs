//! Matrix products on views of slices.

mod packed;

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::compiled::compiled;
use super::finish::Finish;
use super::float::Float;
use super::layout::extent;
use super::output::filled_by;
use super::parallel::for_each_of;
use super::pieces::even_ranges;

pub use packed::{Multiply, PackedMatrix};
pub(crate) use packed::{multiply as multiply_packed, workspace as packed_workspace};

/// A matrix to read. Element `(row, col)` is at `row * row_stride + col * col_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A matrix with contiguous rows.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::with_row_stride(data, rows, cols, cols)
    }

    /// A matrix with rows that start `row_stride` elements apart.
    pub fn with_row_stride(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(extent(rows, cols, row_stride) <= data.len(), "the matrix lies inside its slice");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// A matrix of `[rows, cols]` whose element `(row, col)` is at `row * strides[0] + col * strides[1]`.
    pub(crate) fn with_strides(
        data: &'a [T],
        [rows, cols]: [usize; 2],
        [row_stride, col_stride]: [usize; 2],
    ) -> Self {
        let is_inside = rows == 0
            || cols == 0
            || (rows - 1) * row_stride + (cols - 1) * col_stride < data.len();
        assert!(is_inside, "the matrix lies inside its slice");
        Self { data, rows, cols, row_stride, col_stride }
    }

    /// All elements from the first one on, and the distance between rows.
    pub(crate) fn as_rows(&self) -> (&'a [T], usize) {
        assert_eq!(self.col_stride, 1, "a row's elements lie side by side");
        (self.data, self.row_stride)
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The part of the matrix in `rows` and `cols`. Neither range may be empty.
    pub(crate) fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        assert!(rows.start < rows.end && rows.end <= self.rows, "rows lie inside the matrix");
        assert!(cols.start < cols.end && cols.end <= self.cols, "columns lie inside the matrix");
        let start = rows.start * self.row_stride + cols.start * self.col_stride;
        Self { data: &self.data[start..], rows: rows.len(), cols: cols.len(), ..self }
    }
}

/// A matrix to write, with rows `row_stride` elements apart.
///
/// It borrows only its own elements exclusively. So tiles side by side in the same rows can go to different
/// threads.
pub(crate) struct MatrixMut<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a `MatrixMut` is an exclusive borrow of its elements, like `&mut [T]`.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}

/// A part of a `MatrixMut`, and its position.
pub(crate) struct Tile<'a, T> {
    pub(crate) rows: Range<usize>,
    pub(crate) cols: Range<usize>,
    pub(crate) matrix: MatrixMut<'a, T>,
}

impl<'a, T> MatrixMut<'a, T> {
    /// A matrix with contiguous rows.
    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        assert!(rows * cols <= data.len(), "the matrix lies inside its slice");
        Self { start: data.as_mut_ptr(), rows, cols, row_stride: cols, borrow: PhantomData }
    }

    /// A matrix with rows that start `row_stride` elements apart.
    pub(crate) fn with_row_stride(
        data: &'a mut [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> Self {
        assert!(cols <= row_stride, "rows do not overlap");
        assert!(extent(rows, cols, row_stride) <= data.len(), "the matrix lies inside its slice");
        Self { start: data.as_mut_ptr(), rows, cols, row_stride, borrow: PhantomData }
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

    /// One tile for each pair of ranges, row by row. Both lists must be ascending and without overlap.
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

/// Number of multiplications that take about as long as reading a number from memory.
pub(crate) const MULTIPLICATIONS: usize = 64;

/// Number of pairs of matrices from which on each pair is the task of a single thread.
const FEW_PAIRS: usize = 16;

/// The size of matrices that are stacked in memory, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stacked {
    /// Number of rows in memory.
    pub rows: usize,
    /// Number of columns in memory.
    pub cols: usize,
    /// Whether each matrix is used transposed.
    pub transposed: bool,
}

impl Stacked {
    /// Matrices of this size, used as they are.
    pub fn new(rows: usize, cols: usize) -> Self {
        Self { rows, cols, transposed: false }
    }

    /// The same matrices with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Number of rows and columns as used.
    pub fn size(self) -> [usize; 2] {
        if self.transposed { [self.cols, self.rows] } else { [self.rows, self.cols] }
    }

    fn matrix<T>(self, data: &[T]) -> Matrix<'_, T> {
        let matrix = Matrix::new(data, self.rows, self.cols);
        if self.transposed { matrix.transposed() } else { matrix }
    }
}

compiled! {
    trait Kernels<T>;

    /// `a * b` in row-major order, computed over all cores.
    pub fn product(a: Matrix<'_, T>, b: Matrix<'_, T>) -> Vec<T> {
        product_with(a, b, None)
    }

    /// As [`product`], with `bias` added to every row while it is in the cache.
    ///
    /// # Panics
    /// If the bias is shorter than a row.
    pub fn product_and_bias(a: Matrix<'_, T>, b: Matrix<'_, T>, bias: &[T]) -> Vec<T> {
        product_with(a, b, Some(bias))
    }

    /// The product of each of `batch` pairs of stacked matrices.
    ///
    /// # Panics
    /// If the slices do not hold that many matrices, or if sizes differ that must be equal.
    pub fn batched_product(a: &[T], of_a: Stacked, b: &[T], of_b: Stacked, batch: usize) -> Vec<T> {
        let ([rows, inner], [inner_b, cols]) = (of_a.size(), of_b.size());
        assert!(inner == inner_b && inner > 0, "sizes agree, and there is something to add up");
        assert_eq!(a.len(), batch * rows * inner, "a has the length of its matrices");
        assert_eq!(b.len(), batch * inner * cols, "b has the length of its matrices");
        let pair = |i: usize| {
            (of_a.matrix(&a[i * rows * inner..]), of_b.matrix(&b[i * inner * cols..]))
        };
        let write = |output: &mut [T]| {
            if output.is_empty() {
                return;
            }
            let matrices = output.par_chunks_exact_mut(rows * cols).enumerate();
            // This decision depends only on the number of pairs.
            if batch >= FEW_PAIRS {
                for_each_of(batch * rows * cols * inner / MULTIPLICATIONS, matrices, |(i, c)| {
                    let (a, b) = pair(i);
                    multiply(&mut MatrixMut::new(c, rows, cols), a, b, false);
                });
            } else {
                for (i, c) in output.chunks_exact_mut(rows * cols).enumerate() {
                    let (a, b) = pair(i);
                    multiply_parallel(MatrixMut::new(c, rows, cols), a, b, None);
                }
            }
        };
        // SAFETY: the matrices cover the output, and each product sets all of its matrix without
        // reading it.
        unsafe { filled_by(batch * rows * cols, write) }
    }
}

fn product_with<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, bias: Option<&[T]>) -> Vec<T> {
    let write = |output: &mut [T]| multiply_into(output, a, b, bias);
    // SAFETY: the tiles cover the product, and each is written without being read.
    unsafe { filled_by(a.rows * b.cols, write) }
}

/// `output = a * b + bias`. Sets every element of `output`, which is in row-major order, and reads none before.
pub(crate) fn multiply_into<T: Float>(
    output: &mut [T],
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    bias: Option<&[T]>,
) {
    let pays = packed::pays([a.rows, a.cols, b.cols], b.col_stride != 1);
    match T::packed_product() {
        Some(multiply) if pays => multiply(output, a, b, bias),
        _ => multiply_parallel(MatrixMut::new(output, a.rows, b.cols), a, b, bias),
    }
}

/// Whether a product of these rows, depth and columns packs its second factor once.
pub(crate) fn is_packed<T: Float>(sizes: [usize; 3], b_is_transposed: bool) -> bool {
    T::packed_product().is_some() && packed::pays(sizes, b_is_transposed)
}

fn multiply_parallel<T: Float>(
    product: MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    bias: Option<&[T]>,
) {
    let rows = even_ranges(product.rows, 256);
    let cols = even_ranges(product.cols, 256);
    let cost = product.rows * product.cols * a.cols / MULTIPLICATIONS;
    for_each_of(cost, product.tiles(&rows, &cols).into_par_iter(), |mut tile| {
        let bias = bias.map(|bias| &bias[tile.cols.clone()]);
        let (a, b) = (a.block(tile.rows, 0..a.cols), b.block(0..b.rows, tile.cols));
        multiply(&mut tile.matrix, a, b, false);
        if bias.is_some() {
            let by = Finish { bias, ..Finish::default() };
            for row in 0..tile.matrix.rows() {
                by.apply_here(tile.matrix.row_mut(row));
            }
        }
    });
}
