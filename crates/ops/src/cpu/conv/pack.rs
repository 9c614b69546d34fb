//! Kernels rearranged for matrix products.

use std::ops::Range;

use rayon::prelude::*;

use super::axis::Axis;
use crate::cpu::conv_shape::ConvShape;
use crate::cpu::float::Float;
use crate::cpu::gemm::MatrixMut;
use crate::cpu::pieces::even_ranges;

/// Which of a kernel's two channel axes is summed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summed {
    /// The input's channels: the forward pass.
    Input,
    /// The output's channels: the gradient of the input.
    Output,
}

/// Writes one group's kernel as a matrix `[taps * summed channels, other channels]`, with the taps
/// of `height` and `width` in their order.
pub(super) fn pack<T: Float>(
    kernel: &[T],
    shape: &ConvShape,
    summed: Summed,
    height: &Axis,
    width: &Axis,
    packed: &mut [T],
) {
    // How many channels, and how far apart they lie in the kernel.
    let input = (shape.group_in(), shape.taps());
    let output = (shape.group_out(), shape.group_in() * shape.taps());
    let ((depth, depth_stride), (cols, col_stride)) = match summed {
        Summed::Input => (input, output),
        Summed::Output => (output, input),
    };
    let pairs = height.taps.iter().flat_map(|row| width.taps.iter().map(move |col| (row, col)));
    let taps: Vec<usize> =
        pairs.map(|(row, col)| row.index * shape.kernel[1] + col.index).collect();

    // Reading runs along the kernel's memory and writing along cache lines: few columns at a time
    // keep the rows that are being read in the nearest cache.
    let matrix = MatrixMut::new(packed, taps.len() * depth, cols);
    let all_rows = [Range { start: 0, end: matrix.rows() }];
    matrix.tiles(&all_rows, &even_ranges(cols, 16)).into_par_iter().for_each(|mut tile| {
        let kernel = &kernel[tile.cols.start * col_stride..];
        for channel in 0..depth {
            for (i, tap) in taps.iter().enumerate() {
                let kernel = &kernel[channel * depth_stride + tap..];
                let row = tile.matrix.row_mut(i * depth + channel);
                for (col, packed) in row.iter_mut().enumerate() {
                    *packed = kernel[col * col_stride];
                }
            }
        }
    });
}
