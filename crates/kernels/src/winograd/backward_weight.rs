//! The gradient of the kernel.
//!
//! Each value of the transformed gradient is a sum over all tiles. Only one thread at a time adds to it,
//! tile after tile. So it has the same bits on any number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::grid::TileGrid;
use super::kernels::KernelsMut;
use super::maps::Maps;
use super::panels::Panels;
use super::tiles::Tiles;
use crate::parallel::for_each;
use crate::product::Product;
use crate::scratch::Scratch;
use crate::simd::Simd;
use crate::workspace::Workspace;

/// Channels of a group. A task sums for one pair of groups, one of inputs and one of outputs.
const GROUP: usize = 64;

/// Tiles that one thread transforms at a time.
const BLOCK: usize = 8;

/// Number of transformed values of a section per two threads. They stay in the nearer caches.
const SECTION_VALUES: usize = 900_000;

/// Number of pairs of groups from which on the pairs alone occupy all threads.
const MANY_PAIRS: usize = 16;

/// Writes the gradient of the `[outputs, inputs, 3, 3]` kernel, with `x = (values, inputs)` and
/// `dy = (values, outputs)` both on `grid`.
pub(super) fn backward_weight<S: Simd, F: Tiles>(
    simd: S,
    x: (&[f32], usize),
    dy: (&[f32], usize),
    dkernel: &mut [f32],
    grid: TileGrid<F>,
) {
    let (inputs, outputs) = (x.1, dy.1);
    let gradient = Gradient {
        simd,
        grid,
        x: Maps::new(x.0, grid, inputs),
        dy: Maps::new(dy.0, grid, outputs),
        dkernel: KernelsMut::new(dkernel, inputs, outputs),
        inputs,
        outputs,
    };
    // Without tiles there are still sums to clear.
    let sections = grid.len().div_ceil(gradient.section_len()).max(1);
    if sections == 1 && gradient.pairs() >= MANY_PAIRS {
        gradient.run_at_once();
    } else {
        gradient.run_in_sections(sections);
    }
}

/// The working memory of [`backward_weight`].
pub(super) fn workspace<S: Simd, F: Tiles>(
    _: S,
    [inputs, outputs]: [usize; 2],
    grid: TileGrid<F>,
) -> Workspace {
    let len = section_len([inputs, outputs], grid);
    let panel = Gradient::<'_, S, F>::PANEL;
    let x = Panels::new::<F>(len, inputs.next_multiple_of(S::LANES), S::LANES).len();
    let dy = Panels::new::<F>(len, outputs.next_multiple_of(S::LANES), panel).len();
    let sum = Gradient::<'_, S, F>::sum_layout().len();
    let pairs = inputs.div_ceil(GROUP) * outputs.div_ceil(Gradient::<'_, S, F>::OUTPUT_GROUP);
    if grid.len() <= len && pairs >= MANY_PAIRS {
        Workspace::of_floats(&[x, dy], &[sum])
    } else {
        Workspace::of_floats(&[x, dy, pairs * sum], &[])
    }
}

fn section_len<F: Tiles>([inputs, outputs]: [usize; 2], grid: TileGrid<F>) -> usize {
    let threads = rayon::current_num_threads();
    let cached = SECTION_VALUES * threads.div_ceil(2) / (F::PLANES * (inputs + outputs));
    let worthwhile = inputs * outputs / (inputs + outputs) / 2;
    let len = cached.max(worthwhile).min(grid.len());
    len.max(1).next_multiple_of(BLOCK)
}

struct Gradient<'a, S, F> {
    simd: S,
    grid: TileGrid<F>,
    x: Maps<'a, F>,
    dy: Maps<'a, F>,
    dkernel: KernelsMut<'a>,
    inputs: usize,
    outputs: usize,
}

/// Transformed tiles: panels of `LANES` inputs, and panels of outputs as wide as a block. Rows are tiles.
struct Section {
    tiles: Range<usize>,
    x: Scratch<f32>,
    x_layout: Panels,
    dy: Scratch<f32>,
    dy_layout: Panels,
}

