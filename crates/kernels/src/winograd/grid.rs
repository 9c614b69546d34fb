//! The numbering of the tiles of a batch of feature maps.

use std::marker::PhantomData;
use std::ops::Range;

use super::tiles::Tiles;
use crate::conv_shape::ConvShape;

/// Square tiles that cover every map of a batch. Those at the lower and right edge may reach beyond it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileGrid<F> {
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    size: PhantomData<F>,
}

/// One tile: its image, and the pixel at its upper left corner.
#[derive(Debug, Clone, Copy)]
struct Tile {
    image: usize,
    top: usize,
    left: usize,
}

impl<F: Tiles> TileGrid<F> {
    pub(super) fn new(shape: &ConvShape) -> Self {
        let [height, width] = shape.in_size;
        Self { batch: shape.batch, height, width, size: PhantomData }
    }

    /// Number of tiles.
    pub(super) fn len(&self) -> usize {
        self.batch * self.height.div_ceil(F::OUTPUT) * self.width.div_ceil(F::OUTPUT)
    }

    /// The tiles of block `index` if they are divided into blocks of `len`.
    pub(super) fn block(&self, index: usize, len: usize) -> Range<usize> {
        index * len..((index + 1) * len).min(self.len())
    }

    fn tile(&self, index: usize) -> Tile {
        let columns = self.width.div_ceil(F::OUTPUT);
        let rows = self.height.div_ceil(F::OUTPUT);
        let (image, within) = (index / (rows * columns), index % (rows * columns));
        let (row, column) = (within / columns, within % columns);
        Tile { image, top: row * F::OUTPUT, left: column * F::OUTPUT }
    }

    /// Calls `visit(row, column, pixel)` for each of `side` x `side` pixels around tile `index` that is
    /// inside the image. `pixel` is the index in the whole batch. The square starts `margin` pixels above
    /// and left of the tile.
    #[inline(always)]
    pub(super) fn for_each_pixel(
        &self,
        index: usize,
        side: usize,
        margin: usize,
        mut visit: impl FnMut(usize, usize, usize),
    ) {
        let Tile { image, top, left } = self.tile(index);
        for row in 0..side {
            // Rows in the margin wrap around to huge numbers, which also count as outside.
            let y = (top + row).wrapping_sub(margin);
            if y >= self.height {
                continue;
            }
            for column in 0..side {
                let x = (left + column).wrapping_sub(margin);
                if x < self.width {
                    visit(row, column, (image * self.height + y) * self.width + x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::winograd::tiles::{F2, F4};

    fn grid<F>() -> TileGrid<F> {
        TileGrid { batch: 2, height: 5, width: 9, size: PhantomData }
    }

    fn check_cover<F: Tiles>(tiles: usize) {
        let grid = grid::<F>();
        let mut seen = vec![0; 2 * 5 * 9];
        assert_eq!(grid.len(), tiles);
        for tile in 0..grid.len() {
            grid.for_each_pixel(tile, F::OUTPUT, 0, |_, _, pixel| seen[pixel] += 1);
        }
        assert!(seen.iter().all(|&count| count == 1));
    }

    #[test]
    fn tiles_cover_each_pixel_once() {
        check_cover::<F4>(2 * 2 * 3);
        check_cover::<F2>(2 * 3 * 5);
    }

    #[test]
    fn margin_is_clipped_at_the_border() {
        let mut pixels = Vec::new();
        let see = |row, column, pixel| pixels.push((row, column, pixel));
        grid::<F4>().for_each_pixel(0, 6, 1, see);
        assert_eq!(pixels.len(), 25);
        assert_eq!(pixels[0], (1, 1, 0));
        assert_eq!(pixels[24], (5, 5, 4 * 9 + 4));
    }
}
