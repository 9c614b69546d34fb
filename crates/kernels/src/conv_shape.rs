//! The sizes of one convolution, shared by every kernel that computes it.

use super::error::{Error, Result};

/// Sizes of a channels-last convolution. Pairs are `[height, width]`.
///
/// Images are `[batch, in_size, in_channels]`, outputs `[batch, out_size, out_channels]`, kernels
/// `[out_channels, in_channels / groups, kernel]` (PyTorch's order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Number of images.
    pub batch: usize,
    /// Height and width of an image, in pixels.
    pub in_size: [usize; 2],
    /// Number of channels of an image.
    pub in_channels: usize,
    /// Number of positions of the kernel along each axis. They may reach past both ends of the input, where
    /// zeros are read. So the padding after the input need not equal that before it.
    pub out_size: [usize; 2],
    /// Number of channels of an output.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Distance between two positions of the kernel, in pixels.
    pub stride: [usize; 2],
    /// Rows of zeros before the input (above, and to the left).
    pub padding: [usize; 2],
    /// Distance between two taps of the kernel, in pixels.
    pub dilation: [usize; 2],
    /// Number of groups that the channels of input and output are divided into.
    pub groups: usize,
    /// Whether sums must be direct. Otherwise 3x3 convolutions in `f32` may use Winograd's kernels, whose
    /// rounding errors are a few times larger.
    pub exact: bool,
}

impl ConvShape {
    /// Number of input channels that one output channel reads.
    pub fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    /// Number of output channels of one group.
    pub fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Number of taps of the kernel: its height times its width.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Number of pixels of all inputs of the batch.
    pub fn in_pixels(&self) -> usize {
        self.batch * self.in_size[0] * self.in_size[1]
    }

    /// Number of pixels of all outputs of the batch.
    pub fn out_pixels(&self) -> usize {
        self.batch * self.out_size[0] * self.out_size[1]
    }

    /// Number of elements of the input batch.
    pub fn input_len(&self) -> usize {
        self.in_pixels() * self.in_channels
    }

    /// Number of elements of the output batch.
    pub fn output_len(&self) -> usize {
        self.out_pixels() * self.out_channels
    }

    /// Number of elements of the kernel.
    pub fn kernel_len(&self) -> usize {
        self.out_channels * self.group_in() * self.taps()
    }

    /// Whether the padding after each axis equals that before it.
    pub fn is_padded_evenly(&self) -> bool {
        (0..2).all(|axis| {
            let padding = [self.padding[axis]; 2];
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            let size = out_size(self.in_size[axis], kernel, stride, padding, self.dilation[axis]);
            size == Ok(self.out_size[axis])
        })
    }

    /// Whether each output pixel is the product of one input pixel and the kernel, as in a linear layer.
    pub fn is_pointwise(&self) -> bool {
        self.groups == 1
            && (self.kernel, self.stride, self.padding) == ([1; 2], [1; 2], [0; 2])
            && self.in_size == self.out_size
    }

    /// Whether each channel is convolved with its own kernel.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups == self.out_channels
    }
}

/// The number of positions of a window of `kernel` on `input`, with `padding` before and after.
///
/// # Errors
/// If the window cannot be placed.
pub fn out_size(
    input: usize,
    kernel: usize,
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
) -> Result<usize> {
    if kernel == 0 || stride == 0 || dilation == 0 {
        return Err(Error::new(format!(
            "kernel, stride and dilation are at least 1, got {kernel}, {stride} and {dilation}"
        )));
    }
    let reach = (kernel - 1).checked_mul(dilation).and_then(|reach| reach.checked_add(1));
    let reach = reach.ok_or_else(|| Error::new("kernel times dilation is too large"))?;
    let [front, behind] = padding;
    let padded = front.checked_add(behind).and_then(|both| both.checked_add(input));
    let padded = padded.ok_or_else(|| Error::new("padding is too large"))?;
    if padded < reach {
        return Err(Error::new(format!(
            "a window of {reach} does not fit an input of {input} with padding {front} and {behind}"
        )));
    }
    Ok((padded - reach) / stride + 1)
}

#[cfg(test)]
mod tests {
    use super::out_size;

    #[test]
    fn out_size_follows_pytorch() {
        assert_eq!(out_size(224, 7, 2, [3; 2], 1).unwrap(), 112);
        assert_eq!(out_size(15, 3, 2, [0; 2], 1).unwrap(), 7);
        assert_eq!(out_size(16, 3, 1, [2; 2], 2).unwrap(), 16);
        assert_eq!(out_size(4, 3, 1, [0; 2], 2).ok(), None);
        assert_eq!(out_size(224, 3, 2, [0, 1], 1).unwrap(), 112);
        assert_eq!(out_size(4, 3, 1, [usize::MAX / 2 + 1; 2], 1).ok(), None);
        assert_eq!(out_size(4, 3, 0, [1; 2], 1).ok(), None);
    }
}
