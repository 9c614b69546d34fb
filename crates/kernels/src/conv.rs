//! Channels-last convolution: the forward pass and both gradients, for any stride, padding,
//! dilation and number of groups.
//!
//! A convolution is a matrix product of patches and kernel. `patches` makes the matrix of patches block by
//! block, so that a block is multiplied while it is in the cache. A 1x1 convolution needs no copy at all: with stride 1
//! it is a product of two whole matrices.
//! The gradient of the input is itself a convolution of the output's gradient, or one convolution for each
//! remainder by the stride (`kernel_reads`). So no two tasks ever add to the same element. Shapes with thin
//! matrices use other methods: `depthwise`, `thin_groups`, `scatter`. 3x3 convolutions with stride 1 use
//! Winograd's kernels.
//!
//! Work is divided by sizes alone, and sums run in a fixed order. So the result has the same bits for any
//! number of threads.

mod depthwise;
mod gather;
mod kernel_reads;
mod pack;
mod packed;
mod patches;
mod pointwise;
mod scatter;
mod strided;
mod thin_groups;
mod weight_gradient;
mod workspaces;

use super::compiled::compiled;
use super::conv_shape::ConvShape;
use super::float::Float;
use super::output::filled_by;
use super::winograd::{Size, Winograd};
use super::workspace::Product;
use kernel_reads::KernelReads;
pub(crate) use packed::PackedKernel;
pub use workspaces::workspace;

/// Winograd's kernels and their tile size, if they are allowed and faster.
fn winograd<T: Float>(shape: &ConvShape) -> Option<(Winograd<T>, Size)> {
    let kernels = T::winograd().filter(|_| !shape.exact)?;
    let size = (kernels.size)(shape)?;
    Some((kernels, size))
}

/// Patches per block: enough for matrix products at full speed, and few enough for the cache.
const BLOCK_ROWS: usize = 256;

/// Largest number of columns of a block of patches. A wider matrix is multiplied slice by slice.
const BLOCK_COLS: usize = 768;

/// Number of tasks for a convolution that is large enough. It gives work to many cores and still keeps two
/// or four cores evenly busy.
const TASKS: usize = 16;

compiled! {
    trait Kernels<T>;

    /// The convolution of `x` with `kernel`.
    pub fn output(x: &[T], kernel: &[T], shape: &ConvShape) -> Vec<T> {
        // SAFETY: `forward` sets every element and reads none.
        unsafe { filled_by(shape.output_len(), |y| forward(x, kernel, y, shape)) }
    }

    /// The gradient of the input, from that of the output.
    pub fn input_gradient(dy: &[T], kernel: &[T], shape: &ConvShape) -> Vec<T> {
        // SAFETY: `backward_data` sets every element and reads none.
        unsafe { filled_by(shape.input_len(), |dx| backward_data(dy, kernel, dx, shape)) }
    }

    /// The gradient of the kernel, from that of the output.
    pub fn kernel_gradient(x: &[T], dy: &[T], shape: &ConvShape) -> Vec<T> {
        // SAFETY: `backward_weight` sets every element and reads none.
        unsafe { filled_by(shape.kernel_len(), |dkernel| backward_weight(x, dy, dkernel, shape)) }
    }
}

/// `y = x * kernel`. Sets every element of `y` and reads none.
pub(crate) fn forward<T: Float>(x: &[T], kernel: &[T], y: &mut [T], shape: &ConvShape) {
    assert_lengths(x, kernel, y, shape);
    if reads_nothing(shape) {
        y.fill(T::ZERO);
    } else if let Some((kernels, size)) = winograd(shape) {
        (kernels.forward)(size, x, kernel, y, shape);
    } else if shape.is_depthwise() {
        depthwise::forward(x, kernel, y, shape);
    } else if let Some(merged) = thin_groups::merged(shape) {
        thin_groups::forward_merged(x, kernel, y, shape, &merged);
    } else if pointwise::applies::<T>(shape, Product::Output) {
        pointwise::forward(x, kernel, y, shape);
    } else {
        gather::forward(x, kernel, y, shape);
    }
}

/// The gradient of the input, from that of the output. Sets every element of `dx` and reads none.
pub(crate) fn backward_data<T: Float>(dy: &[T], kernel: &[T], dx: &mut [T], shape: &ConvShape) {
    assert_lengths(dx, kernel, dy, shape);
    if reads_nothing(shape) {
        dx.fill(T::ZERO);
    } else if let Some((kernels, size)) = winograd(shape) {
        (kernels.backward_data)(size, dy, kernel, dx, shape);
    } else if shape.is_depthwise() {
        depthwise::backward_data(dy, kernel, dx, shape);
    } else if let Some(merged) = thin_groups::merged(shape) {
        thin_groups::backward_data_merged(dy, kernel, dx, shape, &merged);
    } else if pointwise::applies::<T>(shape, Product::InputGradient) {
        pointwise::backward_data(dy, kernel, dx, shape);
    } else if scatter::applies(shape) {
        scatter::backward_data(dy, kernel, dx, shape);
    } else if shape.stride == [1, 1] {
        gather::backward_data(dy, kernel, dx, shape);
    } else {
        strided::backward_data(dy, kernel, dx, shape);
    }
}

/// The gradient of the kernel, from that of the output. Sets every element of `dkernel` and reads none.
pub(crate) fn backward_weight<T: Float>(x: &[T], dy: &[T], dkernel: &mut [T], shape: &ConvShape) {
    assert_lengths(x, dkernel, dy, shape);
    if reads_nothing(shape) {
        dkernel.fill(T::ZERO);
    } else if let Some((kernels, size)) = winograd(shape) {
        (kernels.backward_weight)(size, x, dy, dkernel, shape);
    } else if shape.is_depthwise() {
        depthwise::backward_weight(x, dy, dkernel, shape);
    } else if let Some(merged) = thin_groups::merged(shape) {
        thin_groups::backward_weight_merged(x, dy, dkernel, shape, &merged);
    } else if pointwise::applies::<T>(shape, Product::KernelGradient) {
        pointwise::backward_weight(x, dy, dkernel, shape);
    } else {
        weight_gradient::backward_weight(x, dy, dkernel, shape);
    }
}

/// Whether every tap reads only padding. This can happen with a dilated kernel on a small map.
pub(crate) fn reads_nothing(shape: &ConvShape) -> bool {
    (0..2).any(|axis| KernelReads::forward(shape, axis).taps.is_empty())
}

fn assert_lengths<T>(input: &[T], kernel: &[T], output: &[T], shape: &ConvShape) {
    assert_eq!(input.len(), shape.input_len(), "input has the length of its shape");
    assert_eq!(kernel.len(), shape.kernel_len(), "kernel has the length of its shape");
    assert_eq!(output.len(), shape.output_len(), "output has the length of its shape");
}
