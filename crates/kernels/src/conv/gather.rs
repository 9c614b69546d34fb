//! Convolutions whose result is computed in blocks of rows: the forward pass, and the gradient of the input
//! with stride 1.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel_reads::KernelReads;
use super::pack::{Summed, pack};
use super::patches::Patches;
use super::{BLOCK_COLS, BLOCK_ROWS, TASKS};
use crate::conv_shape::ConvShape;
use crate::float::Float;
use crate::gemm::{Matrix, MatrixMut, Tile, multiply};
use crate::parallel::for_each;
use crate::pieces::split;
use crate::scratch::Scratch;

pub(super) fn forward<T: Float>(x: &[T], kernel: &[T], y: &mut [T], shape: &ConvShape) {
    let (height, width) = (KernelReads::forward(shape, 0), KernelReads::forward(shape, 1));
    with_packed(kernel, shape, Summed::Input, &height, &width, |weights| {
        let patches = |group: usize| {
            let channels = group * shape.group_in()..(group + 1) * shape.group_in();
            Patches::new(x, shape.in_channels, channels, &height, &width)
        };
        let y = MatrixMut::new(y, shape.out_pixels(), shape.out_channels);
        convolve(shape.groups, patches, weights, y, shape.group_out());
    });
}

pub(super) fn backward_data<T: Float>(dy: &[T], kernel: &[T], dx: &mut [T], shape: &ConvShape) {
    let (height, width) = (KernelReads::backward(shape, 0, 0), KernelReads::backward(shape, 1, 0));
    with_packed(kernel, shape, Summed::Output, &height, &width, |weights| {
        let patches = |group: usize| {
            let channels = group * shape.group_out()..(group + 1) * shape.group_out();
            Patches::new(dy, shape.out_channels, channels, &height, &width)
        };
        let dx = MatrixMut::new(dx, shape.in_pixels(), shape.in_channels);
        convolve(shape.groups, patches, weights, dx, shape.group_in());
    });
}

/// Calls `f` with one matrix `[taps * summed channels, other channels]` for each group.
fn with_packed<T: Float>(
    kernel: &[T],
    shape: &ConvShape,
    summed: Summed,
    height: &KernelReads,
    width: &KernelReads,
    f: impl FnOnce(&[Matrix<'_, T>]),
) {
    let (depth, cols) = match summed {
        Summed::Input => (shape.group_in(), shape.group_out()),
        Summed::Output => (shape.group_out(), shape.group_in()),
    };
    let taps = height.taps.len() * width.taps.len();
    if shape.taps() == 1 && taps == 1 && summed == Summed::Output {
        return f(&matrices(kernel, depth * cols, cols));
    }
    let group_len = taps * depth * cols;
    let mut packed = Scratch::take(group_len * shape.groups);
    if taps > 0 {
        let kernels = kernel.chunks(kernel.len() / shape.groups);
        for (kernel, packed) in kernels.zip(packed.chunks_mut(group_len)) {
            pack(kernel, shape, summed, height, width, packed);
        }
    }
    f(&matrices(&packed, group_len, cols));
}

fn matrices<T>(groups: &[T], group_len: usize, cols: usize) -> Vec<Matrix<'_, T>> {
    groups.chunks(group_len).map(|group| Matrix::new(group, group_len / cols, cols)).collect()
}

/// Multiplies each group's patches by its weights. Writes the products to its `group_cols` columns of
/// `result`.
fn convolve<'a, T: Float>(
    groups: usize,
    patches: impl Fn(usize) -> Patches<'a, T>,
    weights: &[Matrix<'_, T>],
    result: MatrixMut<'_, T>,
    group_cols: usize,
) {
    let patches: Vec<_> = (0..groups).map(patches).collect();
    let (rows, cols) = tile_ranges(result.rows(), group_cols, groups);
    for_each(result.tiles(&rows, &cols).into_par_iter(), |mut tile| {
        let group = tile.cols.start / group_cols;
        let first = group * group_cols;
        let cols = tile.cols.start - first..tile.cols.end - first;
        convolve_tile(&patches[group], weights[group], cols, &mut tile);
    });
}

fn convolve_tile<T: Float>(
    patches: &Patches<'_, T>,
    weights: Matrix<'_, T>,
    cols: Range<usize>,
    tile: &mut Tile<'_, T>,
) {
    let slices = patches.slices(BLOCK_COLS);
    let width = slices.iter().map(|slice| patches.slice_width(slice)).max().unwrap_or(0);
    let mut scratch = Scratch::take(patches.scratch_len(tile.rows.len(), width));
    for (i, slice) in slices.iter().enumerate() {
        let block = patches.block(tile.rows.clone(), slice, &mut scratch);
        let weights = weights.block(patches.columns(slice), cols.clone());
        multiply(&mut tile.matrix, block, weights, i > 0);
    }
}

/// Rows and columns of the tasks. Tasks are blocks of rows. If these are too few, the columns are split
/// too.
pub(super) fn tile_ranges(
    rows: usize,
    group_cols: usize,
    groups: usize,
) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    const MIN_ROWS: usize = 64;
    const MIN_COLS: usize = 128;
    let wanted = |already: usize| TASKS.div_ceil(already);
    let mut row_parts = rows.div_ceil(BLOCK_ROWS);
    let col_parts = wanted(row_parts * groups).min(group_cols / MIN_COLS).max(1);
    row_parts = row_parts.max(wanted(col_parts * groups).min(rows.div_ceil(MIN_ROWS)));

    let group = split(group_cols, col_parts);
    let shifted = |range: &Range<usize>, by: usize| range.start + by..range.end + by;
    let cols =
        (0..groups).flat_map(|i| group.iter().map(move |range| shifted(range, i * group_cols)));
    (split(rows, row_parts), cols.collect())
}
