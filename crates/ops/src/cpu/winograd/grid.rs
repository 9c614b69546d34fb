//! How the tiles of a batch of feature maps are numbered.

use std::ops::Range;

use crate::cpu::conv_shape::ConvShape;

/// Side of the square of outputs that one tile computes.
pub(super) const OUTPUT: usize = 4;

/// Side of the square of inputs that one tile reads, and of the transformed tile.
pub(super) const INPUT: usize = 6;

/// Values of a transformed tile.
pub(super) const PLANES: usize = INPUT * INPUT;

/// Square tiles that cover every map of a batch; those at the lower and right edge may stick out.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileGrid {
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// One tile: its image and the pixel at its upper left corner.
#[derive(Debug, Clone, Copy)]
struct Tile {
    image: usize,
    top: usize,
    left: usize,
}

impl TileGrid {
    pub(super) fn new(shape: &ConvShape) -> Self {
        let [height, width] = shape.in_size;
        Self { batch: shape.batch, height, width }
    }

    /// Number of tiles.
    pub(super) fn len(&self) -> usize {
        self.batch * self.height.div_ceil(OUTPUT) * self.width.div_ceil(OUTPUT)
    }

    /// The tiles of block `index` when they are cut into blocks of `len`.
    pub(super) fn block(&self, index: usize, len: usize) -> Range<usize> {
        index * len..((index + 1) * len).min(self.len())
    }

    fn tile(&self, index: usize) -> Tile {
        let columns = self.width.div_ceil(OUTPUT);
        let rows = self.height.div_ceil(OUTPUT);
        let (image, within) = (index / (rows * columns), index % (rows * columns));
        Tile { image, top: within / columns * OUTPUT, left: within % columns * OUTPUT }
    }

    /// Calls `visit(row, column, pixel)` for each of `SIDE` x `SIDE` pixels around tile `index` that
    /// is inside the image; `pixel` counts through the whole batch. The square starts `margin`
    /// pixels above and left of the tile.
    #[inline(always)]
    pub(super) fn for_each_pixel<const SIDE: usize>(
        &self,
        index: usize,
        margin: usize,
        mut visit: impl FnMut(usize, usize, usize),
    ) {
        let Tile { image, top, left } = self.tile(index);
        for row in 0..SIDE {
            // Rows in the margin wrap around to huge numbers, which are outside as well.
            let y = (top + row).wrapping_sub(margin);
            if y >= self.height {
                continue;
            }
            for column in 0..SIDE {
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

    const GRID: TileGrid = TileGrid { batch: 2, height: 5, width: 9 };

    #[test]
    fn tiles_cover_each_pixel_once() {
        let mut seen = vec![0; 2 * 5 * 9];
        assert_eq!(GRID.len(), 2 * 2 * 3);
        for tile in 0..GRID.len() {
            GRID.for_each_pixel::<OUTPUT>(tile, 0, |_, _, pixel| seen[pixel] += 1);
        }
        assert!(seen.iter().all(|&count| count == 1));
    }

    #[test]
    fn margin_is_clipped_at_the_border() {
        let mut pixels = Vec::new();
        GRID.for_each_pixel::<INPUT>(0, 1, |row, column, pixel| pixels.push((row, column, pixel)));
        assert_eq!(pixels.len(), 25);
        assert_eq!(pixels[0], (1, 1, 0));
        assert_eq!(pixels[24], (5, 5, 4 * 9 + 4));
    }
}
