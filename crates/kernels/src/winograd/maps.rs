//! Reads tiles from feature maps and writes them back.

use std::marker::PhantomData;
use std::ops::Range;

use super::grid::TileGrid;
use super::panels::Panels;
use super::tiles::{MAX_INPUT, Square, Tiles, input_tile, output_gradient_tile, output_tile};
use crate::finish::Finish;
use crate::simd::Simd;

/// Channels-last feature maps to read tiles from.
pub(super) struct Maps<'a, F> {
    values: &'a [f32],
    grid: TileGrid<F>,
    channels: usize,
    /// The values of pixels outside the image.
    zeros: Vec<f32>,
}

impl<'a, F: Tiles> Maps<'a, F> {
    pub(super) fn new(values: &'a [f32], grid: TileGrid<F>, channels: usize) -> Self {
        assert_eq!(values.len(), grid.batch * grid.height * grid.width * channels);
        Self { values, grid, channels, zeros: vec![0.0; channels] }
    }

    /// Transforms the inputs of `tiles` into rows `first_row..` of `to`.
    ///
    /// # Safety
    /// `to` is a buffer of `layout`, whose channels are ours padded to whole vectors, with rows for
    /// all the tiles; nobody else uses those rows.
    #[inline(always)]
    pub(super) unsafe fn inputs<S: Simd>(
        &self,
        simd: S,
        tiles: Range<usize>,
        first_row: usize,
        to: *mut f32,
        layout: &Panels,
    ) {
        let mut next = self.pixels(tiles.start, F::INPUT, 1);
        for (row, tile) in (first_row..).zip(tiles) {
            let pixels = next;
            next = self.pixels(tile + 1, F::INPUT, 1);
            for (channel, offset) in layout.vectors::<S>(row) {
                let count = self.channels - channel;
                prefetch(simd, &next, F::INPUT - F::OUTPUT..F::INPUT, channel);
                // SAFETY: each pixel has `count` values from `channel` on; `offset` is inside the
                // first plane, and the other planes follow `layout.plane` apart.
                input_tile::<S, F>(
                    simd,
                    #[inline(always)]
                    |r, c| unsafe { load_up_to(simd, pixels[r][c].add(channel), count) },
                    #[inline(always)]
                    |r, c, value| unsafe {
                        simd.store(to.add(offset + layout.plane_start::<F>(r, c)), value)
                    },
                );
            }
        }
    }

    /// Transforms gradients of the outputs of `tiles` into rows `first_row..` of `to`.
    ///
    /// # Safety
    /// As for [`Self::inputs`].
    #[inline(always)]
    pub(super) unsafe fn output_gradients<S: Simd>(
        &self,
        simd: S,
        tiles: Range<usize>,
        first_row: usize,
        to: *mut f32,
        layout: &Panels,
    ) {
        let mut next = self.pixels(tiles.start, F::OUTPUT, 0);
        for (row, tile) in (first_row..).zip(tiles) {
            let pixels = next;
            next = self.pixels(tile + 1, F::OUTPUT, 0);
            for (channel, offset) in layout.vectors::<S>(row) {
                let count = self.channels - channel;
                prefetch(simd, &next, 0..F::OUTPUT, channel);
                // SAFETY: as in `inputs`.
                output_gradient_tile::<S, F>(
                    simd,
                    #[inline(always)]
                    |r, c| unsafe { load_up_to(simd, pixels[r][c].add(channel), count) },
                    #[inline(always)]
                    |r, c, value| unsafe {
                        simd.store(to.add(offset + layout.plane_start::<F>(r, c)), value)
                    },
                );
            }
        }
    }

    /// The start of the channels of each pixel of a tile. A tile past the last one has no pixels inside.
    #[inline(always)]
    fn pixels(&self, tile: usize, side: usize, margin: usize) -> Square<*const f32> {
        let mut pixels = [[self.zeros.as_ptr(); MAX_INPUT]; MAX_INPUT];
        if tile >= self.grid.len() {
            return pixels;
        }
        self.grid.for_each_pixel(tile, side, margin, |row, column, pixel| {
            let channels = &self.values[pixel * self.channels..][..self.channels];
            pixels[row][column] = channels.as_ptr();
        });
        pixels
    }
}

/// Prefetches a vector of the pixels of the next tile, in the columns that it does not share with the
/// previous one. It has as many rows as the end of that column range. The runs are too short for the
/// processor to predict them.
#[inline(always)]
fn prefetch<S: Simd>(simd: S, pixels: &Square<*const f32>, columns: Range<usize>, channel: usize) {
    for row in &pixels[..columns.end] {
        for pixel in &row[columns.clone()] {
            simd.prefetch(pixel.wrapping_add(channel));
        }
    }
}

