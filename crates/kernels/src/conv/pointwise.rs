//! 1x1 convolutions with stride 1: products of the matrix of pixels and the kernel.

use crate::conv_shape::ConvShape;
use crate::float::Float;
use crate::gemm::{self, Matrix, multiply_into};
use crate::workspace::{Product, Workspace};

/// Whether this product of the convolution is a product of two large matrices.
pub(super) fn applies<T: Float>(shape: &ConvShape, product: Product) -> bool {
    let kernel_is_transposed = product == Product::Output;
    shape.is_pointwise() && gemm::is_packed::<T>(sizes(shape, product), kernel_is_transposed)
}

/// Rows, depth and columns of the product.
fn sizes(shape: &ConvShape, product: Product) -> [usize; 3] {
    let (pixels, input, output) = (shape.in_pixels(), shape.in_channels, shape.out_channels);
    match product {
        Product::Output => [pixels, input, output],
        Product::InputGradient => [pixels, output, input],
        Product::KernelGradient => [output, pixels, input],
    }
}

pub(super) fn forward<T: Float>(x: &[T], kernel: &[T], y: &mut [T], shape: &ConvShape) {
    multiply_into(y, pixels_in(x, shape), matrix_of(kernel, shape).transposed(), None);
}

pub(super) fn backward_data<T: Float>(dy: &[T], kernel: &[T], dx: &mut [T], shape: &ConvShape) {
    multiply_into(dx, pixels_out(dy, shape), matrix_of(kernel, shape), None);
}

pub(super) fn backward_weight<T: Float>(x: &[T], dy: &[T], dkernel: &mut [T], shape: &ConvShape) {
    multiply_into(dkernel, pixels_out(dy, shape).transposed(), pixels_in(x, shape), None);
}

fn pixels_in<'a, T>(x: &'a [T], shape: &ConvShape) -> Matrix<'a, T> {
    Matrix::new(x, shape.in_pixels(), shape.in_channels)
}

fn pixels_out<'a, T>(y: &'a [T], shape: &ConvShape) -> Matrix<'a, T> {
    Matrix::new(y, shape.out_pixels(), shape.out_channels)
}

fn matrix_of<'a, T>(kernel: &'a [T], shape: &ConvShape) -> Matrix<'a, T> {
    Matrix::new(kernel, shape.out_channels, shape.in_channels)
}

/// The working memory of such a product.
pub(super) fn workspace(shape: &ConvShape, product: Product) -> Workspace {
    gemm::packed_workspace(sizes(shape, product), product == Product::KernelGradient)
}
