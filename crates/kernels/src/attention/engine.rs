//! The inner loops, with vectors of `f32` and without.

use std::ops::Range;

use crate::float::Float;
use crate::gemm::{self, MatrixMut};
use crate::layout::extent;
use crate::product::Product;
use crate::simd::{MAX_LANES, Simd};

/// The inner loops for one number type. Rows of matrices are `stride` elements apart.
pub(super) trait Engine<T: Float>: Copy + Send + Sync {
    /// Rows of packed factors are multiples of this long.
    const LANES: usize;
    /// Number of vectors of the widest panel.
    const PANEL: usize;
    /// Number of rows of a block of a product.
    const BLOCK_ROWS: usize;

    /// See [`Product`].
    fn product(self, product: &Product, a: &[T], b: &[T], c: &mut [T]);

    /// Writes `factor` times a matrix to contiguous rows that end with zeros up to a whole vector.
    fn pack(self, from: &[T], stride: usize, size: [usize; 2], factor: T, to: &mut [T]);

    /// Writes contiguous rows of `width`, each times its factor, to `rows` of a matrix, which may be
    /// narrower.
    fn write(
        self,
        from: &[T],
        width: usize,
        factor: impl Fn(usize) -> T,
        to: &mut MatrixMut<'_, T>,
        rows: Range<usize>,
    );

    /// Adds the terms, whose rows have `columns` elements, to the scores, and replaces each by
    /// `exp(score - largest of its row)`. Writes two numbers for each row: the largest score, and the factor
    /// that makes the row add up to one.
    fn softmax(
        self,
        scores: &mut [T],
        stride: usize,
        columns: usize,
        terms: [Option<&[T]>; 2],
        statistics: &mut [T],
    );

    /// Replaces the scores by their probabilities, and the gradients of the probabilities by those of the
    /// scores, which it also adds to `sum`, whose rows have `columns` elements.
    fn softmax_gradient(
        self,
        scores_and_gradients: [&mut [T]; 2],
        stride: usize,
        columns: usize,
        terms: [Option<&[T]>; 2],
        statistics: &[T],
        sum: Option<&mut [T]>,
    );
}

/// The largest score of a row, to subtract. If all are minus infinity, it is 0, so that all exponentials
/// are 0 rather than NaN.
#[inline(always)]
fn subtracted<T: Float>(largest: T) -> T {
    if largest == T::narrow(f64::NEG_INFINITY) { T::ZERO } else { largest }
}

/// The factor that makes a row with this sum of exponentials add up to one. It is 0 if nothing has any
/// probability.
#[inline(always)]
fn factor_of<T: Float>(sum: T) -> T {
    if sum == T::ZERO { T::ZERO } else { T::ONE / sum }
}

fn check_product<T>(product: &Product, a: &[T], b: &[T], c: &[T]) {
    let &Product { rows, depth, width, a_row, a_step, c_row, .. } = product;
    assert!(rows > 0 && depth > 0 && width > 0, "the product has elements");
    assert!((rows - 1) * a_row + (depth - 1) * a_step < a.len(), "a lies inside its slice");
    assert!(depth * width <= b.len(), "so does b");
    assert!(extent(rows, width, c_row) <= c.len(), "so does c");
}

