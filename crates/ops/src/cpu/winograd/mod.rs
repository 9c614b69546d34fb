//! Winograd's minimal filtering F(4x4, 3x3) for convolutions of stride 1.

mod backward_weight;
mod correlate;
mod grid;
mod kernels;
mod maps;
mod panels;
mod product;
mod scratch;
mod simd;
mod transform;

use crate::cpu::conv_shape::ConvShape;
use simd::{Level, with_simd};
use grid::TileGrid;
use kernels::Kernels;

/// Writes
pub(crate) fn forward(x: &[f32], kernel: &[f32], y: &mut [f32], shape: &ConvShape) {
    forward_with(Level::get(), x, kernel, y, shape);
}
pub(crate) fn forward_with(level: Level, x: &[f32], kernel: &[f32], y: &mut [f32], shape: &ConvShape) {
    let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels);
    let grid = TileGrid::new(shape);
    with_simd!(level, simd => correlate::correlate(simd, x, &kernels, y, grid));
}
pub(crate) fn backward_data(dy: &[f32], kernel: &[f32], dx: &mut [f32], shape: &ConvShape) {
    backward_data_with(Level::get(), dy, kernel, dx, shape)
}
pub(crate) fn backward_data_with(level: Level, dy: &[f32], kernel: &[f32], dx: &mut [f32], shape: &ConvShape) {
    let kernels = Kernels::new(kernel, shape.in_channels, shape.out_channels).adjoint();
    let grid = TileGrid::new(shape);
    with_simd!(level, simd => correlate::correlate(simd, dy, &kernels, dx, grid));
}
pub(crate) fn backward_weight(x: &[f32], dy: &[f32], dkernel: &mut [f32], shape: &ConvShape) {
    backward_weight_with(Level::get(), x, dy, dkernel, shape)
}
pub(crate) fn backward_weight_with(level: Level, x: &[f32], dy: &[f32], dkernel: &mut [f32], shape: &ConvShape) {
    let grid = TileGrid::new(shape);
    with_simd!(level, simd => backward_weight::backward_weight(simd, (x, shape.in_channels), (dy, shape.out_channels), dkernel, grid));
}
