//! The sizes of one convolution, shared by every kernel that computes it.

use candle_core::{Context, Result, bail};

/// Sizes of a channels-last convolution. Pairs are `[height, width]`.
///
/// Images are `[batch, in_size, in_channels]`, outputs `[batch, out_size, out_channels]`, kernels
/// `[out_channels, in_channels / groups, kernel]` (PyTorch's order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConvShape {
    pub(crate) batch: usize,
    pub(crate) in_size: [usize; 2],
    pub(crate) in_channels: usize,
    pub(crate) out_size: [usize; 2],
    pub(crate) out_channels: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) groups: usize,
}

impl ConvShape {
    /// Input channels that one output channel sees.
    pub(crate) fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Output channels of one group.
    pub(crate) fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Taps of the kernel: its height times its width.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Pixels of all inputs of the batch.
    pub(crate) fn in_pixels(&self) -> usize {
        self.batch * self.in_size[0] * self.in_size[1]
    }

    /// Pixels of all outputs of the batch.
    pub(crate) fn out_pixels(&self) -> usize {
        self.batch * self.out_size[0] * self.out_size[1]
    }

    /// Elements of the input batch.
    pub(crate) fn input_len(&self) -> usize {
        self.in_pixels() * self.in_channels
    }

    /// Elements of the output batch.
    pub(crate) fn output_len(&self) -> usize {
        self.out_pixels() * self.out_channels
    }

    /// Elements of the kernel.
    pub(crate) fn kernel_len(&self) -> usize {
        self.out_channels * self.group_in() * self.taps()
    }

    /// Whether each channel is convolved with one kernel of its own.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups == self.out_channels
    }
}

/// How many positions a window of `kernel` takes on `input`, or why it cannot be placed.
pub(crate) fn out_size(
    input: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Result<usize> {
    if kernel == 0 || stride == 0 || dilation == 0 {
        bail!("kernel, stride and dilation are at least 1, got {kernel}, {stride} and {dilation}")
    }
    let reach = (kernel - 1).checked_mul(dilation).and_then(|reach| reach.checked_add(1));
    let reach = reach.context("kernel times dilation is too large")?;
    let padded = padding.checked_mul(2).and_then(|both| both.checked_add(input));
    let padded = padded.context("padding is too large")?;
    if padded < reach {
        bail!("a window of {reach} does not fit an input of {input} with padding {padding}")
    }
    Ok((padded - reach) / stride + 1)
}

#[cfg(test)]
mod tests {
    use super::out_size;

    #[test]
    fn out_size_follows_pytorch() {
        assert_eq!(out_size(224, 7, 2, 3, 1).unwrap(), 112);
        assert_eq!(out_size(15, 3, 2, 0, 1).unwrap(), 7);
        assert_eq!(out_size(16, 3, 1, 2, 2).unwrap(), 16);
        assert_eq!(out_size(4, 3, 1, 0, 2).ok(), None);
        assert_eq!(out_size(4, 3, 1, usize::MAX / 2 + 1, 1).ok(), None);
        assert_eq!(out_size(4, 3, 0, 1, 1).ok(), None);
    }
}
