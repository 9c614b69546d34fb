//! The gradient of an input with few channels, such as an RGB image.
//!
//! With a gather, the matrices would have only as many columns as there are channels. Here each pixel of
//! the output's gradient is multiplied by the whole kernel. The products are patches, which are added up.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel_reads::KernelReads;
use super::pack::{Summed, pack};
use super::{BLOCK_ROWS, TASKS};
use crate::conv_shape::ConvShape;
use crate::float::Float;
use crate::gemm::{Matrix, MatrixMut, multiply};
use crate::parallel::for_each;
use crate::pieces::{even_ranges, split};
use crate::scratch::Scratch;
use crate::vectorize::vectorize;

/// Whether patches are wide enough and channels few enough for this method to be faster.
pub(super) fn applies(shape: &ConvShape) -> bool {
    shape.groups == 1 && shape.in_channels < 16 && shape.taps() > 1
}

pub(super) fn backward_data<T: Float>(dy: &[T], kernel: &[T], dx: &mut [T], shape: &ConvShape) {
    let (height, width) = (KernelReads::forward(shape, 0), KernelReads::forward(shape, 1));
    let patch_len = height.taps.len() * width.taps.len() * shape.in_channels;
    let mut packed = Scratch::take(patch_len * shape.out_channels);
    // [taps * in channels, out channels], which is used transposed.
    pack(kernel, shape, Summed::Input, &height, &width, &mut packed);
    let weights = Matrix::new(&packed, patch_len, shape.out_channels);
    let weights = weights.transposed();
    let line_len = shape.in_size[1] * shape.in_channels;
    let dx = MatrixMut::new(dx, shape.batch * shape.in_size[0], line_len);
    let all_cols = [Range { start: 0, end: line_len }];
    for_each(dx.tiles(&bands(shape), &all_cols).into_par_iter(), |mut tile| {
        let image = tile.rows.start / shape.in_size[0];
        let first = tile.rows.start - image * shape.in_size[0];
        let rows = first..first + tile.rows.len();
        let image_len = shape.output_len() / shape.batch;
        let dy = &dy[image * image_len..][..image_len];
        Band { rows, lines: &mut tile.matrix, shape, height: &height, width: &width }
            .compute(dy, weights);
    });
}

/// Bands of rows, counted over all images. No band crosses an image border.
///
/// Patches on the border between two bands are computed for both, so bands are high.
fn bands(shape: &ConvShape) -> Vec<Range<usize>> {
    let height = shape.in_size[0];
    let min_rows = 4 * shape.kernel[0].max(shape.stride[0]);
    let bands = split(height, TASKS.div_ceil(shape.batch).min(height / min_rows).max(1));
    let shifted = |range: &Range<usize>, by: usize| range.start + by..range.end + by;
    let of_image = |image: usize| bands.iter().map(move |range| shifted(range, image * height));
    (0..shape.batch).flat_map(of_image).collect()
}

/// Some rows of one image of `dx`.
struct Band<'a, 'b, T> {
    rows: Range<usize>,
    lines: &'a mut MatrixMut<'b, T>,
    shape: &'a ConvShape,
    height: &'a KernelReads,
    width: &'a KernelReads,
}

impl<T: Float> Band<'_, '_, T> {
    /// `dy` is the gradient of this image's output.
    fn compute(&mut self, dy: &[T], weights: Matrix<'_, T>) {
        for row in 0..self.rows.len() {
            self.lines.row_mut(row).fill(T::ZERO);
        }
        let (out_width, out_channels) = (self.shape.out_size[1], self.shape.out_channels);
        let reached = self.reached();
        let patch_len = self.patch_len();
        for block in even_ranges(reached.len(), BLOCK_ROWS.div_ceil(out_width)) {
            let lines = reached.start + block.start..reached.start + block.end;
            let pixels = lines.len() * out_width;
            let dy =
                Matrix::new(&dy[lines.start * out_width * out_channels..], pixels, out_channels);
            let mut patches = Scratch::take(pixels * patch_len);
            multiply(&mut MatrixMut::new(&mut patches, pixels, patch_len), dy, weights, false);
            for (line, patches) in lines.zip(patches.chunks_exact(out_width * patch_len)) {
                self.add_line(line, patches);
            }
        }
    }

    fn patch_len(&self) -> usize {
        self.height.taps.len() * self.width.taps.len() * self.shape.in_channels
    }

    /// The output lines that read any of the band's rows.
    fn reached(&self) -> Range<usize> {
        let reads = |&line: &usize| {
            let sources = self.height.taps.iter().filter_map(|&tap| self.height.source(line, tap));
            sources.into_iter().any(|source| self.rows.contains(&source))
        };
        let first = (0..self.height.positions).find(reads).unwrap_or(0);
        let last = (0..self.height.positions).rfind(reads).map_or(first, |last| last + 1);
        first..last
    }

    /// Adds the patches of one output line to the rows that they cover.
    fn add_line(&mut self, line: usize, patches: &[T]) {
        let channels = self.shape.in_channels;
        let (patch_len, row_len) = (self.patch_len(), self.width.taps.len() * channels);
        for (&tap, start) in self.height.taps.iter().zip((0..).step_by(row_len)) {
            let source = self.height.source(line, tap);
            let Some(row) = source.filter(|row| self.rows.contains(row)) else {
                continue;
            };
            let row = self.lines.row_mut(row - self.rows.start);
            let patch_rows = &patches[start..];
            if self.width.is_dense() {
                let first = self.width.taps[0].offset * channels as isize;
                let step = self.width.step * channels;
                add_runs(patch_rows, patch_len, row_len, row, first, step);
            } else {
                add_pixels(patch_rows, patch_len, row, self.width, channels);
            }
        }
    }
}

/// Adds one kernel row of each patch, tap by tap, for taps whose pixels are not neighbours.
fn add_pixels<T: Float>(
    patch_rows: &[T],
    patch_len: usize,
    row: &mut [T],
    width: &KernelReads,
    channels: usize,
) {
    for (position, patch) in patch_rows.chunks(patch_len).enumerate() {
        for (&tap, values) in width.taps.iter().zip(patch.chunks_exact(channels)) {
            if let Some(x) = width.source(position, tap) {
                let pixel = &mut row[x * channels..][..channels];
                for (sum, &value) in pixel.iter_mut().zip(values) {
                    *sum += value;
                }
            }
        }
    }
}

vectorize! {
    /// Adds the first `run_len` elements of each patch to `row`, starting at `first`, at distances of
    /// `step`. Elements outside `row` are left out.
    fn add_runs<T: Float>(
        patches: &[T],
        patch_len: usize,
        run_len: usize,
        row: &mut [T],
        first: isize,
        step: usize,
    ) {
        for (i, patch) in patches.chunks(patch_len).enumerate() {
            let start = first + (i * step) as isize;
            let before = start.min(0).unsigned_abs().min(run_len);
            let start = start.max(0) as usize;
            let Some(row) = row.get_mut(start..) else { continue };
            for (sum, &value) in row.iter_mut().zip(&patch[before..run_len]) {
                *sum += value;
            }
        }
    }
}
