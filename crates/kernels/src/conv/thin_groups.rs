//! Convolutions with many groups of few channels, as in ResNeXt.
//!
//! Matrix products of one or two groups at a time would be too small to be fast. So several groups are
//! merged into one, with a kernel that is zero between them. This takes more multiplications, but at full
//! speed.

use super::{backward_data, backward_weight, forward};
use crate::conv_shape::ConvShape;
use crate::float::Float;
use crate::scratch::Scratch;

/// Groups are merged up to this number of channels.
const MERGED_CHANNELS: usize = 16;

/// The same convolution in fewer groups, if its groups are thin.
pub(super) fn merged(shape: &ConvShape) -> Option<ConvShape> {
    let thin = shape.group_in().min(shape.group_out());
    let fits =
        |&count: &usize| shape.groups.is_multiple_of(count) && count * thin <= MERGED_CHANNELS;
    let count = (2..=shape.groups).rev().find(fits)?;
    Some(ConvShape { groups: shape.groups / count, ..*shape })
}

pub(super) fn forward_merged<T: Float>(
    x: &[T],
    kernel: &[T],
    y: &mut [T],
    shape: &ConvShape,
    merged: &ConvShape,
) {
    with_wide_kernel(kernel, shape, merged, |kernel| forward(x, kernel, y, merged));
}

pub(super) fn backward_data_merged<T: Float>(
    dy: &[T],
    kernel: &[T],
    dx: &mut [T],
    shape: &ConvShape,
    merged: &ConvShape,
) {
    with_wide_kernel(kernel, shape, merged, |kernel| backward_data(dy, kernel, dx, merged));
}

/// Computes the gradient of the products between groups too, and drops it.
pub(super) fn backward_weight_merged<T: Float>(
    x: &[T],
    dy: &[T],
    dkernel: &mut [T],
    shape: &ConvShape,
    merged: &ConvShape,
) {
    let mut wide = Scratch::take(merged.kernel_len());
    backward_weight(x, dy, &mut wide, merged);
    for_each_row(shape, merged, |row, place| dkernel[row].copy_from_slice(&wide[place]));
}

fn with_wide_kernel<T: Float>(
    kernel: &[T],
    shape: &ConvShape,
    merged: &ConvShape,
    f: impl FnOnce(&[T]),
) {
    let mut wide = Scratch::take(merged.kernel_len());
    wide.fill(T::ZERO);
    for_each_row(shape, merged, |row, place| wide[place].copy_from_slice(&kernel[row]));
    f(&wide);
}

/// For each output channel, calls `visit` with its elements in the kernel and their places in the wide
/// kernel.
fn for_each_row(
    shape: &ConvShape,
    merged: &ConvShape,
    mut visit: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let row_len = shape.group_in() * shape.taps();
    let wide_len = merged.group_in() * merged.taps();
    for channel in 0..shape.out_channels {
        let group = channel / shape.group_out() % (shape.groups / merged.groups);
        let (row, place) = (channel * row_len, channel * wide_len + group * row_len);
        visit(row..row + row_len, place..place + row_len);
    }
}
