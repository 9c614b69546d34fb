//! Tiles from feature maps and back.

use std::marker::PhantomData;
use std::ops::Range;

use super::grid::{INPUT, OUTPUT, TileGrid};
use super::panels::Panels;
use super::transform::{input_tile, output_gradient_tile, output_tile};
use crate::cpu::finish::Finish;
use crate::cpu::simd::Simd;

/// Channels-last feature maps to read tiles from.
pub(super) struct Maps<'a> {
    values: &'a [f32],
    grid: TileGrid,
    channels: usize,
    /// What pixels outside of the image read.
    zeros: Vec<f32>,
}

impl<'a> Maps<'a> {
    pub(super) fn new(values: &'a [f32], grid: TileGrid, channels: usize) -> Self {
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
        let mut next = self.pixels::<INPUT>(tiles.start, 1);
        for (row, tile) in (first_row..).zip(tiles) {
            let pixels = next;
            next = self.pixels(tile + 1, 1);
            for (channel, offset) in layout.vectors::<S>(row) {
                let count = self.channels - channel;
                prefetch(simd, &next, INPUT - OUTPUT, channel);
                // SAFETY: each pixel has `count` values from `channel` on; `offset` is inside the
                // first plane, and the other planes follow `layout.plane` apart.
                input_tile(
                    simd,
                    #[inline(always)]
                    |r, c| unsafe { load_up_to(simd, pixels[r][c].add(channel), count) },
                    #[inline(always)]
                    |r, c, value| unsafe {
                        simd.store(to.add(offset + layout.plane_start(r, c)), value)
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
        let mut next = self.pixels::<OUTPUT>(tiles.start, 0);
        for (row, tile) in (first_row..).zip(tiles) {
            let pixels = next;
            next = self.pixels(tile + 1, 0);
            for (channel, offset) in layout.vectors::<S>(row) {
                let count = self.channels - channel;
                prefetch(simd, &next, 0, channel);
                // SAFETY: as in `inputs`.
                output_gradient_tile(
                    simd,
                    #[inline(always)]
                    |r, c| unsafe { load_up_to(simd, pixels[r][c].add(channel), count) },
                    #[inline(always)]
                    |r, c, value| unsafe {
                        simd.store(to.add(offset + layout.plane_start(r, c)), value)
                    },
                );
            }
        }
    }

    /// Where the channels of each pixel of a tile start; a tile past the last has none inside.
    #[inline(always)]
    fn pixels<const SIDE: usize>(&self, tile: usize, margin: usize) -> [[*const f32; SIDE]; SIDE] {
        let mut pixels = [[self.zeros.as_ptr(); SIDE]; SIDE];
        if tile >= self.grid.len() {
            return pixels;
        }
        self.grid.for_each_pixel::<SIDE>(tile, margin, |row, column, pixel| {
            let channels = &self.values[pixel * self.channels..][..self.channels];
            pixels[row][column] = channels.as_ptr();
        });
        pixels
    }
}

/// Asks for a vector of the pixels of the next tile, except for the columns that the one before it
/// shares with it. The runs are too short for the processor to foresee them.
#[inline(always)]
fn prefetch<S: Simd, const SIDE: usize>(
    simd: S,
    pixels: &[[*const f32; SIDE]; SIDE],
    shared: usize,
    channel: usize,
) {
    for row in pixels {
        for pixel in &row[shared..] {
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

/// Channels-last feature maps that several threads write, each its own tiles or channels.
pub(super) struct MapsMut<'a> {
    values: *mut f32,
    grid: TileGrid,
    channels: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: only `MapsMut::outputs` writes, and its callers keep threads to places of their own.
unsafe impl Sync for MapsMut<'_> {}

impl<'a> MapsMut<'a> {
    pub(super) fn new(values: &'a mut [f32], grid: TileGrid, channels: usize) -> Self {
        assert_eq!(values.len(), grid.batch * grid.height * grid.width * channels);
        Self { values: values.as_mut_ptr(), grid, channels, borrowed: PhantomData }
    }

    /// Writes `channels` of the outputs of `tiles` from `products`, whose rows are the tiles and
    /// whose one panel starts at the first of those channels, after `finish`.
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
            let mut pixels: [[*mut f32; OUTPUT]; OUTPUT] = [[std::ptr::null_mut(); OUTPUT]; OUTPUT];
            self.grid.for_each_pixel::<OUTPUT>(tile, 0, |r, c, pixel| {
                pixels[r][c] = self.values.wrapping_add(pixel * self.channels);
            });
            for channel in channels.clone().step_by(S::LANES) {
                let count = channels.end - channel;
                let from = row * layout.width + (channel - channels.start);
                // SAFETY: `from` is inside the first plane, the others follow `layout.plane` apart.
                // Pixels inside the image have `count` channels from `channel` on, which are this
                // call's alone; the residual has them too, and the bias, as was checked.
                output_tile(
                    simd,
                    #[inline(always)]
                    |r, c| unsafe { simd.load(products.add(from + layout.plane_start(r, c))) },
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
                            value = simd.rectify(value, ceiling);
                        }
                        store_up_to(simd, pixel.add(channel), value, count);
                    },
                );
            }
        }
    }
}

/// Stores `count` lanes, or all if there are fewer.
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
