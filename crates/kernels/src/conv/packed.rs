//! The forward pass with a kernel that was packed in advance. With few patches, packing would take longer
//! than the multiplication.

use std::ops::Range;

use rayon::prelude::*;

use super::TASKS;
use super::kernel_reads::{KernelReads, tap_indices};
use super::pack::{Summed, pack};
use super::patches::Patches;
use crate::conv_shape::ConvShape;
use crate::finish::Finish;
use crate::gemm::{MatrixMut, Tile};
use crate::parallel::for_each;
use crate::pieces::{even_ranges, split};
use crate::product::Product;
use crate::scratch::Scratch;
use crate::simd::{Level, Simd, with_simd};

/// Number of patches multiplied together. Their sums for all channels stay in the cache.
const ROWS: usize = 96;

/// Columns of a slice of patches. The slice and as many rows of a panel fit the second-level cache.
const DEPTH: usize = 576;

/// A kernel in panels of output channels, each `[taps * in channels, width]`, for the instruction
/// set that this process uses.
pub(crate) struct PackedKernel {
    values: Scratch<f32>,
    /// The taps that it holds. See [`tap_indices`].
    taps: Vec<usize>,
    /// `[in, out]`.
    channels: [usize; 2],
}

impl PackedKernel {
    /// Packs `kernel`, `[out, in, height, width]`. Taps that read only padding on such images are left out.
    pub(crate) fn new(kernel: &[f32], shape: &ConvShape) -> Self {
        assert_eq!((kernel.len(), shape.groups), (shape.kernel_len(), 1));
        let (height, width) = (KernelReads::forward(shape, 0), KernelReads::forward(shape, 1));
        let taps = tap_indices(&height, &width, shape);
        let (depth, columns) = (taps.len() * shape.in_channels, shape.out_channels);
        let mut rows = Scratch::take(depth * columns);
        pack(kernel, shape, Summed::Input, &height, &width, &mut rows);
        let panel_width = with_simd!(Level::get(), simd => panel_width(simd));
        let panels = columns.div_ceil(panel_width);
        let mut values = Scratch::lasting(panels * depth * panel_width);
        let to = values.par_chunks_mut(depth * panel_width).enumerate();
        for_each(to, |(panel, to)| {
            let start = panel * panel_width;
            let count = panel_width.min(columns - start);
            for (to, row) in to.chunks_exact_mut(panel_width).zip(rows.chunks_exact(columns)) {
                to[..count].copy_from_slice(&row[start..start + count]);
                to[count..].fill(0.0);
            }
        });
        Self { values, taps, channels: [shape.in_channels, shape.out_channels] }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// Whether this was packed for images of these sizes.
    pub(crate) fn fits(&self, shape: &ConvShape) -> bool {
        let (height, width) = (KernelReads::forward(shape, 0), KernelReads::forward(shape, 1));
        self.channels == [shape.in_channels, shape.out_channels]
            && tap_indices(&height, &width, shape) == self.taps
    }

    /// Writes the convolution of `x` to `y` and applies `finish`.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        y: &mut [f32],
        shape: &ConvShape,
        finish: &Finish<'_, f32>,
    ) {
        assert!(self.fits(shape), "packed for another image size than {shape:?}");
        assert_eq!((x.len(), y.len()), (shape.input_len(), shape.output_len()));
        let (height, width) = (KernelReads::forward(shape, 0), KernelReads::forward(shape, 1));
        let patches = Patches::new(x, shape.in_channels, 0..shape.in_channels, &height, &width);
        with_simd!(Level::get(), simd => {
            Convolution { simd, kernel: self, patches: &patches, finish }.run(y, shape);
        });
    }
}

fn panel_width<S: Simd>(_: S) -> usize {
    S::WIDE_BLOCK.1 * S::LANES
}

struct Convolution<'a, S> {
    simd: S,
    kernel: &'a PackedKernel,
    patches: &'a Patches<'a, f32>,
    finish: &'a Finish<'a, f32>,
}

impl<S: Simd> Convolution<'_, S> {
    fn run(&self, y: &mut [f32], shape: &ConvShape) {
        let (pixels, channels) = (shape.out_pixels(), shape.out_channels);
        let rows = even_ranges(pixels, ROWS);
        // A task gets at least one panel of channels.
        let panel_width = panel_width(self.simd);
        let parts = split(channels.div_ceil(panel_width), TASKS.div_ceil(rows.len()));
        let channel = |panel: usize| (panel * panel_width).min(channels);
        let columns: Vec<_> =
            parts.iter().map(|part| channel(part.start)..channel(part.end)).collect();
        let tiles = MatrixMut::new(y, pixels, channels).tiles(&rows, &columns);
        for_each(tiles.into_par_iter(), |mut tile| {
            let sums_width = tile.cols.len().next_multiple_of(panel_width);
            let mut sums = Scratch::take(tile.rows.len() * sums_width);
            self.multiply(&tile.rows, tile.cols.start / panel_width, &mut sums, sums_width);
            self.write(&mut tile, &sums, sums_width, channels);
        });
    }

    /// Adds the products of the patches at `rows` with the panels from `first_panel` on to `sums`.
    fn multiply(&self, rows: &Range<usize>, first_panel: usize, sums: &mut [f32], width: usize) {
        let (simd, panel_width) = (self.simd, panel_width(self.simd));
        let slices = self.patches.slices(DEPTH);
        let depths = slices.iter().map(|slice| self.patches.slice_width(slice));
        let (depth, widest): (usize, usize) =
            (depths.clone().sum(), depths.max().unwrap_or_default());
        let mut scratch = Scratch::take(self.patches.scratch_len(rows.len(), widest));
        for (i, slice) in slices.iter().enumerate() {
            let columns = self.patches.columns(slice);
            let block = self.patches.block(rows.clone(), slice, &mut scratch);
            let (patches, row_stride) = block.as_rows();
            let product = Product {
                rows: rows.len(),
                depth: columns.len(),
                width: panel_width,
                a_row: row_stride,
                a_step: 1,
                c_row: width,
                block_rows: S::WIDE_BLOCK.0,
                accumulate: i > 0,
            };
            for panel in 0..width / panel_width {
                let start = ((first_panel + panel) * depth + columns.start) * panel_width;
                let kernel = &self.kernel.values[start..][..columns.len() * panel_width];
                simd.vectorize(
                    #[inline(always)]
                    // SAFETY: the block has `rows.len()` rows of `columns.len()` patch elements,
                    // `row_stride` apart; the panel was cut to `columns.len()` rows; `sums` has
                    // `rows.len()` rows of `width`, in which this panel's channels lie.
                    || unsafe {
                        let sums = sums.as_mut_ptr().add(panel * panel_width);
                        product.run(simd, patches.as_ptr(), kernel.as_ptr(), sums);
                    },
                );
            }
        }
    }

    /// Writes the sums without the padding of the last panel, and finishes them.
    fn write(&self, tile: &mut Tile<'_, f32>, sums: &[f32], width: usize, channels: usize) {
        let Finish { bias, residual, ceiling } = *self.finish;
        let bias = bias.map(|bias| &bias[tile.cols.clone()]);
        for (i, sums) in sums.chunks_exact(width).enumerate() {
            let y = tile.matrix.row_mut(i);
            y.copy_from_slice(&sums[..tile.cols.len()]);
            let start = (tile.rows.start + i) * channels + tile.cols.start;
            let residual = residual.map(|residual| &residual[start..start + tile.cols.len()]);
            Finish { bias, residual, ceiling }.apply_here(y);
        }
    }
}