/// For any number type, without vectors.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl<T: Float> Engine<T> for Plain {
    const LANES: usize = 1;
    const PANEL: usize = usize::MAX;
    const BLOCK_ROWS: usize = usize::MAX;

    fn product(self, product: &Product, a: &[T], b: &[T], c: &mut [T]) {
        check_product(product, a, b, c);
        let &Product { rows, depth, width, a_row, a_step, c_row, accumulate, .. } = product;
        let a = gemm::Matrix::with_strides(a, [rows, depth], [a_row, a_step]);
        let b = gemm::Matrix::new(b, depth, width);
        let mut c = MatrixMut::with_row_stride(c, rows, width, c_row);
        gemm::multiply(&mut c, a, b, accumulate);
    }

    fn pack(self, from: &[T], stride: usize, [rows, columns]: [usize; 2], factor: T, to: &mut [T]) {
        for (row, to) in to.chunks_exact_mut(columns).take(rows).enumerate() {
            for (to, &from) in to.iter_mut().zip(&from[row * stride..]) {
                *to = from * factor;
            }
        }
    }

    fn write(
        self,
        from: &[T],
        width: usize,
        factor: impl Fn(usize) -> T,
        to: &mut MatrixMut<'_, T>,
        rows: Range<usize>,
    ) {
        for (row, from) in from.chunks_exact(width).take(rows.len()).enumerate() {
            let factor = factor(row);
            for (to, &from) in to.row_mut(rows.start + row).iter_mut().zip(from) {
                *to = from * factor;
            }
        }
    }

    fn softmax(
        self,
        scores: &mut [T],
        stride: usize,
        columns: usize,
        terms: [Option<&[T]>; 2],
        statistics: &mut [T],
    ) {
        for (row, statistics) in statistics.chunks_exact_mut(2).enumerate() {
            let scores = &mut scores[row * stride..][..columns];
            add_terms(scores, terms, row);
            let larger = |a: T, &b: &T| if b > a { b } else { a };
            let largest = subtracted(scores.iter().fold(scores[0], larger));
            let mut sum = 0.0;
            for score in scores {
                *score = (*score - largest).exp();
                sum += score.widen();
            }
            statistics.copy_from_slice(&[largest, factor_of(T::narrow(sum))]);
        }
    }

    fn softmax_gradient(
        self,
        [scores, gradients]: [&mut [T]; 2],
        stride: usize,
        columns: usize,
        terms: [Option<&[T]>; 2],
        statistics: &[T],
        mut sum: Option<&mut [T]>,
    ) {
        for (row, statistics) in statistics.chunks_exact(2).enumerate() {
            let scores = &mut scores[row * stride..][..columns];
            let gradients = &mut gradients[row * stride..][..columns];
            add_terms(scores, terms, row);
            let mut mean = 0.0;
            for (score, gradient) in scores.iter_mut().zip(&*gradients) {
                *score = (*score - statistics[0]).exp() * statistics[1];
                mean += score.widen() * gradient.widen();
            }
            for (&probability, gradient) in scores.iter().zip(&mut *gradients) {
                *gradient = probability * (*gradient - T::narrow(mean));
            }
            if let Some(sum) = &mut sum {
                for (sum, &gradient) in sum[row * columns..].iter_mut().zip(&*gradients) {
                    *sum += gradient;
                }
            }
        }
    }
}

fn add_terms<T: Float>(scores: &mut [T], terms: [Option<&[T]>; 2], row: usize) {
    for term in terms.into_iter().flatten() {
        let columns = scores.len();
        for (score, &term) in scores.iter_mut().zip(&term[row * columns..]) {
            *score += term;
        }
    }
}

/// For `f32`, with the vectors of an instruction set.
#[derive(Clone, Copy)]
pub(super) struct Vectors<S>(pub(super) S);

impl<S: Simd> Engine<f32> for Vectors<S> {
    const LANES: usize = S::LANES;
    const PANEL: usize = S::WIDE_BLOCK.1;
    const BLOCK_ROWS: usize = S::WIDE_BLOCK.0;

    // Not inlined, because it holds a loop for every size of block.
    #[inline(never)]
    fn product(self, product: &Product, a: &[f32], b: &[f32], c: &mut [f32]) {
        check_product(product, a, b, c);
        let simd = self.0;
        simd.vectorize(
            #[inline(always)]
            // SAFETY: just checked.
            || unsafe { product.run(simd, a.as_ptr(), b.as_ptr(), c.as_mut_ptr()) },
        );
    }

    fn pack(
        self,
        from: &[f32],
        stride: usize,
        [rows, columns]: [usize; 2],
        factor: f32,
        to: &mut [f32],
    ) {
        let width = columns.next_multiple_of(S::LANES);
        assert!(extent(rows, columns, stride) <= from.len() && rows * width <= to.len());
        let simd = self.0;
        simd.vectorize(
            #[inline(always)]
            || {
                let factor = simd.splat(factor);
                for row in 0..rows {
                    for column in (0..columns).step_by(S::LANES) {
                        // SAFETY: both matrices were just found to lie inside their slices.
                        unsafe {
                            let from = from.as_ptr().add(row * stride + column);
                            let to = to.as_mut_ptr().add(row * width + column);
                            let value = load(simd, from, columns - column);
                            simd.store(to, simd.mul(value, factor));
                        }
                    }
                }
            },
        );
    }

