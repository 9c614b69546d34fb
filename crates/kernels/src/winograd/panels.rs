//! How transformed tiles and kernels lie in memory.

use super::tiles::Tiles;
use crate::simd::Simd;

/// A plane for each value of a transformed tile, each a `[rows, channels]` matrix.
///
/// The channels are cut into panels of `width`, the last one possibly narrower; a panel is
/// `[rows, width]`, so that a matrix product reads it from end to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panels {
    pub(super) rows: usize,
    /// Channels including padding to whole vectors.
    pub(super) channels: usize,
    pub(super) width: usize,
    /// Distance from one plane to the next.
    pub(super) plane: usize,
    /// How many they are.
    planes: usize,
}

impl Panels {
    pub(super) fn new<F: Tiles>(rows: usize, channels: usize, width: usize) -> Self {
        Self {
            rows,
            channels,
            width,
            // A tile is written to all planes at once: were they a multiple of the page size apart,
            // those lines would compete for the few places that the cache has for them.
            plane: rows * channels + 16,
            planes: F::PLANES,
        }
    }

    /// Length of the buffer that holds all planes.
    pub(super) fn len(&self) -> usize {
        self.planes * self.plane
    }

    /// First channel and width of every panel.
    #[inline(always)]
    pub(super) fn panels(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (channels, width) = (self.channels, self.width);
        (0..channels.div_ceil(width)).map(move |panel| {
            let start = panel * width;
            (start, width.min(channels - start))
        })
    }

    /// Start of the plane of value `(row, column)` of a transformed tile.
    #[inline(always)]
    pub(super) fn plane_start<F: Tiles>(&self, row: usize, column: usize) -> usize {
        (row * F::INPUT + column) * self.plane
    }

    /// Every vector of channels of `row`: its first channel and its place in the first plane.
    #[inline(always)]
    pub(super) fn vectors<S: Simd>(
        &self,
        row: usize,
    ) -> impl Iterator<Item = (usize, usize)> + use<S> {
        let rows = self.rows;
        self.panels().flat_map(move |(start, width)| {
            (0..width)
                .step_by(S::LANES)
                .map(move |lane| (start + lane, start * rows + row * width + lane))
        })
    }
}
