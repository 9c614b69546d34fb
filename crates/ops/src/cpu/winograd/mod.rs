//! Winograd's minimal filtering F(4x4, 3x3) for convolutions of stride 1.
//!
//! Four by four outputs from six by six inputs take 36 multiplications for each pair of channels in
//! place of 144, at the price of transforms of tiles and kernels. The steps are those of Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks" (2016): transform, multiply 36 pairs
//! of matrices, transform back; the gradients are the adjoints of the same steps.
//!
//! Rounding errors are around 1e-6 of the largest value, a few times those of a direct sum. Results
//! have the same bits for any number of threads, but differ in the last digits between instruction
//! sets.

mod backward_weight;
mod correlate;
mod grid;
mod kernels;
mod maps;
mod panels;
#[cfg(test)]
mod tests;
mod transform;

use crate::cpu::conv_shape::ConvShape;
use crate::cpu::finish::Finish;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{Level, with_simd};
use grid::{PLANES, TileGrid};
use kernels::Kernels;

/// What [`super::conv`] needs of this module, for one number type.
pub(crate) struct Winograd<T> {
    /// See [`applies`].
    pub(crate) applies: fn(&ConvShape) -> bool,
    /// See [`forward`].
    pub(crate) forward: fn(&[T], &[T], &mut [T], &ConvShape),
    /// See [`backward_data`].
    pub(crate) backward_data: fn(&[T], &[T], &mut [T], &ConvShape),
    /// See [`backward_weight`].
    pub(crate) backward_weight: fn(&[T], &[T], &mut [T], &ConvShape),
}

/// The kernels of this module, which exist for `f32` alone.
pub(crate) const KERNELS: Winograd<f32> =
    Winograd { applies, forward, backward_data, backward_weight };

/// Fewer channels do not fill the vectors that the transforms work on.
const MIN_CHANNELS: usize = 8;

/// Whether these kernels compute convolutions of this shape, and faster than a plain product does.
fn applies(shape: &ConvShape) -> bool {
    if !fits(shape) || shape.in_channels.min(shape.out_channels) < MIN_CHANNELS {
        return false;
    }
    // Measured per pair of channels: a tile takes as long here as 4.5 pixels in a plain product
    // (at best it holds 16), and to transform a kernel as long as 24 pixels.
    let grid = TileGrid::new(shape);
    2 * grid.batch * grid.height * grid.width >= 9 * grid.len() + 48
}

/// Whether the geometry is the one that the tiles are made for.
fn fits(shape: &ConvShape) -> bool {
    shape.kernel == [3, 3]
        && shape.stride == [1, 1]
        && shape.padding == [1, 1]
        && shape.dilation == [1, 1]
        && shape.groups == 1
        && shape.in_size == shape.out_size
}

/// Writes the convolution of `x`, `[batch, height, width, in]`, with `kernel`, `[out, in, 3, 3]`, to
/// `y`, `[batch, height, width, out]`.
///
/// # Panics
/// If the geometry does not fit, or a slice is not as long as `shape` says.
fn forward(x: &[f32], kernel: &[f32], y: &mut [f32], shape: &ConvShape) {
    forward_at(Level::get(), x, kernel, y, shape);
}

/// Writes the gradient of the input of [`forward`] to `dx`, given that of the output.
///
/// # Panics
/// As [`forward`] does.
fn backward_data(dy: &[f32], kernel: &[f32], dx: &mut [f32], shape: &ConvShape) {
    backward_data_at(Level::get(), dy, kernel, dx, shape);
}

/// Writes the gradient of the kernel of [`forward`] to `dkernel`, given that of the output.
///
/// # Panics
/// As [`forward`] does.
fn backward_weight(x: &[f32], dy: &[f32], dkernel: &mut [f32], shape: &ConvShape) {
    backward_weight_at(Level::get(), x, dy, dkernel, shape);
}

/// A kernel that was transformed before, for the instruction set that this process uses.
pub(crate) struct Transformed(Scratch<f32>);

impl Transformed {
    /// Of `kernel`, `[out, in, 3, 3]`.
    pub(crate) fn new(kernel: &[f32], shape: &ConvShape) -> Self {
        let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels);
        with_simd!(Level::get(), simd => Self(correlate::transformed(simd, &kernels)))
    }

    /// Whether a convolution of this shape, its kernel transformed, is faster than a plain product
    /// with a kernel that is packed.
    pub(crate) fn applies(shape: &ConvShape) -> bool {
        if !fits(shape) || shape.in_channels.min(shape.out_channels) < MIN_CHANNELS {
            return false;
        }
        // In multiplications for each pair of channels. To fetch a weight from memory takes as long
        // as 18 of them, and here are four times as many weights.
        let grid = TileGrid::new(shape);
        let pixels = grid.batch * grid.height * grid.width;
        41 * grid.len() + 18 * PLANES < 9 * pixels + 18 * 9
    }

    /// As [`forward`], of the `kernel` that this was made of, and then `finish`.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        kernel: &[f32],
        y: &mut [f32],
        shape: &ConvShape,
        finish: Finish<'_, f32>,
    ) {
        assert!(fits(shape), "no tiles for {shape:?}");
        let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels);
        let (grid, transformed) = (TileGrid::new(shape), Some(&self.0[..]));
        with_simd!(Level::get(), simd => {
            correlate::correlate(simd, x, &kernels, transformed, y, grid, finish)
        });
    }
}

fn forward_at(level: Level, x: &[f32], kernel: &[f32], y: &mut [f32], shape: &ConvShape) {
    assert!(fits(shape), "no tiles for {shape:?}");
    let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels);
    let grid = TileGrid::new(shape);
    let finish = Finish::default();
    with_simd!(level, simd => correlate::correlate(simd, x, &kernels, None, y, grid, finish));
}

fn backward_data_at(level: Level, dy: &[f32], kernel: &[f32], dx: &mut [f32], shape: &ConvShape) {
    assert!(fits(shape), "no tiles for {shape:?}");
    let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels).adjoint();
    let grid = TileGrid::new(shape);
    let finish = Finish::default();
    with_simd!(level, simd => correlate::correlate(simd, dy, &kernels, None, dx, grid, finish));
}

fn backward_weight_at(level: Level, x: &[f32], dy: &[f32], dkernel: &mut [f32], shape: &ConvShape) {
    assert!(fits(shape), "no tiles for {shape:?}");
    let (x, dy) = ((x, shape.in_channels), (dy, shape.out_channels));
    let grid = TileGrid::new(shape);
    with_simd!(level, simd => backward_weight::backward_weight(simd, x, dy, dkernel, grid));
}
