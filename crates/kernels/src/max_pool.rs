//! Max pooling.
//!
//! The forward pass records the position of each maximum within its window, counted row by row from the
//! window's first input. The backward pass then computes each input row from the windows that hold it. Each
//! element is written once, so rows can go to any thread.

use super::compiled::compiled;
use super::float::Float;
use super::output::{build, build_pair};
use super::pool::{Window, Windows};
use super::vectorize::vectorize;

/// Largest number of positions of a window, so that a position fits a `u16`.
pub const MAX_POSITIONS: usize = 1 << 16;

compiled! {
    trait Kernels<T>;

    /// The largest element of every window.
    pub fn max(x: &[T], channels: usize, windows: &Windows) -> Vec<T> {
        let row_len = windows.columns.output() * channels;
        let len = output_len(x, channels, windows);
        build(len, row_len, |row, y| {
            let (image, rows) = output_row(x, channels, windows, row);
            max_row(image, windows, rows, channels, y, None);
        })
    }

    /// As [`max`], and the position of the first largest element in its window.
    pub fn max_and_positions(
        x: &[T],
        channels: usize,
        windows: &Windows,
    ) -> (Vec<T>, Vec<u16>) {
        let row_len = windows.columns.output() * channels;
        let len = output_len(x, channels, windows);
        build_pair(len, row_len, |row, y, positions| {
            let (image, rows) = output_row(x, channels, windows, row);
            max_row(image, windows, rows, channels, y, Some(positions));
        })
    }

    /// The gradient of the input. Each window's gradient goes to the position of its maximum.
    pub fn gradient(
        grad: &[T],
        positions: &[u16],
        channels: usize,
        windows: &Windows,
    ) -> Vec<T> {
        let output_len = windows.output_len(channels);
        let row_len = windows.columns.input() * channels;
        let batch = grad.len() / output_len;
        build(batch * windows.image_len(channels), row_len, |row, dx| {
            let (image, row) = (row / windows.rows.input(), row % windows.rows.input());
            let output = image * output_len..(image + 1) * output_len;
            gradient_row(&grad[output.clone()], &positions[output], windows, row, channels, dx);
        })
    }
}

fn output_len<T>(x: &[T], channels: usize, windows: &Windows) -> usize {
    x.len() / windows.image_len(channels) * windows.output_len(channels)
}

/// The image of an output row, which is counted over the batch, and the row's window of input rows.
fn output_row<'a, T>(
    x: &'a [T],
    channels: usize,
    windows: &Windows,
    row: usize,
) -> (&'a [T], Window) {
    let (image, row) = (row / windows.rows.output(), row % windows.rows.output());
    let len = windows.image_len(channels);
    (&x[image * len..][..len], windows.rows.windows[row])
}

/// Number of channels whose maxima are kept in registers together.
const LANES: usize = 16;

/// Writes the maxima of one window for `L` channels, starting at `channel`. Writes their positions too
/// unless `positions` is empty.
#[inline(always)]
fn window_max<T: Float, const L: usize>(
    image: &[T],
    width: usize,
    channels: usize,
    [rows, columns]: [Window; 2],
    channel: usize,
    y: &mut [T],
    positions: &mut [u16],
) {
    let at = |row: usize, column: usize| {
        let start = (row * width + column) * channels + channel;
        image[start..].first_chunk::<L>().expect("the window lies in the image")
    };
    let mut max = *at(rows.start, columns.start);
    let mut best = [0; L];
    let mut position = 0u16;
    for row in rows.start..rows.end {
        for column in columns.start..columns.end {
            for ((max, best), &x) in max.iter_mut().zip(&mut best).zip(at(row, column)) {
                // As in PyTorch, a NaN is larger than anything. `||` would be a branch and keep this from
                // becoming plain vector code.
                let larger = (x > *max) | x.is_not_a_number();
                *max = if larger { x } else { *max };
                *best = if larger { position } else { *best };
            }
            // It wraps only after the last of `MAX_POSITIONS` positions.
            position = position.wrapping_add(1);
        }
    }
    y[channel..][..L].copy_from_slice(&max);
    if let Some(positions) = positions.get_mut(channel..channel + L) {
        positions.copy_from_slice(&best);
    }
}

vectorize! {
    fn max_row<T: Float>(
        image: &[T],
        windows: &Windows,
        rows: Window,
        channels: usize,
        y: &mut [T],
        positions: Option<&mut [u16]>,
    ) {
        let width = windows.columns.input();
        let mut unwanted = [];
        let mut positions = positions.unwrap_or(&mut unwanted).chunks_exact_mut(channels);
        for (&columns, y) in windows.columns.windows.iter().zip(y.chunks_exact_mut(channels)) {
            let positions = positions.next().unwrap_or_default();
            let window = [rows, columns];
            let whole = channels - channels % LANES;
            for channel in (0..whole).step_by(LANES) {
                window_max::<T, LANES>(image, width, channels, window, channel, y, positions);
            }
            for channel in whole..channels {
                window_max::<T, 1>(image, width, channels, window, channel, y, positions);
            }
        }
    }

    fn gradient_row<T: Float>(
        grad: &[T],
        positions: &[u16],
        windows: &Windows,
        row: usize,
        channels: usize,
        dx: &mut [T],
    ) {
        for (column, dx) in dx.chunks_exact_mut(channels).enumerate() {
            for i in windows.rows.holders[row].clone() {
                let from_top = row - windows.rows.windows[i].start;
                for j in windows.columns.holders[column].clone() {
                    let columns = windows.columns.windows[j];
                    let position = (from_top * columns.len() + column - columns.start) as u16;
                    let start = (i * windows.columns.output() + j) * channels;
                    let (grad, best) = (&grad[start..][..channels], &positions[start..][..channels]);
                    for ((dx, &grad), &best) in dx.iter_mut().zip(grad).zip(best) {
                        *dx += if best == position { grad } else { T::ZERO };
                    }
                }
            }
        }
    }
}
