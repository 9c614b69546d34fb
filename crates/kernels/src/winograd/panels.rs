//! The memory layout of transformed tiles and kernels.

use super::tiles::Tiles;
use crate::simd::Simd;

/// One plane for each value of a transformed tile. Each plane is a `[rows, channels]` matrix.
///
/// The channels are divided into panels of `width`, and the last panel may be narrower. A panel is
/// `[rows, width]`, so a matrix product reads it from end to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panels {
    pub(super) rows: usize,
    /// Number of channels, including padding to whole vectors.
    pub(super) channels: usize,
    pub(super) width: usize,
    /// Distance from one plane to the next.
    pub(super) plane: usize,
    /// Number of planes.
    planes: usize,
}

impl Panels {
    pub(super) fn new<F: Tiles>(rows: usize, channels: usize, width: usize) -> Self {
        Self {
            rows,
            channels,
            width,
            // A tile is written to all planes at once. If their distance were a multiple of the page size,
            // these lines would compete for the few cache places available to them.
            plane: rows * channels + 16,
            planes: F::PLANES,
        }
    }

    /// Length of the buffer that holds all planes.
    pub(super) fn len(&self) -> usize {
        self.planes * self.plane
    }

    /// The first channel and the width of every panel.
    #[inline(always)]
    pub(super) fn panels(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (channels, width) = (self.channels, self.width);
        (0..channels.div_ceil(width)).map(move |panel| {
            let start = panel * width;
            (start, width.min(channels - start))
        })
    }

    /// The start of the plane of value `(row, column)` of a transformed tile.
    #[inline(always)]
    pub(super) fn plane_start<F: Tiles>(&self, row: usize, column: usize) -> usize {
        (row * F::INPUT + column) * self.plane
    }

    /// Every vector of channels of `row`: its first channel and its position in the first plane.
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
