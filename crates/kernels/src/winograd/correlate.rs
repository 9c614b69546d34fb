//! Output and input gradient. Both are a correlation of feature maps with a kernel.

use std::ops::Range;

use rayon::prelude::*;

use super::grid::TileGrid;
use super::kernels::Kernels;
use super::maps::{Maps, MapsMut};
use super::panels::Panels;
use super::tiles::Tiles;
use crate::finish::Finish;
use crate::parallel::for_each;
use crate::product::Product;
use crate::scratch::Scratch;
use crate::simd::Simd;
use crate::workspace::Workspace;

/// Number of output channels that are computed together. Their products and their transformed kernels
/// should stay in the cache.
const GROUP: usize = 64;

/// Number of tile values per channel that are transformed together. It is small enough that they and their
/// products stay in the cache.
const BLOCK_VALUES: usize = 864;

/// Correlates `x` with `kernels` into `y`. Both are on `grid`, with one pixel of zeros around `x`.
///
/// `transformed` is the result of [`transformed`] for these kernels, if it was computed in advance.
pub(super) fn correlate<S: Simd, F: Tiles>(
    simd: S,
    x: &[f32],
    kernels: &Kernels<'_>,
    transformed: Option<&[f32]>,
    y: &mut [f32],
    grid: TileGrid<F>,
    finish: Finish<'_, f32>,
) {
    let correlation = Correlation {
        simd,
        grid,
        kernels,
        transformed,
        finish,
        x: Maps::new(x, grid, kernels.inputs),
        y: MapsMut::new(y, grid, kernels.outputs),
    };
    if tiles_come_first(grid.len(), kernels.outputs) {
        correlation.run_tiles_first();
    } else {
        correlation.run_kernels_first();
    }
}

/// The transformed kernels of all groups, one group after the other.
pub(super) fn transformed<S: Simd, F: Tiles>(
    simd: S,
    kernels: &Kernels<'_>,
    memory: fn(usize) -> Scratch<f32>,
) -> Scratch<f32> {
    let len = group_layout::<S, F>(kernels, GROUP.min(kernels.outputs)).len();
    let mut transformed = memory(kernels.outputs.div_ceil(GROUP) * len);
    for_each(transformed.par_chunks_mut(len).enumerate(), |(group, to)| {
        transform_group::<S, F>(simd, kernels, group, to);
    });
    transformed
}

fn transform_group<S: Simd, F: Tiles>(
    simd: S,
    kernels: &Kernels<'_>,
    group: usize,
    to: &mut [f32],
) {
    let outputs = outputs_of(kernels, group);
    let layout = group_layout::<S, F>(kernels, outputs.len());
    simd.vectorize(
        #[inline(always)]
        || kernels.transform::<S, F>(simd, outputs, to, &layout),
    );
}

/// Output channels of one group.
fn outputs_of(kernels: &Kernels<'_>, group: usize) -> Range<usize> {
    group * GROUP..((group + 1) * GROUP).min(kernels.outputs)
}

fn group_layout<S: Simd, F: Tiles>(kernels: &Kernels<'_>, outputs: usize) -> Panels {
    panels_of_group::<S, F>(kernels.inputs, outputs)
}

fn panels_of_group<S: Simd, F: Tiles>(inputs: usize, outputs: usize) -> Panels {
    let (_, vectors) = S::WIDE_BLOCK;
    let channels = outputs.next_multiple_of(S::LANES);
    Panels::new::<F>(inputs, channels, vectors * S::LANES)
}

/// The working memory of [`correlate`] without kernels that were transformed in advance.
pub(super) fn workspace<S: Simd, F: Tiles>(
    _: S,
    [inputs, outputs]: [usize; 2],
    grid: TileGrid<F>,
) -> Workspace {
    let groups = outputs.div_ceil(GROUP);
    let of_group = panels_of_group::<S, F>(inputs, GROUP.min(outputs));
    let block = block_layout::<S, F>(inputs).len();
    let products = Panels::new::<F>(block_len::<F>(), of_group.channels, of_group.channels).len();
    if tiles_come_first(grid.len(), outputs) {
        let blocks = grid.len().div_ceil(block_len::<F>());
        Workspace::of_floats(&[blocks * block], &[of_group.len(), products])
    } else {
        Workspace::of_floats(&[groups * of_group.len()], &[block, products])
    }
}