/// Loads `count` values, or a full vector if there are more.
///
/// # Safety
/// `count` values at `from` are readable.
#[inline(always)]
unsafe fn load_up_to<S: Simd>(simd: S, from: *const f32, count: usize) -> S::Vector {
    // SAFETY: no more than `count` values are read.
    unsafe { if count >= S::LANES { simd.load(from) } else { simd.load_first(from, count) } }
}

/// Channels-last feature maps that several threads write. Each thread has its own tiles or channels.
pub(super) struct MapsMut<'a, F> {
    values: *mut f32,
    grid: TileGrid<F>,
    channels: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: only `MapsMut::outputs` writes, and its callers keep threads to places of their own.
unsafe impl<F: Tiles> Sync for MapsMut<'_, F> {}

impl<'a, F: Tiles> MapsMut<'a, F> {
    pub(super) fn new(values: &'a mut [f32], grid: TileGrid<F>, channels: usize) -> Self {
        assert_eq!(values.len(), grid.batch * grid.height * grid.width * channels);
        Self { values: values.as_mut_ptr(), grid, channels, borrowed: PhantomData }
    }

    /// Writes `channels` of the outputs of `tiles` after applying `finish`. They come from `products`,
    /// whose rows are the tiles and whose only panel starts at the first of those channels.
    ///
    /// # Safety
    /// `products` is a buffer of `layout` with room for those rows and channels, padded to whole
    /// vectors; `channels` are among ours; no other thread writes these channels of these tiles.
    #[inline(always)]
    pub(super) unsafe fn outputs<S: Simd>(
        &self,
        simd: S,
        tiles: Range<usize>,
        channels: Range<usize>,
        products: *const f32,
        layout: &Panels,
        finish: &Finish<'_, f32>,
    ) {
        let elements = self.grid.batch * self.grid.height * self.grid.width * self.channels;
        assert!(finish.residual.is_none_or(|residual| residual.len() == elements));
        assert!(finish.bias.is_none_or(|bias| bias.len() == self.channels));
        let ceiling = finish.ceiling.map(|ceiling| simd.splat(ceiling));
        for (row, tile) in tiles.enumerate() {
            let mut pixels: Square<*mut f32> = [[std::ptr::null_mut(); MAX_INPUT]; MAX_INPUT];
            self.grid.for_each_pixel(tile, F::OUTPUT, 0, |r, c, pixel| {
                pixels[r][c] = self.values.wrapping_add(pixel * self.channels);
            });
            for channel in channels.clone().step_by(S::LANES) {
                let count = channels.end - channel;
                let from = row * layout.width + (channel - channels.start);
                // SAFETY: `from` is inside the first plane, the others follow `layout.plane` apart.
                // Pixels inside the image have `count` channels from `channel` on, which are this
                // call's alone; the residual has them too, and the bias, as was checked.
                output_tile::<S, F>(
                    simd,
                    #[inline(always)]
                    |r, c| unsafe { simd.load(products.add(from + layout.plane_start::<F>(r, c))) },
                    #[inline(always)]
                    |r, c, value| unsafe {
                        let pixel = pixels[r][c];
                        if pixel.is_null() {
                            return;
                        }
                        let mut value = value;
                        if let Some(bias) = finish.bias {
                            let bias = load_up_to(simd, bias.as_ptr().add(channel), count);
                            value = simd.add(value, bias);
                        }
                        if let Some(residual) = finish.residual {
                            let place = pixel.offset_from(self.values) as usize + channel;
                            let residual = load_up_to(simd, residual.as_ptr().add(place), count);
                            value = simd.add(value, residual);
                        }
                        if let Some(ceiling) = ceiling {
                            value = simd.relu(value, ceiling);
                        }
                        store_up_to(simd, pixel.add(channel), value, count);
                    },
                );
            }
        }
    }
}

/// Stores `count` lanes, or all of them if there are fewer.
///
/// # Safety
/// `count` values at `to` are writable.
#[inline(always)]
unsafe fn store_up_to<S: Simd>(simd: S, to: *mut f32, vector: S::Vector, count: usize) {
    // SAFETY: no more than `count` values are written.
    unsafe {
        if count >= S::LANES {
            simd.store(to, vector);
        } else {
            simd.store_first(to, vector, count);
        }
    }
}
