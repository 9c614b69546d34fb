//! Kernels rearranged for matrix products.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel_reads::{KernelReads, tap_indices};
use crate::conv_shape::ConvShape;
use crate::float::Float;
use crate::gemm::{MatrixMut, Tile};
use crate::layout::transpose_into;
use crate::parallel::for_each;
use crate::pieces::even_ranges;
use crate::scratch::Scratch;

/// The channel axis of a kernel that is summed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summed {
    /// The input's channels: the forward pass.
    Input,
    /// The output's channels: the gradient of the input.
    Output,
}

/// Writes one group's kernel as a matrix `[taps * summed channels, other channels]`. The taps are those of
/// `height` and `width`, in their order.
pub(super) fn pack<T: Float>(
    kernel: &[T],
    shape: &ConvShape,
    summed: Summed,
    height: &KernelReads,
    width: &KernelReads,
    packed: &mut [T],
) {
    // The number of channels, and their distance in the kernel.
    let input = (shape.group_in(), shape.taps());
    let output = (shape.group_out(), shape.group_in() * shape.taps());
    let ((depth, depth_stride), (cols, col_stride)) = match summed {
        Summed::Input => (input, output),
        Summed::Output => (output, input),
    };
    let taps = tap_indices(height, width, shape);
    let in_order: Vec<usize> = (0..taps.len()).collect();

    // A task takes some of the summed channels through all columns. It reads runs of whole kernels and
    // writes neighbouring rows tap by tap, so that it fills each page of memory before it moves on.
    let matrix = MatrixMut::new(packed, taps.len() * depth, cols);
    let blocks = even_ranges(depth, CHANNELS);
    let rows = (0..taps.len()).flat_map(|i| {
        blocks.iter().map(move |block| i * depth + block.start..i * depth + block.end)
    });
    let mut tasks: Vec<Vec<Tile<'_, T>>> = blocks.iter().map(|_| Vec::new()).collect();
    let tiles = matrix.tiles(&rows.collect::<Vec<_>>(), &[Range { start: 0, end: cols }]);
    tiles.into_iter().enumerate().for_each(|(i, tile)| tasks[i % blocks.len()].push(tile));
    for_each(tasks.into_par_iter().zip(&blocks), |(mut rows_of_taps, block)| {
        let mut kernels = Scratch::take(CHANNELS * shape.taps() * CHANNELS);
        for col in (0..cols).step_by(CHANNELS) {
            let cols = col..cols.min(col + CHANNELS);
            let kernel = &kernel[block.start * depth_stride + col * col_stride..];
            let (size, strides) = ([block.len(), cols.len()], [depth_stride, col_stride]);
            // Whole kernels can be transposed with vectors, which does not pay for a few taps.
            let places = if 2 * taps.len() > shape.taps() {
                gather(kernel, size, strides, shape.taps(), &mut kernels);
                Places { taps: &taps, of: shape.taps() }
            } else {
                gather_taps(kernel, size, strides, &taps, &mut kernels);
                Places { taps: &in_order[..taps.len()], of: taps.len() }
            };
            for (rows, tap) in rows_of_taps.iter_mut().zip(places.taps) {
                for channel in 0..block.len() {
                    let from = &kernels[(channel * places.of + tap) * CHANNELS..];
                    copy_vector(from, &mut rows.matrix.row_mut(channel)[cols.clone()]);
                }
            }
        }
    });
}

/// Channels of either kind that are gathered together.
const CHANNELS: usize = 16;

/// Which of the gathered taps are wanted.
struct Places<'a> {
    taps: &'a [usize],
    of: usize,
}

/// Copies the kernels between `depth` and `cols` channels to `[depth, taps, CHANNELS]`.
fn gather<T: Float>(
    kernel: &[T],
    [depth, cols]: [usize; 2],
    [depth_stride, col_stride]: [usize; 2],
    taps: usize,
    kernels: &mut [T],
) {
    if depth_stride == taps {
        return transpose_into(kernel, col_stride, [cols, depth * taps], kernels, CHANNELS);
    }
    for (channel, kernels) in kernels.chunks_exact_mut(taps * CHANNELS).take(depth).enumerate() {
        let kernel = &kernel[channel * depth_stride..];
        transpose_into(kernel, col_stride, [cols, taps], kernels, CHANNELS);
    }
}

/// The same for some of the taps.
fn gather_taps<T: Float>(
    kernel: &[T],
    [depth, cols]: [usize; 2],
    [depth_stride, col_stride]: [usize; 2],
    taps: &[usize],
    kernels: &mut [T],
) {
    let mut to = kernels.chunks_exact_mut(CHANNELS);
    for channel in 0..depth {
        for (tap, to) in taps.iter().zip(&mut to) {
            let kernel = &kernel[channel * depth_stride + tap..];
            for (col, to) in to[..cols].iter_mut().enumerate() {
                *to = kernel[col * col_stride];
            }
        }
    }
}

/// Copies as many values as `to` holds. This is mostly [`CHANNELS`], for which there is one instruction.
#[inline(always)]
fn copy_vector<T: Float>(from: &[T], to: &mut [T]) {
    match <&mut [T; CHANNELS]>::try_from(&mut *to) {
        Ok(to) => to.copy_from_slice(&from[..CHANNELS]),
        Err(_) => to.copy_from_slice(&from[..to.len()]),
    }
}
