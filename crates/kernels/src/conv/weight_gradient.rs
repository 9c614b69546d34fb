//! The gradient of the kernel.

use std::ops::Range;

use rayon::prelude::*;

use super::kernel_reads::{KernelReads, tap_indices};
use super::patches::{Patches, TapSlice};
use super::{BLOCK_COLS, BLOCK_ROWS, TASKS};
use crate::conv_shape::ConvShape;
use crate::float::Float;
use crate::gemm::{Matrix, MatrixMut, Tile, multiply};
use crate::layout::transpose_into;
use crate::parallel::for_each;
use crate::pieces::{even_ranges, split};
use crate::scratch::Scratch;
use crate::workspace::Workspace;

/// Each task sums over a part of the pixels. It writes a tile of that part's own matrix
/// `[out channels, taps * in channels]`. Then the parts are added up in order.
pub(super) fn backward_weight<T: Float>(x: &[T], dy: &[T], dkernel: &mut [T], shape: &ConvShape) {
    let (height, width) = (KernelReads::forward(shape, 0), KernelReads::forward(shape, 1));
    let patches = |group: usize| {
        let channels = group * shape.group_in()..(group + 1) * shape.group_in();
        Patches::new(x, shape.in_channels, channels, &height, &width)
    };
    let patches: Vec<_> = (0..shape.groups).map(patches).collect();
    let taps = tap_indices(&height, &width, shape);
    let row_len = taps.len() * shape.group_in();
    let plan = Plan::new(shape, &patches[0], row_len);

    let mut partials = Scratch::take(plan.pixels.len() * shape.out_channels * row_len);
    for_each(plan.tasks(&mut partials, shape, &patches[0]).into_par_iter(), |mut task| {
        let patches = &patches[task.tile.rows.start / shape.group_out()];
        task.run(patches, dy, shape.out_channels);
    });
    add_up(&partials, dkernel, shape, &taps);
}

/// The working memory of [`backward_weight`].
pub(super) fn workspace(shape: &ConvShape) -> Workspace {
    let (height, width) = (KernelReads::forward(shape, 0), KernelReads::forward(shape, 1));
    let patches =
        Patches::<'_, f32>::new(&[], shape.in_channels, 0..shape.group_in(), &height, &width);
    let row_len = height.taps.len() * width.taps.len() * shape.group_in();
    let plan = Plan::new(shape, &patches, row_len);
    let widest = plan.slices.iter().map(|slice| patches.slice_width(slice)).max().unwrap_or(0);
    let partials = plan.pixels.len() * plan.part_len;
    Workspace::of_floats(&[partials], &[patches.scratch_len(BLOCK_ROWS, widest)])
}

/// How the sum is divided. It depends only on the shape.
struct Plan {
    /// The pixels of each part.
    pixels: Vec<Range<usize>>,
    /// Output channels of the tiles.
    out_channels: Vec<Range<usize>>,
    /// Taps of the tiles.
    slices: Vec<TapSlice>,
    /// Number of elements of one part's matrix, and of one of its rows.
    part_len: usize,
    row_len: usize,
}

/// One tile of one part.
struct Task<'a, T> {
    pixels: &'a Range<usize>,
    slice: &'a TapSlice,
    tile: Tile<'a, T>,
}

impl Plan {
    fn new<T: Float>(shape: &ConvShape, patches: &Patches<'_, T>, row_len: usize) -> Self {
        /// Smallest number of pixels of a part. A part must be worth the time to add its sum to the others.
        const MIN_PIXELS: usize = 2048;
        /// Largest number of elements of all partial sums together, unless a single sum is larger.
        const MAX_PARTIALS: usize = 1 << 22;
        const MIN_OUT_CHANNELS: usize = 128;
        let (pixels, part_len) = (shape.out_pixels(), shape.out_channels * row_len);
        let parts = (pixels / MIN_PIXELS).min(MAX_PARTIALS / part_len).clamp(1, TASKS);
        let mut slices = patches.slices(BLOCK_COLS);
        if parts * slices.len() < TASKS {
            slices = patches.slices(BLOCK_COLS / 3);
        }
        let wanted = TASKS.div_ceil(parts * slices.len() * shape.groups);
        let tiles = wanted.min(shape.group_out() / MIN_OUT_CHANNELS).max(1);
        let group = split(shape.group_out(), tiles);
        let out_channels = (0..shape.groups).flat_map(|i| {
            let first = i * shape.group_out();
            group.iter().map(move |range| range.start + first..range.end + first)
        });
        let (pixels, out_channels) = (split(pixels, parts), out_channels.collect());
        Self { pixels, out_channels, slices, part_len, row_len }
    }

