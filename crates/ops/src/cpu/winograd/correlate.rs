//! Output and input gradient: both are a correlation of feature maps with a kernel.

use std::ops::Range;

use rayon::prelude::*;

use super::grid::{PLANES, TileGrid};
use super::kernels::Kernels;
use super::maps::{Maps, MapsMut};
use super::panels::Panels;
use super::product::Product;
use crate::cpu::parallel::for_each;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::Simd;

/// Output channels that are computed together: their products and their transformed kernels are
/// what has to stay near.
const GROUP: usize = 64;

/// Tiles that are transformed together: few enough that they and their products stay in the cache.
const BLOCK: usize = 24;

/// Correlates `x` with `kernels` into `y`, both on `grid`, with one pixel of zeros around `x`.
pub(super) fn correlate<S: Simd>(
    simd: S,
    x: &[f32],
    kernels: &Kernels<'_>,
    y: &mut [f32],
    grid: TileGrid,
) {
    let correlation = Correlation {
        simd,
        grid,
        kernels,
        x: Maps::new(x, grid, kernels.inputs),
        y: MapsMut::new(y, grid, kernels.outputs),
    };
    // Tiles first needs groups enough to occupy the threads.
    if grid.len() < kernels.outputs && correlation.groups() >= 4 {
        correlation.run_tiles_first();
    } else {
        correlation.run_kernels_first();
    }
}

struct Correlation<'a, S> {
    simd: S,
    grid: TileGrid,
    kernels: &'a Kernels<'a>,
    x: Maps<'a>,
    y: MapsMut<'a>,
}

impl<S: Simd> Correlation<'_, S> {
    /// Few kernels: transform them all, then take each block of tiles through all steps.
    fn run_kernels_first(&self) {
        let len = self.kernel_layout(GROUP.min(self.kernels.outputs)).len();
        let mut kernels = Scratch::take(self.groups() * len);
        for_each(kernels.par_chunks_mut(len).enumerate(), |(group, to)| {
            self.transform_kernels(group, to);
        });
        for_each((0..self.blocks()).into_par_iter(), |block| {
            let mut inputs = Scratch::take(self.input_layout().len());
            self.transform_inputs(block, &mut inputs);
            for (group, kernels) in kernels.chunks(len).enumerate() {
                self.multiply(block, group, &inputs, kernels);
            }
        });
    }

    /// Few tiles: transform them all, then take each group of kernels through all steps, so that
    /// the transformed kernels, the larger part, never leave the cache.
    fn run_tiles_first(&self) {
        let len = self.input_layout().len();
        let mut inputs = Scratch::take(self.blocks() * len);
        for_each(inputs.par_chunks_mut(len).enumerate(), |(block, to)| {
            self.transform_inputs(block, to);
        });
        for_each((0..self.groups()).into_par_iter(), |group| {
            let mut kernels = Scratch::take(self.kernel_layout(self.group(group).len()).len());
            self.transform_kernels(group, &mut kernels);
            for (block, inputs) in inputs.chunks(len).enumerate() {
                self.multiply(block, group, inputs, &kernels);
            }
        });
    }

    fn blocks(&self) -> usize {
        self.grid.len().div_ceil(BLOCK)
    }

    fn groups(&self) -> usize {
        self.kernels.outputs.div_ceil(GROUP)
    }

    /// Output channels of one group.
    fn group(&self, index: usize) -> Range<usize> {
        index * GROUP..((index + 1) * GROUP).min(self.kernels.outputs)
    }

    fn input_layout(&self) -> Panels {
        let channels = self.kernels.inputs.next_multiple_of(S::LANES);
        Panels::new(BLOCK, channels, channels)
    }

    fn kernel_layout(&self, outputs: usize) -> Panels {
        let (_, vectors) = S::WIDE_BLOCK;
        let channels = outputs.next_multiple_of(S::LANES);
        Panels::new(self.kernels.inputs, channels, vectors * S::LANES)
    }

    fn transform_inputs(&self, block: usize, to: &mut [f32]) {
        let tiles = self.grid.block(block, BLOCK);
        let layout = self.input_layout();
        assert!(to.len() >= layout.len() && tiles.len() <= layout.rows);
        self.simd.vectorize(
            #[inline(always)]
            // SAFETY: `to` is ours alone, and was just checked.
            || unsafe { self.x.inputs(self.simd, tiles, 0, to.as_mut_ptr(), &layout) },
        );
    }

    fn transform_kernels(&self, group: usize, to: &mut [f32]) {
        let outputs = self.group(group);
        let layout = self.kernel_layout(outputs.len());
        self.simd.vectorize(
            #[inline(always)]
            || self.kernels.transform(self.simd, outputs, to, &layout),
        );
    }

    /// Multiplies transformed tiles and kernels and writes the outputs.
    fn multiply(&self, block: usize, group: usize, inputs: &[f32], kernels: &[f32]) {
        let tiles = self.grid.block(block, BLOCK);
        let outputs = self.group(group);
        let input_layout = self.input_layout();
        let kernel_layout = self.kernel_layout(outputs.len());
        let layout = Panels::new(BLOCK, kernel_layout.channels, kernel_layout.channels);
        let mut products = Scratch::<f32>::take(layout.len());
        assert!(inputs.len() >= input_layout.len() && kernels.len() >= kernel_layout.len());
        let simd = self.simd;
        simd.vectorize(
            #[inline(always)]
            || {
                let product = |width| Product {
                    rows: tiles.len(),
                    depth: self.kernels.inputs,
                    width,
                    a_row: input_layout.width,
                    a_step: 1,
                    c_row: layout.width,
                    block_rows: S::WIDE_BLOCK.0,
                    accumulate: false,
                };
                for plane in 0..PLANES {
                    for (start, width) in kernel_layout.panels() {
                        let kernel = plane * kernel_layout.plane + start * kernel_layout.rows;
                        // SAFETY: the three buffers are as long as their layouts (checked above, or
                        // just taken); the panel of kernels has a row for every input, and `width`
                        // channels from `start` on are inside each row of products.
                        unsafe {
                            product(width).run(
                                simd,
                                inputs.as_ptr().add(plane * input_layout.plane),
                                kernels.as_ptr().add(kernel),
                                products.as_mut_ptr().add(plane * layout.plane + start),
                            );
                        }
                    }
                }
                // SAFETY: `products` was taken for `layout`; each call of this function has a pair
                // of tiles and channels of its own.
                unsafe {
                    let (tiles, outputs) = (tiles.clone(), outputs.clone());
                    self.y.outputs(simd, tiles, outputs, products.as_ptr(), &layout)
                }
            },
        );
    }
}