    fn write(
        self,
        from: &[f32],
        width: usize,
        factor: impl Fn(usize) -> f32,
        to: &mut MatrixMut<'_, f32>,
        rows: Range<usize>,
    ) {
        assert!(rows.len() * width <= from.len());
        let simd = self.0;
        simd.vectorize(
            #[inline(always)]
            || {
                for row in 0..rows.len() {
                    let factor = simd.splat(factor(row));
                    let to = to.row_mut(rows.start + row);
                    assert!(to.len() <= width);
                    for column in (0..to.len()).step_by(S::LANES) {
                        // SAFETY: the row of `from` has `width` elements, which is a multiple of the lanes.
                        unsafe {
                            let value = simd.load(from.as_ptr().add(row * width + column));
                            let (value, left) = (simd.mul(value, factor), to.len() - column);
                            store(simd, to.as_mut_ptr().add(column), value, left);
                        }
                    }
                }
            },
        );
    }

    fn softmax(
        self,
        scores: &mut [f32],
        stride: usize,
        columns: usize,
        terms: [Option<&[f32]>; 2],
        statistics: &mut [f32],
    ) {
        let rows = statistics.len() / 2;
        check_rows(rows, stride, columns, scores, terms);
        let simd = self.0;
        simd.vectorize(
            #[inline(always)]
            || {
                for row in 0..rows {
                    let row_of = Row { columns, terms: terms_of(terms, row, columns) };
                    let scores = &mut scores[row * stride..][..columns.next_multiple_of(S::LANES)];
                    // SAFETY: the row has `columns` scores and whole vectors, as have its terms.
                    let [largest, sum] = unsafe { softmax_row(simd, scores.as_mut_ptr(), row_of) };
                    statistics[2 * row..][..2].copy_from_slice(&[largest, factor_of(sum)]);
                }
            },
        );
    }

    fn softmax_gradient(
        self,
        [scores, gradients]: [&mut [f32]; 2],
        stride: usize,
        columns: usize,
        terms: [Option<&[f32]>; 2],
        statistics: &[f32],
        mut sum: Option<&mut [f32]>,
    ) {
        let rows = statistics.len() / 2;
        check_rows(rows, stride, columns, scores, terms);
        check_rows(rows, stride, columns, gradients, [sum.as_deref(), None]);
        let simd = self.0;
        simd.vectorize(
            #[inline(always)]
            || {
                for row in 0..rows {
                    let row_of = Row { columns, terms: terms_of(terms, row, columns) };
                    let scores = &mut scores[row * stride..][..columns.next_multiple_of(S::LANES)];
                    let gradients = &mut gradients[row * stride..][..scores.len()];
                    let sum = sum.as_deref_mut().map(|sum| &mut sum[row * columns..][..columns]);
                    // SAFETY: as above.
                    unsafe {
                        let (scores, gradients) = (scores.as_mut_ptr(), gradients.as_mut_ptr());
                        let sum = sum.map(<[f32]>::as_mut_ptr);
                        let statistics = [statistics[2 * row], statistics[2 * row + 1]];
                        gradient_row(simd, scores, gradients, row_of, statistics, sum);
                    }
                }
            },
        );
    }
}

fn check_rows(
    rows: usize,
    stride: usize,
    columns: usize,
    scores: &[f32],
    terms: [Option<&[f32]>; 2],
) {
    assert!(columns > 0 && columns <= stride && rows * stride <= scores.len(), "whole rows");
    let is_enough = |term: &[f32]| rows * columns <= term.len();
    assert!(terms.into_iter().flatten().all(is_enough), "as many rows of terms");
}

/// A row of scores whose padding is not looked at.
#[derive(Clone, Copy)]
struct Row {
    columns: usize,
    terms: [Option<*const f32>; 2],
}

#[inline(always)]
fn terms_of(terms: [Option<&[f32]>; 2], row: usize, columns: usize) -> [Option<*const f32>; 2] {
    terms.map(|term| term.map(|term| term[row * columns..][..columns].as_ptr()))
}

/// Loads a vector of which only `left` elements may be read. The others are zero.
///
/// # Safety
/// So many elements at `from` are readable.
#[inline(always)]
unsafe fn load<S: Simd>(simd: S, from: *const f32, left: usize) -> S::Vector {
    // SAFETY: passed on.
    unsafe { if left >= S::LANES { simd.load(from) } else { simd.load_first(from, left) } }
}

/// Stores the first `left` lanes.
///
/// # Safety
/// So many elements at `to` are writable.
#[inline(always)]
unsafe fn store<S: Simd>(simd: S, to: *mut f32, value: S::Vector, left: usize) {
    // SAFETY: passed on.
    unsafe {
        if left >= S::LANES { simd.store(to, value) } else { simd.store_first(to, value, left) }
    }
}

