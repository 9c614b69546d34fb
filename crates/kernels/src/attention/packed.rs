//! Factors of products in the order in which they are read, and the products with them.

use std::ops::Range;

use super::engine::Engine;
use crate::float::Float;
use crate::layout::transpose_into;
use crate::product::Product;

/// Packs `factor` times a matrix with rows `stride` apart. Each panel is `[rows, width]`.
pub(super) fn pack<T: Float, E: Engine<T>>(
    engine: E,
    from: &[T],
    stride: usize,
    [rows, columns]: [usize; 2],
    factor: T,
    panels: &[Range<usize>],
    to: &mut [T],
) {
    for panel in panels {
        let size = [rows, columns.min(panel.end) - panel.start];
        let to = &mut to[rows * panel.start..rows * panel.end];
        engine.pack(&from[panel.start..], stride, size, factor, to);
    }
}

/// Packs the transpose of a matrix of `size` with rows `stride` apart. Each panel is `[columns, width]` and
/// holds some of the rows as its columns.
pub(super) fn pack_transposed<T: Float>(
    from: &[T],
    stride: usize,
    [rows, columns]: [usize; 2],
    panels: &[Range<usize>],
    to: &mut [T],
) {
    for panel in panels {
        let (count, width) = (rows.min(panel.end) - panel.start, panel.len());
        let to = &mut to[columns * panel.start..columns * panel.end];
        if count < width {
            for row in to.chunks_exact_mut(width) {
                row[count..].fill(T::ZERO);
            }
        }
        transpose_into(&from[panel.start * stride..], stride, [count, columns], to, width);
    }
}

/// `c = a * b` for packed `a`, `[rows, depth]` in `of_depth`, and packed `b`, `[depth, columns]` in
/// `of_columns`. The rows of `c` are `c_stride` apart and hold whole vectors.
pub(super) fn product_of_packed<T: Float, E: Engine<T>>(
    engine: E,
    (a, [rows, depth], of_depth): (&[T], [usize; 2], &[Range<usize>]),
    (b, of_columns): (&[T], &[Range<usize>]),
    (c, c_stride): (&mut [T], usize),
) {
    for columns in of_columns {
        for (i, inner) in of_depth.iter().enumerate() {
            let product = Product {
                rows,
                depth: depth.min(inner.end) - inner.start,
                width: columns.len(),
                a_row: inner.len(),
                a_step: 1,
                c_row: c_stride,
                block_rows: E::BLOCK_ROWS,
                accumulate: i > 0,
            };
            let a = &a[rows * inner.start..rows * inner.end];
            let b = &b[depth * columns.start + inner.start * columns.len()..];
            engine.product(&product, a, b, &mut c[columns.start..]);
        }
    }
}

/// `c = a * b`, or `c += a * b`, for rows of scores and a packed `b`, `[depth, columns]` in `of_columns`.
/// `a` is `[rows, depth]`, `strides` its distances between rows and between columns.
pub(super) fn product_of_scores<T: Float, E: Engine<T>>(
    engine: E,
    (a, [rows, depth], strides): (&[T], [usize; 2], [usize; 2]),
    (b, of_columns): (&[T], &[Range<usize>]),
    (c, c_stride): (&mut [T], usize),
    accumulate: bool,
) {
    for columns in of_columns {
        let product = Product {
            rows,
            depth,
            width: columns.len(),
            a_row: strides[0],
            a_step: strides[1],
            c_row: c_stride,
            block_rows: E::BLOCK_ROWS,
            accumulate,
        };
        engine.product(&product, a, &b[depth * columns.start..], &mut c[columns.start..]);
    }
}
