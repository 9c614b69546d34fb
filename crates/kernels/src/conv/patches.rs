//! The patches that a convolution multiplies by its kernel, as the rows of a matrix (im2col).

use std::ops::Range;

use super::kernel_reads::{KernelReads, Tap};
use crate::float::Float;
use crate::gemm::Matrix;

/// A matrix with one row per position of the result (image by image, row by row) and one column per tap and
/// channel of its patch, in that order. Only one block of it exists at a time.
pub(super) struct Patches<'a, T> {
    /// `[batch, height, width, channels]`.
    source: &'a [T],
    channels: usize,
    /// The range of channels that this group reads.
    group: Range<usize>,
    height: &'a KernelReads,
    width: &'a KernelReads,
    /// Whether the taps of a kernel row read one contiguous piece of memory.
    is_dense: bool,
}

/// Some taps of a kernel: whole rows, or a part of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TapSlice {
    rows: Range<usize>,
    cols: Range<usize>,
}

impl TapSlice {
    /// Splits the taps of `height` and `width` into slices of about `max_width` columns.
    ///
    /// A block of a narrow slice stays in the cache, however many channels the convolution has.
    pub(super) fn split(
        height: &KernelReads,
        width: &KernelReads,
        depth: usize,
        max_width: usize,
    ) -> Vec<Self> {
        let (kernel_rows, kernel_cols) = (height.taps.len(), width.taps.len());
        let row_width = kernel_cols * depth;
        if row_width <= max_width {
            let rows = even_taps(kernel_rows, max_width / row_width.max(1));
            return rows.map(|rows| Self { rows, cols: 0..kernel_cols }).collect();
        }
        let row = |row: usize| {
            let cols = even_taps(kernel_cols, max_width / depth);
            cols.map(move |cols| Self { rows: row..row + 1, cols })
        };
        (0..kernel_rows).flat_map(row).collect()
    }
}

fn even_taps(taps: usize, max: usize) -> impl Iterator<Item = Range<usize>> {
    crate::pieces::even_ranges(taps, max).into_iter()
}

impl<'a, T: Float> Patches<'a, T> {
    /// The patches of the channels `group` of `source`. Each pixel of `source` holds `channels` elements.
    pub(super) fn new(
        source: &'a [T],
        channels: usize,
        group: Range<usize>,
        height: &'a KernelReads,
        width: &'a KernelReads,
    ) -> Self {
        let is_dense = group.len() == channels && width.is_dense();
        Self { source, channels, group, height, width, is_dense }
    }

    pub(super) fn slices(&self, max_width: usize) -> Vec<TapSlice> {
        TapSlice::split(self.height, self.width, self.group.len(), max_width)
    }

    /// Number of columns of `slice`.
    pub(super) fn slice_width(&self, slice: &TapSlice) -> usize {
        slice.rows.len() * slice.cols.len() * self.group.len()
    }

    /// The columns of `slice` in the whole matrix.
    pub(super) fn columns(&self, slice: &TapSlice) -> Range<usize> {
        let tap = slice.rows.start * self.width.taps.len() + slice.cols.start;
        let start = tap * self.group.len();
        start..start + self.slice_width(slice)
    }

    /// Number of elements of scratch memory for a block of `rows` rows and `width` columns.
    pub(super) fn scratch_len(&self, rows: usize, width: usize) -> usize {
        if self.is_source() { 0 } else { rows * width }
    }

    /// The block of the matrix at `rows` and at the columns of `slice`. It is gathered into `scratch`,
    /// unless the source already holds it in this form.
    pub(super) fn block<'s>(
        &'s self,
        rows: Range<usize>,
        slice: &TapSlice,
        scratch: &'s mut [T],
    ) -> Matrix<'s, T> {
        if self.is_source() {
            let start = rows.start * self.channels + self.group.start;
            let source = &self.source[start..];
            Matrix::with_row_stride(source, rows.len(), self.group.len(), self.channels)
        } else {
            let width = self.slice_width(slice);
            let scratch = &mut scratch[..rows.len() * width];
            self.gather(rows.clone(), slice, scratch);
            Matrix::new(scratch, rows.len(), width)
        }
    }

    fn is_source(&self) -> bool {
        self.height.is_identity() && self.width.is_identity()
    }

    fn gather(&self, rows: Range<usize>, slice: &TapSlice, block: &mut [T]) {
        let (height, width) = (self.height.positions, self.width.positions);
        let segment = slice.cols.len() * self.group.len();
        let mut segments = block.chunks_exact_mut(segment);
        for position in rows {
            let (row, x) = (position / width, position % width);
            let (image, y) = (row / height, row % height);
            for &tap in &self.height.taps[slice.rows.clone()] {
                let segment = segments.next().expect("the block has a segment for each kernel row");
                match self.height.source(y, tap) {
                    None => segment.fill(T::ZERO),
                    Some(source_y) => {
                        let line = self.line(image * self.height.source_len + source_y);
                        self.gather_row(line, x, &self.width.taps[slice.cols.clone()], segment);
                    }
                }
            }
        }
    }

    /// One line of pixels, counted over all images.
    fn line(&self, line: usize) -> &'a [T] {
        let len = self.width.source_len * self.channels;
        &self.source[line * len..][..len]
    }

    /// Gathers the pixels of `line` that position `x` reads through `taps`.
    fn gather_row(&self, line: &[T], x: usize, taps: &[Tap], segment: &mut [T]) {
        if self.is_dense {
            let first = (x * self.width.step) as isize + taps[0].offset;
            return copy_padded(line, first * self.channels as isize, segment);
        }
        for (&tap, part) in taps.iter().zip(segment.chunks_exact_mut(self.group.len())) {
            match self.width.source(x, tap) {
                None => part.fill(T::ZERO),
                Some(x) => copy(&line[x * self.channels + self.group.start..][..part.len()], part),
            }
        }
    }
}

/// Copies the part of `line` that begins at `start`. Positions outside `line` become zeros.
fn copy_padded<T: Float>(line: &[T], start: isize, segment: &mut [T]) {
    let end = start + segment.len() as isize;
    if start >= 0 && end <= line.len() as isize {
        return copy(&line[start as usize..end as usize], segment);
    }
    let inside = |position: isize| position.clamp(0, line.len() as isize);
    let (from, to) = (inside(start), inside(end));
    // The whole segment can be padding, on either side.
    let before = (from - start).clamp(0, segment.len() as isize) as usize;
    let copied = (to - from) as usize;
    segment[..before].fill(T::ZERO);
    copy(&line[from as usize..to as usize], &mut segment[before..before + copied]);
    segment[before + copied..].fill(T::ZERO);
}

/// `copy_from_slice` without a call into the C library, for the short runs of images with few channels.
#[inline(always)]
fn copy<T: Float>(from: &[T], to: &mut [T]) {
    const STEP: usize = 8;
    let len = to.len();
    if !(STEP..=8 * STEP).contains(&len) {
        return to.copy_from_slice(from);
    }
    for start in (0..len - STEP).step_by(STEP) {
        to[start..start + STEP].copy_from_slice(&from[start..start + STEP]);
    }
    // The last step ends at the end and may overwrite elements that are already set.
    to[len - STEP..].copy_from_slice(&from[len - STEP..]);
}
