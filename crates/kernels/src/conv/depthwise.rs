//! Convolution of each channel with its own kernel.
//!
//! There is no matrix product here. The products are element by element along the channels, which are
//! contiguous. The loops below handle blocks of channels, with the sums in registers.

use rayon::prelude::*;

use super::TASKS;
use super::kernel_reads::KernelReads;
use crate::conv_shape::ConvShape;
use crate::float::Float;
use crate::parallel::for_each;
use crate::pieces::split;
use crate::scratch::Scratch;
use crate::vectorize::vectorize;

/// For each position along an axis, the taps that read an input there, and which input.
type Reach = Vec<Vec<Read>>;

/// One tap, and the row (or column) of the source that it reads.
#[derive(Debug, Clone, Copy)]
struct Read {
    tap: usize,
    source: usize,
}

pub(super) fn forward<T: Float>(x: &[T], kernel: &[T], y: &mut [T], shape: &ConvShape) {
    let (height, width) = (forward_reach(shape, 0), forward_reach(shape, 1));
    correlate(x, shape.in_size, kernel, y, shape, &height, &width);
}

pub(super) fn backward_data<T: Float>(dy: &[T], kernel: &[T], dx: &mut [T], shape: &ConvShape) {
    let (height, width) = (backward_reach(shape, 0), backward_reach(shape, 1));
    correlate(dy, shape.out_size, kernel, dx, shape, &height, &width);
}

pub(super) fn backward_weight<T: Float>(x: &[T], dy: &[T], dkernel: &mut [T], shape: &ConvShape) {
    let (height, width) = (forward_reach(shape, 0), by_tap(&forward_reach(shape, 1), shape));
    let lines = split(shape.batch * shape.out_size[0], TASKS);
    let mut partials = Scratch::take(lines.len() * dkernel.len());
    let parts = partials.par_chunks_exact_mut(dkernel.len()).zip(&lines);
    for_each(parts, |(partial, lines)| {
        partial.fill(T::ZERO);
        for line in lines.clone() {
            let dy = pixels(dy, line, shape.out_size[1] * shape.in_channels);
            let (image, y) = (line / shape.out_size[0], line % shape.out_size[0]);
            for read in &height[y] {
                let x_line = image * shape.in_size[0] + read.source;
                let x = pixels(x, x_line, shape.in_size[1] * shape.in_channels);
                let row_len = shape.kernel[1] * shape.in_channels;
                let row = &mut partial[read.tap * row_len..][..row_len];
                add_products(x, dy, &width, row, shape.in_channels);
            }
        }
    });
    add_up(&partials, dkernel, shape);
}

fn forward_reach(shape: &ConvShape, axis: usize) -> Reach {
    let axis = KernelReads::forward(shape, axis);
    (0..axis.positions).map(|position| reads(&axis, position)).collect()
}

fn backward_reach(shape: &ConvShape, axis: usize) -> Reach {
    let stride = shape.stride[axis];
    let phases: Vec<_> =
        (0..stride).map(|phase| KernelReads::backward(shape, axis, phase)).collect();
    let positions = 0..shape.in_size[axis];
    positions.map(|position| reads(&phases[position % stride], position / stride)).collect()
}

fn reads(axis: &KernelReads, position: usize) -> Vec<Read> {
    let read = |&tap| axis.source(position, tap).map(|source| Read { tap: tap.index, source });
    axis.taps.iter().filter_map(read).collect()
}

/// For each tap along the width, the pairs of an output column and the input column that it reads.
fn by_tap(reach: &Reach, shape: &ConvShape) -> Vec<Vec<(usize, usize)>> {
    let mut pairs = vec![Vec::new(); shape.kernel[1]];
    for (position, reads) in reach.iter().enumerate() {
        for read in reads {
            pairs[read.tap].push((position, read.source));
        }
    }
    pairs
}

fn pixels<T>(image: &[T], line: usize, line_len: usize) -> &[T] {
    &image[line * line_len..][..line_len]
}

