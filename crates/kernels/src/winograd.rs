//! Winograd's minimal filtering for 3x3 convolutions of stride 1: F(4x4, 3x3), and F(2x2, 3x3) for
//! small maps.
//!
//! For each pair of channels, four by four outputs from six by six inputs take 36 multiplications instead
//! of 144. Two by two outputs from four by four inputs take 16 instead of 36. The price is the transforms
//! of tiles and kernels. The steps are those of Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks" (2016): transform, multiply a pair of matrices for each value of a tile, transform back. The
//! gradients are the adjoints of the same steps.
//!
//! Rounding errors are around 1e-6 of the largest value, a few times those of a direct sum. Results have
//! the same bits for any number of threads. Between instruction sets they differ in the last digits.

mod backward_weight;
mod correlate;
mod grid;
mod kernels;
mod maps;
mod panels;
mod size;
#[cfg(test)]
mod tests;
mod tiles;

use crate::conv_shape::ConvShape;
use crate::finish::Finish;
use crate::scratch::Scratch;
use crate::simd::{Level, with_simd};
use crate::workspace::{Product, Workspace};
use grid::TileGrid;
use kernels::Kernels;
pub(crate) use size::Size;
use size::with_tiles;

/// The functions of this module that [`super::conv`] needs, for one number type.
#[derive(Debug)]
pub struct Winograd<T> {
    /// See [`Size::of`].
    pub(crate) size: fn(&ConvShape) -> Option<Size>,
    /// See [`forward`].
    pub(crate) forward: fn(Size, &[T], &[T], &mut [T], &ConvShape),
    /// See [`backward_data`].
    pub(crate) backward_data: fn(Size, &[T], &[T], &mut [T], &ConvShape),
    /// See [`backward_weight`].
    pub(crate) backward_weight: fn(Size, &[T], &[T], &mut [T], &ConvShape),
}

/// The kernels of this module. They exist only for `f32`.
pub(crate) const KERNELS: Winograd<f32> =
    Winograd { size: Size::of, forward, backward_data, backward_weight };

/// Whether this is a 3x3 convolution of the kind that the tiles are made for.
fn fits(shape: &ConvShape) -> bool {
    shape.kernel == [3, 3]
        && shape.stride == [1, 1]
        && shape.padding == [1, 1]
        && shape.dilation == [1, 1]
        && shape.groups == 1
        && shape.in_size == shape.out_size
}

/// Writes the convolution of `x`, `[batch, height, width, in]`, with `kernel`, `[out, in, 3, 3]`, to
/// `y`, `[batch, height, width, out]`, in tiles of `size`.
///
/// # Panics
/// If the geometry does not fit, or a slice is not as long as `shape` says.
fn forward(size: Size, x: &[f32], kernel: &[f32], y: &mut [f32], shape: &ConvShape) {
    forward_at(Level::get(), size, x, kernel, y, shape);
}

/// Writes the gradient of the input of [`forward`] to `dx`, from that of the output.
///
/// # Panics
/// As [`forward`] does.
fn backward_data(size: Size, dy: &[f32], kernel: &[f32], dx: &mut [f32], shape: &ConvShape) {
    backward_data_at(Level::get(), size, dy, kernel, dx, shape);
}

/// Writes the gradient of the kernel of [`forward`] to `dkernel`, from that of the output.
///
/// # Panics
/// As [`forward`] does.
fn backward_weight(size: Size, x: &[f32], dy: &[f32], dkernel: &mut [f32], shape: &ConvShape) {
    backward_weight_at(Level::get(), size, x, dy, dkernel, shape);
}

/// The working memory of one of the three products of a convolution, in tiles of `size`.
pub(crate) fn workspace(size: Size, shape: &ConvShape, product: Product) -> Workspace {
    let (inputs, outputs) = (shape.in_channels, shape.out_channels);
    with_tiles!(size, F => with_simd!(Level::get(), simd => {
        let grid = TileGrid::<F>::new(shape);
        match product {
            Product::Output => correlate::workspace(simd, [inputs, outputs], grid),
            Product::InputGradient => correlate::workspace(simd, [outputs, inputs], grid),
            Product::KernelGradient => backward_weight::workspace(simd, [inputs, outputs], grid),
        }
    }))
}

/// A kernel that was transformed in advance, for the instruction set that this process uses.
pub(crate) struct Transformed {
    values: Scratch<f32>,
    size: Size,
    /// `[in, out]`.
    channels: [usize; 2],
}

impl Transformed {
    /// Transforms `kernel`, `[out, in, 3, 3]`, for tiles of `size`.
    pub(crate) fn new(kernel: &[f32], shape: &ConvShape, size: Size) -> Self {
        let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels);
        let values = with_tiles!(size, F => with_simd!(Level::get(), simd => {
            correlate::transformed::<_, F>(simd, &kernels, Scratch::lasting)
        }));
        Self { values, size, channels: [shape.in_channels, shape.out_channels] }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.values.bytes()
    }

    /// As [`forward`], followed by `finish`. `kernel` must be the one that this was made from.
    pub(crate) fn forward(
        &self,
        x: &[f32],
        kernel: &[f32],
        y: &mut [f32],
        shape: &ConvShape,
        finish: Finish<'_, f32>,
    ) {
        assert!(fits(shape), "no tiles for {shape:?}");
        assert_eq!(self.channels, [shape.in_channels, shape.out_channels], "one kernel");
        let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels);
        let transformed = Some(&self.values[..]);
        with_tiles!(self.size, F => with_simd!(Level::get(), simd => {
            let grid = TileGrid::<F>::new(shape);
            correlate::correlate(simd, x, &kernels, transformed, y, grid, finish)
        }));
    }
}

fn forward_at(
    level: Level,
    size: Size,
    x: &[f32],
    kernel: &[f32],
    y: &mut [f32],
    shape: &ConvShape,
) {
    assert!(fits(shape), "no tiles for {shape:?}");
    let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels);
    correlate_at(level, size, x, &kernels, y, shape);
}

fn backward_data_at(
    level: Level,
    size: Size,
    dy: &[f32],
    kernel: &[f32],
    dx: &mut [f32],
    shape: &ConvShape,
) {
    assert!(fits(shape), "no tiles for {shape:?}");
    let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels).adjoint();
    correlate_at(level, size, dy, &kernels, dx, shape);
}

fn correlate_at(
    level: Level,
    size: Size,
    x: &[f32],
    kernels: &Kernels<'_>,
    y: &mut [f32],
    shape: &ConvShape,
) {
    with_tiles!(size, F => with_simd!(level, simd => {
        let grid = TileGrid::<F>::new(shape);
        correlate::correlate(simd, x, kernels, None, y, grid, Finish::default())
    }));
}

fn backward_weight_at(
    level: Level,
    size: Size,
    x: &[f32],
    dy: &[f32],
    dkernel: &mut [f32],
    shape: &ConvShape,
) {
    assert!(fits(shape), "no tiles for {shape:?}");
    let (x, dy) = ((x, shape.in_channels), (dy, shape.out_channels));
    with_tiles!(size, F => with_simd!(level, simd => {
        backward_weight::backward_weight(simd, x, dy, dkernel, TileGrid::<F>::new(shape))
    }));
}
