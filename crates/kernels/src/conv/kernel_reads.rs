//! The positions that the taps of a kernel read along one axis.

use crate::conv_shape::ConvShape;

/// One axis of a convolution in the form of a gather. Position `p` of the result reads, for each tap, the
/// source at `p * step + tap.offset`. Outside `0..source_len` it reads zero.
///
/// Both the forward pass and the gradient of the input have this form, so they share their kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelReads {
    pub(super) source_len: usize,
    pub(super) positions: usize,
    pub(super) step: usize,
    /// The taps that read the source from at least one position, in ascending order of offsets. On a map of
    /// one pixel this is only the centre of a kernel.
    pub(super) taps: Vec<Tap>,
}

/// One tap of the kernel along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    /// Index of the row (or column) of the kernel.
    pub(super) index: usize,
    pub(super) offset: isize,
}

impl KernelReads {
    /// Positions of the output, which read the input. `axis` is 0 for the height, 1 for the width.
    pub(super) fn forward(shape: &ConvShape, axis: usize) -> Self {
        let tap = |index| Tap {
            index,
            offset: (index * shape.dilation[axis]) as isize - shape.padding[axis] as isize,
        };
        Self {
            source_len: shape.in_size[axis],
            positions: shape.out_size[axis],
            step: shape.stride[axis],
            taps: (0..shape.kernel[axis]).map(tap).collect(),
        }
        .without_idle_taps()
    }

    /// Every `stride`-th position of the input's gradient, starting at `phase`. They read the output's
    /// gradient.
    ///
    /// Input `phase + p * stride` was read through tap `t` by output `p + offset` where
    /// `offset = (phase + padding - t * dilation) / stride`, if that is a whole number.
    pub(super) fn backward(shape: &ConvShape, axis: usize, phase: usize) -> Self {
        let stride = shape.stride[axis] as isize;
        let tap = |index: usize| {
            let reach = (index * shape.dilation[axis]) as isize;
            let distance = (phase + shape.padding[axis]) as isize - reach;
            (distance % stride == 0).then_some(Tap { index, offset: distance / stride })
        };
        Self {
            source_len: shape.out_size[axis],
            positions: shape.in_size[axis].saturating_sub(phase).div_ceil(shape.stride[axis]),
            step: 1,
            taps: (0..shape.kernel[axis]).rev().filter_map(tap).collect(),
        }
        .without_idle_taps()
    }

    fn without_idle_taps(mut self) -> Self {
        let Self { source_len, positions, step, .. } = self;
        let reads = |tap: &Tap| {
            // The first position that reads at or after the source's beginning.
            let first = usize::try_from(-tap.offset).map_or(0, |before| before.div_ceil(step));
            first < positions && (((first * step) as isize + tap.offset) as usize) < source_len
        };
        self.taps.retain(reads);
        self
    }

    /// The source position that `position` reads through `tap`. `None` if it is padding.
    pub(super) fn source(&self, position: usize, tap: Tap) -> Option<usize> {
        let source = (position * self.step) as isize + tap.offset;
        usize::try_from(source).ok().filter(|&source| source < self.source_len)
    }

    /// Whether neighbouring taps read neighbouring positions, so that a run of taps is one piece of memory.
    pub(super) fn is_dense(&self) -> bool {
        self.taps.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset)
    }

    /// Whether the result equals the source, position by position.
    pub(super) fn is_identity(&self) -> bool {
        let same = |taps: &[Tap]| matches!(taps, [tap] if tap.offset == 0);
        self.step == 1 && self.positions == self.source_len && same(&self.taps)
    }
}

/// Indices in the kernel of the taps that read anything: each of the height's with each of the width's.
pub(super) fn tap_indices(
    height: &KernelReads,
    width: &KernelReads,
    shape: &ConvShape,
) -> Vec<usize> {
    let pairs = height.taps.iter().flat_map(|row| width.taps.iter().map(move |col| (row, col)));
    pairs.map(|(row, col)| row.index * shape.kernel[1] + col.index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_that_only_see_padding_are_left_out() {
        let mut checked = 0;
        for (size, kernel, stride) in (1..6).flat_map(|n| (1..5).map(move |k| (n, k, n % 3 + 1))) {
            for (padding, dilation) in [(0, 1), (1, 1), (2, 2), (4, 3)] {
                let reach = dilation * (kernel - 1) + 1;
                if reach > size + 2 * padding {
                    continue;
                }
                let out = (size + 2 * padding - reach) / stride + 1;
                let shape = ConvShape {
                    batch: 1,
                    in_size: [size; 2],
                    in_channels: 1,
                    out_size: [out; 2],
                    out_channels: 1,
                    kernel: [kernel; 2],
                    stride: [stride; 2],
                    padding: [padding; 2],
                    dilation: [dilation; 2],
                    groups: 1,
                    exact: false,
                };
                let axis = KernelReads::forward(&shape, 0);
                for index in 0..kernel {
                    let offset = (index * dilation) as isize - padding as isize;
                    let tap = Tap { index, offset };
                    let reads = (0..out).any(|position| axis.source(position, tap).is_some());
                    assert_eq!(axis.taps.contains(&tap), reads, "{tap:?} of {shape:?}");
                    checked += usize::from(!reads);
                }
            }
        }
        assert!(checked > 10, "some taps have nothing to read");
    }
}