/// Sets every pixel of `result` to the sum of the pixels that its taps read, with weights for each channel.
fn correlate<T: Float>(
    source: &[T],
    source_size: [usize; 2],
    kernel: &[T],
    result: &mut [T],
    shape: &ConvShape,
    height: &Reach,
    width: &Reach,
) {
    let channels = shape.in_channels;
    let mut weights = Scratch::take(kernel.len());
    // [taps, channels]
    for (channel, taps) in kernel.chunks_exact(shape.taps()).enumerate() {
        for (tap, &weight) in taps.iter().enumerate() {
            weights[tap * channels + channel] = weight;
        }
    }
    let weights = &*weights;
    for_each(result.par_chunks_mut(width.len() * channels).enumerate(), |(line, result)| {
        let (image, y) = (line / height.len(), line % height.len());
        let read = |read: &Read| {
            let line = image * source_size[0] + read.source;
            let row_len = shape.kernel[1] * channels;
            let source = pixels(source, line, source_size[1] * channels);
            (source, &weights[read.tap * row_len..][..row_len])
        };
        let lines: Vec<_> = height[y].iter().map(read).collect();
        correlate_line(&lines, width, result, channels);
    });
}

vectorize! {
    /// Computes one line of the result. `lines` pairs each line that it reads with its row of weights.
    fn correlate_line<T: Float>(
        lines: &[(&[T], &[T])],
        width: &Reach,
        result: &mut [T],
        channels: usize,
    ) {
        for (reads, pixel) in width.iter().zip(result.chunks_exact_mut(channels)) {
            let mut channel = 0;
            while channel + 32 <= channels {
                correlate_block::<T, 32>(lines, reads, pixel, channel);
                channel += 32;
            }
            while channel + 8 <= channels {
                correlate_block::<T, 8>(lines, reads, pixel, channel);
                channel += 8;
            }
            while channel < channels {
                correlate_block::<T, 1>(lines, reads, pixel, channel);
                channel += 1;
            }
        }
    }

    /// Adds to each tap of one kernel row the products of its pairs of pixels.
    fn add_products<T: Float>(
        x: &[T],
        dy: &[T],
        pairs: &[Vec<(usize, usize)>],
        sums: &mut [T],
        channels: usize,
    ) {
        let mut channel = 0;
        while channel + 32 <= channels {
            add_products_block::<T, 32>(x, dy, pairs, sums, channels, channel);
            channel += 32;
        }
        while channel + 8 <= channels {
            add_products_block::<T, 8>(x, dy, pairs, sums, channels, channel);
            channel += 8;
        }
        while channel < channels {
            add_products_block::<T, 1>(x, dy, pairs, sums, channels, channel);
            channel += 1;
        }
    }
}

#[inline(always)]
fn correlate_block<T: Float, const LANES: usize>(
    lines: &[(&[T], &[T])],
    reads: &[Read],
    pixel: &mut [T],
    channel: usize,
) {
    let channels = pixel.len();
    let mut sums = [T::ZERO; LANES];
    for (source, weights) in lines {
        for read in reads {
            let source = &source[read.source * channels + channel..][..LANES];
            let weights = &weights[read.tap * channels + channel..][..LANES];
            for lane in 0..LANES {
                sums[lane] += source[lane] * weights[lane];
            }
        }
    }
    pixel[channel..channel + LANES].copy_from_slice(&sums);
}

#[inline(always)]
fn add_products_block<T: Float, const LANES: usize>(
    x: &[T],
    dy: &[T],
    pairs: &[Vec<(usize, usize)>],
    sums: &mut [T],
    channels: usize,
    channel: usize,
) {
    for (pairs, sums) in pairs.iter().zip(sums.chunks_exact_mut(channels)) {
        let total = &mut sums[channel..channel + LANES];
        let mut sums = [T::ZERO; LANES];
        for &(output, input) in pairs {
            let x = &x[input * channels + channel..][..LANES];
            let dy = &dy[output * channels + channel..][..LANES];
            for lane in 0..LANES {
                sums[lane] += x[lane] * dy[lane];
            }
        }
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    }
}

/// Adds up the parts `[taps, channels]` in order, into `[channels, taps]`.
fn add_up<T: Float>(partials: &[T], dkernel: &mut [T], shape: &ConvShape) {
    let (len, taps) = (dkernel.len(), shape.taps());
    for (channel, dkernel) in dkernel.chunks_exact_mut(taps).enumerate() {
        for (tap, value) in dkernel.iter_mut().enumerate() {
            *value = T::ZERO;
            for partial in partials.chunks_exact(len) {
                *value += partial[tap * shape.in_channels + channel];
            }
        }
    }
}
