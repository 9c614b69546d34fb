//! Chooses the fastest tile size for a shape, if tiles are faster at all.
//!
//! The costs were measured (AVX-512, 64 to 512 channels, maps of 2x2 to 14x14, 1 and 16 images). Their unit
//! is a tenth of the time that a plain product takes per pixel. For a plain product, a 3x3 kernel takes
//! about as long per pixel at every map size, because taps that read only padding are left out.

use super::fits;
use super::grid::TileGrid;
use super::tiles::{F2, F4};
use crate::conv_shape::ConvShape;

/// A size of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// F(2x2, 3x3).
    F2,
    /// F(4x4, 3x3).
    F4,
}

/// Evaluates an expression with `$tiles` standing for the type of this size.
macro_rules! with_tiles {
    ($size:expr, $tiles:ident => $body:expr) => {
        match $size {
            $crate::winograd::Size::F2 => {
                type $tiles = $crate::winograd::tiles::F2;
                $body
            }
            $crate::winograd::Size::F4 => {
                type $tiles = $crate::winograd::tiles::F4;
                $body
            }
        }
    };
}
pub(super) use with_tiles;

/// Fewer channels do not fill the vectors of the transforms.
const MIN_CHANNELS: usize = 8;

impl Size {
    /// The faster size for kernels that change from call to call and are transformed in each call. `None`
    /// if a plain product is faster.
    pub(crate) fn of(shape: &ConvShape) -> Option<Self> {
        let [pixels, tiles_2, tiles_4] = Self::counts(shape)?;
        cheapest(250 + 10 * pixels, 270 + 15 * tiles_2, 370 + 34 * tiles_4)
    }

    /// The same for a kernel that was transformed, or packed for a plain product, in advance. With few
    /// tiles the time is that of reading the kernel, which depends on whether it is in the cache.
    pub(crate) fn prepared(shape: &ConvShape) -> Option<Self> {
        /// Number of bytes that stay in the last-level cache beside other data.
        const CACHED: usize = 16 << 20;
        let [pixels, tiles_2, tiles_4] = Self::counts(shape)?;
        let bytes = shape.in_channels * shape.out_channels * 36 * size_of::<f32>();
        let to_read = if bytes <= CACHED { 150 } else { 350 };
        cheapest(10 * pixels, (20 * tiles_2).max(75), (47 * tiles_4).max(to_read))
    }

    /// Number of pixels, and of tiles of both sizes. `None` if neither size is of use.
    fn counts(shape: &ConvShape) -> Option<[usize; 3]> {
        let [height, width] = shape.in_size;
        let channels = shape.in_channels.min(shape.out_channels);
        // On a map with a single line, two of three taps read padding.
        if !fits(shape) || channels < MIN_CHANNELS || height.min(width) < 2 {
            return None;
        }
        let tiles = [TileGrid::<F2>::new(shape).len(), TileGrid::<F4>::new(shape).len()];
        Some([shape.batch * height * width, tiles[0], tiles[1]])
    }
}

fn cheapest(plain: usize, f2: usize, f4: usize) -> Option<Size> {
    if plain <= f2.min(f4) {
        return None;
    }
    Some(if f2 < f4 { Size::F2 } else { Size::F4 })
}

#[cfg(test)]
mod tests {
    use super::super::tests::shape;
    use super::*;

    #[test]
    fn each_size_has_its_maps() {
        let of = |batch, side, channels| Size::of(&shape(batch, [side; 2], channels, channels));
        assert_eq!(of(16, 56, 64), Some(Size::F4));
        assert_eq!(of(16, 7, 512), Some(Size::F4));
        assert_eq!(of(1, 28, 128), Some(Size::F4));
        assert_eq!(of(64, 4, 128), Some(Size::F4));
        assert_eq!(of(64, 2, 256), Some(Size::F2));
        assert_eq!(of(16, 6, 256), Some(Size::F2));
        assert_eq!(of(1, 4, 512), Some(Size::F2));
        assert_eq!(of(256, 1, 512), None);
        assert_eq!(of(0, 56, 64), None);
        assert_eq!(of(16, 56, 7), None);
        assert_eq!(Size::of(&shape(16, [1, 56], 64, 64)), None);
        assert_eq!(Size::of(&shape(16, [224, 224], 3, 64)), None);
    }

    #[test]
    fn large_kernels_take_long_to_read() {
        let of =
            |batch, side, channels| Size::prepared(&shape(batch, [side; 2], channels, channels));
        assert_eq!(of(1, 7, 256), Some(Size::F4));
        assert_eq!(of(1, 7, 512), Some(Size::F2));
        assert_eq!(of(16, 7, 512), Some(Size::F4));
        assert_eq!(of(16, 2, 512), Some(Size::F2));
        assert_eq!(of(1, 2, 512), None);
        assert_eq!(of(0, 7, 512), None);
    }
}