    fn tasks<'a, T: Float>(
        &'a self,
        partials: &'a mut [T],
        shape: &ConvShape,
        patches: &Patches<'_, T>,
    ) -> Vec<Task<'a, T>> {
        let columns: Vec<_> = self.slices.iter().map(|slice| patches.columns(slice)).collect();
        let parts = partials.chunks_exact_mut(self.part_len).zip(&self.pixels);
        let tasks = parts.flat_map(|(part, pixels)| {
            let matrix = MatrixMut::new(part, shape.out_channels, self.row_len);
            let slices = self.slices.iter().cycle();
            let tiles = matrix.tiles(&self.out_channels, &columns);
            tiles.into_iter().zip(slices).map(move |(tile, slice)| Task { pixels, slice, tile })
        });
        tasks.collect()
    }
}

impl<T: Float> Task<'_, T> {
    fn run(&mut self, patches: &Patches<'_, T>, dy: &[T], dy_channels: usize) {
        let channels = self.tile.rows.clone();
        let scratch_len = patches.scratch_len(BLOCK_ROWS, self.tile.cols.len());
        let mut scratch = Scratch::take(scratch_len);
        for block in even_ranges(self.pixels.len(), BLOCK_ROWS) {
            let pixels = self.pixels.start + block.start..self.pixels.start + block.end;
            let dy = &dy[pixels.start * dy_channels + channels.start..];
            let dy = Matrix::with_row_stride(dy, pixels.len(), channels.len(), dy_channels);
            let patches = patches.block(pixels, self.slice, &mut scratch);
            multiply(&mut self.tile.matrix, dy.transposed(), patches, block.start > 0);
        }
    }
}

/// Adds up the parts and turns `[taps, in channels]` into the kernel's `[in channels, taps]`.
fn add_up<T: Float>(partials: &[T], dkernel: &mut [T], shape: &ConvShape, taps: &[usize]) {
    let row_len = taps.len() * shape.group_in();
    let len = row_len * shape.out_channels;
    let rows = dkernel.par_chunks_mut(shape.group_in() * shape.taps()).enumerate();
    for_each(rows, |(row, dkernel)| {
        let mut parts = partials[row * row_len..].chunks(len).map(|part| &part[..row_len]);
        let first = parts.next().expect("there is at least one part");
        if partials.len() == len {
            return write_row(first, dkernel, shape, taps);
        }
        let mut sum = Scratch::take(row_len);
        sum.copy_from_slice(first);
        for part in parts {
            for (sum, &value) in sum.iter_mut().zip(part) {
                *sum += value;
            }
        }
        write_row(&sum, dkernel, shape, taps);
    });
}

/// The kernel's gradient for one output channel. It is zero for taps that read nothing.
fn write_row<T: Float>(sum: &[T], dkernel: &mut [T], shape: &ConvShape, taps: &[usize]) {
    let (channels, all) = (shape.group_in(), shape.taps());
    if taps.len() == all {
        return transpose_into(sum, channels, [all, channels], dkernel, all);
    }
    dkernel.fill(T::ZERO);
    for (sum, &tap) in sum.chunks_exact(channels).zip(taps) {
        for (&sum, dkernel) in sum.iter().zip(dkernel.chunks_exact_mut(all)) {
            dkernel[tap] = sum;
        }
    }
}