impl Row {
    /// The scores with their terms from `column` on. Lanes behind the last column are minus infinity.
    ///
    /// # Safety
    /// The row's pointers are readable for `columns` elements, as is `scores`.
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, scores: *const f32, column: usize) -> S::Vector {
        let left = self.columns - column;
        // SAFETY: passed on.
        unsafe {
            let mut value = load(simd, scores.add(column), left);
            for term in self.terms.into_iter().flatten() {
                value = simd.add(value, load(simd, term.add(column), left));
            }
            if left >= S::LANES { value } else { simd.add(value, outside(simd, left)) }
        }
    }
}

/// Zeros, and minus infinity from lane `inside` on.
#[inline(always)]
fn outside<S: Simd>(simd: S, inside: usize) -> S::Vector {
    static ENDS: [f32; 2 * MAX_LANES] = {
        let mut ends = [0.0; 2 * MAX_LANES];
        let mut i = MAX_LANES;
        while i < 2 * MAX_LANES {
            ends[i] = f32::NEG_INFINITY;
            i += 1;
        }
        ends
    };
    // SAFETY: a window of at most `MAX_LANES` elements that starts in the first half.
    unsafe { simd.load(ENDS.as_ptr().add(MAX_LANES - inside.min(MAX_LANES))) }
}

/// Returns the largest score, as it was subtracted, and the sum of exponentials.
///
/// # Safety
/// `scores` holds whole vectors, and the row's terms their `columns`.
#[inline(always)]
unsafe fn softmax_row<S: Simd>(simd: S, scores: *mut f32, row: Row) -> [f32; 2] {
    let mut largest = simd.splat(f32::NEG_INFINITY);
    for column in (0..row.columns).step_by(S::LANES) {
        // SAFETY: passed on.
        unsafe {
            let value = row.load(simd, scores, column);
            simd.store(scores.add(column), value);
            largest = simd.max(value, largest);
        }
    }
    let largest = subtracted(fold(simd, largest, f32::max));
    let subtracted = simd.splat(largest);
    let mut sum = simd.splat(0.0);
    for column in (0..row.columns).step_by(S::LANES) {
        // SAFETY: passed on.
        unsafe {
            let scores = scores.add(column);
            let value = simd.exp(simd.sub(simd.load(scores), subtracted));
            simd.store(scores, value);
            sum = simd.add(sum, value);
        }
    }
    [largest, fold(simd, sum, |a, b| a + b)]
}

/// # Safety
/// `scores` and `gradients` hold whole vectors, the row's terms and `sum` their `columns`.
#[inline(always)]
unsafe fn gradient_row<S: Simd>(
    simd: S,
    scores: *mut f32,
    gradients: *mut f32,
    row: Row,
    [largest, factor]: [f32; 2],
    sum: Option<*mut f32>,
) {
    let (largest, factor) = (simd.splat(largest), simd.splat(factor));
    let mut mean = simd.splat(0.0);
    for column in (0..row.columns).step_by(S::LANES) {
        // SAFETY: passed on.
        unsafe {
            let value = row.load(simd, scores, column);
            let probability = simd.mul(simd.exp(simd.sub(value, largest)), factor);
            simd.store(scores.add(column), probability);
            let gradient = load(simd, gradients.add(column), row.columns - column);
            mean = simd.mul_add(probability, gradient, mean);
        }
    }
    let mean = simd.splat(fold(simd, mean, |a, b| a + b));
    for column in (0..row.columns).step_by(S::LANES) {
        let left = row.columns - column;
        // SAFETY: passed on.
        unsafe {
            let (probability, gradients) = (simd.load(scores.add(column)), gradients.add(column));
            let gradient = simd.mul(probability, simd.sub(simd.load(gradients), mean));
            simd.store(gradients, gradient);
            if let Some(sum) = sum {
                let sum = sum.add(column);
                store(simd, sum, simd.add(load(simd, sum, left), gradient), left);
            }
        }
    }
}

/// Combines the lanes of a vector, pair by pair.
#[inline(always)]
fn fold<S: Simd>(simd: S, vector: S::Vector, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; MAX_LANES];
    // SAFETY: a vector has at most `MAX_LANES` lanes.
    unsafe { simd.store(lanes.as_mut_ptr(), vector) };
    let mut count = S::LANES;
    while count > 1 {
        count /= 2;
        for lane in 0..count {
            lanes[lane] = combine(lanes[lane], lanes[lane + count]);
        }
    }
    lanes[0]
}