/// Number of tiles of a block.
const fn block_len<F: Tiles>() -> usize {
    BLOCK_VALUES / F::PLANES
}

fn block_layout<S: Simd, F: Tiles>(inputs: usize) -> Panels {
    let channels = inputs.next_multiple_of(S::LANES);
    Panels::new::<F>(block_len::<F>(), channels, channels)
}

/// The order with tiles first needs enough groups to occupy the threads.
fn tiles_come_first(tiles: usize, outputs: usize) -> bool {
    tiles < outputs && outputs.div_ceil(GROUP) >= 4
}

struct Correlation<'a, S, F> {
    simd: S,
    grid: TileGrid<F>,
    kernels: &'a Kernels<'a>,
    transformed: Option<&'a [f32]>,
    finish: Finish<'a, f32>,
    x: Maps<'a, F>,
    y: MapsMut<'a, F>,
}

impl<S: Simd, F: Tiles> Correlation<'_, S, F> {
    const BLOCK: usize = block_len::<F>();

    /// For few kernels: transforms all of them, then takes each block of tiles through all steps.
    fn run_kernels_first(&self) {
        let len = group_layout::<S, F>(self.kernels, GROUP.min(self.kernels.outputs)).len();
        let made;
        let kernels = match self.transformed {
            Some(before) => before,
            None => {
                made = transformed::<S, F>(self.simd, self.kernels, Scratch::take);
                &made
            }
        };
        for_each((0..self.blocks()).into_par_iter(), |block| {
            let mut inputs = Scratch::take(self.input_layout().len());
            self.transform_inputs(block, &mut inputs);
            for (group, kernels) in kernels.chunks(len).enumerate() {
                self.multiply(block, group, &inputs, kernels);
            }
        });
    }

    /// For few tiles: transforms all of them, then takes each group of kernels through all steps. So the
    /// transformed kernels, the larger part, never leave the cache.
    fn run_tiles_first(&self) {
        let len = self.input_layout().len();
        let kernels_len = group_layout::<S, F>(self.kernels, GROUP.min(self.kernels.outputs)).len();
        let mut inputs = Scratch::take(self.blocks() * len);
        for_each(inputs.par_chunks_mut(len).enumerate(), |(block, to)| {
            self.transform_inputs(block, to);
        });
        for_each((0..self.groups()).into_par_iter(), |group| {
            let mut made;
            let kernels = match self.transformed {
                Some(before) => &before[group * kernels_len..][..kernels_len],
                None => {
                    made = Scratch::take(kernels_len);
                    transform_group::<S, F>(self.simd, self.kernels, group, &mut made);
                    &made
                }
            };
            for (block, inputs) in inputs.chunks(len).enumerate() {
                self.multiply(block, group, inputs, kernels);
            }
        });
    }

    fn blocks(&self) -> usize {
        self.grid.len().div_ceil(Self::BLOCK)
    }

    fn groups(&self) -> usize {
        self.kernels.outputs.div_ceil(GROUP)
    }

    fn input_layout(&self) -> Panels {
        block_layout::<S, F>(self.kernels.inputs)
    }

    fn transform_inputs(&self, block: usize, to: &mut [f32]) {
        let tiles = self.grid.block(block, Self::BLOCK);
        let layout = self.input_layout();
        assert!(to.len() >= layout.len() && tiles.len() <= layout.rows);
        self.simd.vectorize(
            #[inline(always)]
            // SAFETY: `to` is ours alone, and was just checked.
            || unsafe { self.x.inputs(self.simd, tiles, 0, to.as_mut_ptr(), &layout) },
        );
    }

    /// Multiplies transformed tiles and kernels and writes the outputs.
    fn multiply(&self, block: usize, group: usize, inputs: &[f32], kernels: &[f32]) {
        let tiles = self.grid.block(block, Self::BLOCK);
        let outputs = outputs_of(self.kernels, group);
        let input_layout = self.input_layout();
        let kernel_layout = group_layout::<S, F>(self.kernels, outputs.len());
        let layout = Panels::new::<F>(Self::BLOCK, kernel_layout.channels, kernel_layout.channels);
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
                for plane in 0..F::PLANES {
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
                    self.y.outputs(simd, tiles, outputs, products.as_ptr(), &layout, &self.finish)
                }
            },
        );
    }
}
