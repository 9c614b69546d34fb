//! The gradient of the input for a stride above 1.

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

/// Input pixels with the same remainders by the stride are read through the same taps. So each such class
/// of pixels is a convolution of `dy` with stride 1. A task computes a band of whole rows of `dx`.
pub(super) fn backward_data<T: Float>(dy: &[T], kernel: &[T], dx: &mut [T], shape: &ConvShape) {
    let axes = |axis: usize| -> Vec<KernelReads> {
        (0..shape.stride[axis]).map(|phase| KernelReads::backward(shape, axis, phase)).collect()
    };
    let (heights, widths) = (axes(0), axes(1));
    let mut packed = Scratch::take(kernel.len());
    let classes = pack_classes(kernel, shape, &heights, &widths, &mut packed);
    let lines = shape.batch * shape.in_size[0];
    let line_len = shape.in_size[1] * shape.in_channels;
    let dx = MatrixMut::new(dx, lines, line_len);
    let all_cols = [Range { start: 0, end: line_len }];
    for_each(dx.tiles(&bands(shape), &all_cols).into_par_iter(), |mut band| {
        for class in &classes {
            class.write(dy, shape, &mut band);
        }
    });
}

/// One group's channels of the pixels with the same remainders.
struct Class<'a, T> {
    phase: [usize; 2],
    group: usize,
    height: &'a KernelReads,
    width: &'a KernelReads,
    /// `[taps * out channels, in channels]` of the group. It has no rows if nothing reads these pixels.
    weights: Matrix<'a, T>,
}

fn pack_classes<'a, T: Float>(
    kernel: &[T],
    shape: &ConvShape,
    heights: &'a [KernelReads],
    widths: &'a [KernelReads],
    packed: &'a mut [T],
) -> Vec<Class<'a, T>> {
    let mut rest = packed;
    let mut classes = Vec::new();
    for (y, height) in heights.iter().enumerate() {
        for (x, width) in widths.iter().enumerate() {
            let depth = height.taps.len() * width.taps.len() * shape.group_out();
            for (group, kernel) in kernel.chunks(kernel.len() / shape.groups).enumerate() {
                let (packed, next) = rest.split_at_mut(depth * shape.group_in());
                rest = next;
                if depth > 0 {
                    pack(kernel, shape, Summed::Output, height, width, packed);
                }
                let weights = Matrix::new(packed, depth, shape.group_in());
                classes.push(Class { phase: [y, x], group, height, width, weights });
            }
        }
    }
    classes
}

/// Bands of rows of `dx`, counted over all images. Each holds about one block of positions of each class.
pub(super) fn bands(shape: &ConvShape) -> Vec<Range<usize>> {
    const MIN_POSITIONS: usize = 64;
    let lines = shape.batch * shape.in_size[0];
    let class_width = shape.in_size[1].div_ceil(shape.stride[1]);
    let parts =
        |positions: usize| lines.div_ceil((positions * shape.stride[0]).div_ceil(class_width));
    split(lines, parts(BLOCK_ROWS).max(TASKS.min(parts(MIN_POSITIONS))))
}

impl<T: Float> Class<'_, T> {
    /// Computes this class's pixels of `band`.
    fn write(&self, dy: &[T], shape: &ConvShape, band: &mut Tile<'_, T>) {
        let lines =
            self.lines_before(band.rows.start, shape)..self.lines_before(band.rows.end, shape);
        let positions = lines.start * self.width.positions..lines.end * self.width.positions;
        if positions.is_empty() {
            return;
        }
        let mut result = Scratch::take(positions.len() * shape.group_in());
        self.convolve(dy, shape, positions, &mut result);
        self.scatter(&result, shape, band);
    }

    /// Number of this class's lines before `line`, both counted over all images.
    fn lines_before(&self, line: usize, shape: &ConvShape) -> usize {
        let (image, y) = (line / shape.in_size[0], line % shape.in_size[0]);
        let inside = y.saturating_sub(self.phase[0]).div_ceil(shape.stride[0]);
        image * self.height.positions + inside
    }

    fn convolve(&self, dy: &[T], shape: &ConvShape, positions: Range<usize>, result: &mut [T]) {
        if self.height.taps.is_empty() || self.width.taps.is_empty() {
            return result.fill(T::ZERO);
        }
        let channels = self.group * shape.group_out()..(self.group + 1) * shape.group_out();
        let patches = Patches::new(dy, shape.out_channels, channels, self.height, self.width);
        let slices = patches.slices(BLOCK_COLS);
        let width = slices.iter().map(|slice| patches.slice_width(slice)).max().unwrap_or(0);
        let mut result = MatrixMut::new(result, positions.len(), shape.group_in());
        let mut scratch = Scratch::take(patches.scratch_len(positions.len(), width));
        for (i, slice) in slices.iter().enumerate() {
            let block = patches.block(positions.clone(), slice, &mut scratch);
            let weights = self.weights.block(patches.columns(slice), 0..shape.group_in());
            multiply(&mut result, block, weights, i > 0);
        }
    }

    /// Copies the class's pixels to their places in `band`.
    fn scatter(&self, result: &[T], shape: &ConvShape, band: &mut Tile<'_, T>) {
        let depth = shape.group_in();
        let mut lines = result.chunks_exact(self.width.positions * depth);
        for line in band.rows.clone() {
            if line % shape.in_size[0] % shape.stride[0] != self.phase[0] {
                continue;
            }
            let result = lines.next().expect("the result has each of the class's lines");
            let line = band.matrix.row_mut(line - band.rows.start);
            for (i, pixel) in result.chunks_exact(depth).enumerate() {
                let x = self.phase[1] + i * shape.stride[1];
                let start = x * shape.in_channels + self.group * depth;
                line[start..start + depth].copy_from_slice(pixel);
            }
        }
    }
}