impl<S: Simd, F: Tiles> Gradient<'_, S, F> {
    /// Number of output channels of a group, in whole panels.
    const OUTPUT_GROUP: usize = GROUP / Self::PANEL * Self::PANEL;

    /// Number of output channels of a panel.
    const PANEL: usize = S::ALIGNED_BLOCK.1 * S::LANES;

    /// For many kernels and few tiles: each pair of groups goes through all steps, so that its sums never
    /// leave the cache.
    fn run_at_once(&self) {
        let mut section = self.section();
        self.transform(0, &mut section);
        for_each((0..self.pairs()).into_par_iter(), |pair| {
            let mut sums = Scratch::take(Self::sum_layout().len());
            for (plane, sums) in Self::planes(&mut sums).enumerate() {
                self.accumulate(&section, pair, plane, sums, false);
            }
            self.write(pair, &sums);
        });
    }

    /// For few kernels and many tiles: the tiles come in sections, and the sums of all pairs are kept.
    fn run_in_sections(&self, sections: usize) {
        let mut section = self.section();
        let pair_len = Self::sum_layout().len();
        let mut sums = Scratch::take(self.pairs() * pair_len);
        for index in 0..sections {
            self.transform(index, &mut section);
            let tasks = sums.par_chunks_mut(pair_len).enumerate();
            for_each(tasks, |(pair, sums)| {
                let planes: Vec<_> = Self::planes(sums).enumerate().collect();
                for_each(planes.into_par_iter(), |(plane, sums)| {
                    self.accumulate(&section, pair, plane, sums, index > 0);
                });
            });
        }
        for_each(sums.par_chunks_mut(pair_len).enumerate(), |(pair, sums)| {
            self.write(pair, sums);
        });
    }

    /// Number of tiles of a section. Small sections stay in the cache. Large ones load and store the sums
    /// less often and occupy more threads.
    fn section_len(&self) -> usize {
        section_len([self.inputs, self.outputs], self.grid)
    }

    fn section(&self) -> Section {
        let len = self.section_len();
        let x_layout = Panels::new::<F>(len, self.inputs.next_multiple_of(S::LANES), S::LANES);
        let dy_layout = Panels::new::<F>(len, self.outputs.next_multiple_of(S::LANES), Self::PANEL);
        Section {
            tiles: 0..0,
            x: Scratch::take(x_layout.len()),
            x_layout,
            dy: Scratch::take(dy_layout.len()),
            dy_layout,
        }
    }

    /// Layout of the sums of a pair of groups. Rows are inputs.
    fn sum_layout() -> Panels {
        Panels::new::<F>(GROUP, Self::OUTPUT_GROUP, Self::OUTPUT_GROUP)
    }

    fn planes(sums: &mut [f32]) -> impl Iterator<Item = &mut [f32]> {
        sums.chunks_mut(Self::sum_layout().plane).take(F::PLANES)
    }

    fn pairs(&self) -> usize {
        self.inputs.div_ceil(GROUP) * self.outputs.div_ceil(Self::OUTPUT_GROUP)
    }

    /// Input and output channels of pair `index`.
    fn pair(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let groups = self.inputs.div_ceil(GROUP);
        let input = index % groups * GROUP;
        let output = index / groups * Self::OUTPUT_GROUP;
        (
            input..(input + GROUP).min(self.inputs),
            output..(output + Self::OUTPUT_GROUP).min(self.outputs),
        )
    }

    /// Fills `section` with the tiles of section `index`.
    fn transform(&self, index: usize, section: &mut Section) {
        let tiles = self.grid.block(index, section.x_layout.rows);
        section.tiles = tiles.clone();
        let (x, x_layout) = (SharedMut(section.x.as_mut_ptr()), section.x_layout);
        let (dy, dy_layout) = (SharedMut(section.dy.as_mut_ptr()), section.dy_layout);
        let blocks = tiles.len().div_ceil(BLOCK);
        for_each((0..blocks).into_par_iter(), |block| {
            let row = block * BLOCK;
            let first = tiles.start + row;
            let tiles = first..tiles.end.min(first + BLOCK);
            let simd = self.simd;
            simd.vectorize(
                #[inline(always)]
                // SAFETY: both buffers were taken for these layouts, which have a row for every
                // tile of the section, and each block writes rows of its own.
                || unsafe {
                    self.x.inputs(simd, tiles.clone(), row, x.get(), &x_layout);
                    self.dy.output_gradients(simd, tiles.clone(), row, dy.get(), &dy_layout);
                },
            );
        });
    }

    /// Sums one plane of a pair of groups over the tiles of a section.
    fn accumulate(
        &self,
        section: &Section,
        pair: usize,
        plane: usize,
        sums: &mut [f32],
        accumulate: bool,
    ) {
        let (inputs, outputs) = self.pair(pair);
        let (x_layout, dy_layout) = (&section.x_layout, &section.dy_layout);
        let sum_layout = Self::sum_layout();
        assert!(sums.len() >= sum_layout.rows * sum_layout.width);
        let simd = self.simd;
        simd.vectorize(
            #[inline(always)]
            || {
                for output in outputs.clone().step_by(Self::PANEL) {
                    let product = Product {
                        rows: S::LANES,
                        depth: section.tiles.len(),
                        width: Self::PANEL.min(dy_layout.channels - output),
                        a_row: 1,
                        a_step: S::LANES,
                        c_row: sum_layout.width,
                        block_rows: S::ALIGNED_BLOCK.0,
                        accumulate,
                    };
                    for input in inputs.clone().step_by(S::LANES) {
                        let sum =
                            (input - inputs.start) * sum_layout.width + output - outputs.start;
                        // SAFETY: groups are whole panels, so a panel starts at `input` and one at
                        // `output`, both with a row for every tile of the section. Padded to
                        // vectors, the channels still are inside the layouts, and inside the sums,
                        // whose length was checked, as GROUP and OUTPUT_GROUP are whole vectors.
                        unsafe {
                            let x = plane * x_layout.plane + input * x_layout.rows;
                            let dy = plane * dy_layout.plane + output * dy_layout.rows;
                            product.run(
                                simd,
                                section.x.as_ptr().add(x),
                                section.dy.as_ptr().add(dy),
                                sums.as_mut_ptr().add(sum),
                            );
                        }
                    }
                }
            },
        );
    }

    /// Transforms the sums of a pair of groups back to kernels.
    fn write(&self, pair: usize, sums: &[f32]) {
        let (inputs, outputs) = self.pair(pair);
        let layout = Self::sum_layout();
        let simd = self.simd;
        simd.vectorize(
            #[inline(always)]
            // SAFETY: each pair is written once, and has channels of its own.
            || unsafe {
                self.dkernel.write::<S, F>(simd, inputs.clone(), outputs.clone(), sums, &layout)
            },
        );
    }
}

/// A buffer that several threads write. Each thread has its own rows.
struct SharedMut(*mut f32);

// SAFETY: see the one use, in `Gradient::transform`.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// A method, so that closures capture the whole struct and not only its pointer.
    fn get(&self) -> *mut f32 {
        self.0
    }
}
