//! Where the taps of a kernel read along one axis.

use crate::conv_shape::ConvShape;

/// One axis of a convolution written as gathering: position `p` of the result reads, through each
/// tap, the source at `p * step + tap.offset`, and zero outside `0..source_len`.
///
/// Both the forward pass and the gradient of the input have this form, so they share their kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KernelReads {
    pub(super) source_len: usize,
    pub(super) positions: usize,
    pub(super) step: usize,
    /// Those that read the source from at least one position, in ascending order of offsets: on a map
    /// of one pixel only the centre of a kernel does.
    pub(super) taps: Vec<Tap>,
}

/// One tap of the kernel along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    /// Which row (or column) of the kernel.
    pub(super) index: usize,
    pub(super) offset: isize,
}

impl KernelReads {
    /// The output's positions, reading the input. `axis` is 0 for the height, 1 for the width.
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

    /// Every `stride`-th position of the input's gradient, from `phase` on, reading the output's.
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
            // The first position that reads at or behind the source's beginning.
            let first = usize::try_from(-tap.offset).map_or(0, |before| before.div_ceil(step));
            first < positions && (((first * step) as isize + tap.offset) as usize) < source_len
        };
        self.taps.retain(reads);
        self
    }

    /// What `position` reads through `tap`, unless it is padding.
    pub(super) fn source(&self, position: usize, tap: Tap) -> Option<usize> {
        let source = (position * self.step) as isize + tap.offset;
        usize::try_from(source).ok().filter(|&source| source < self.source_len)
    }

    /// Whether the taps read neighbours, so that a run of them is one piece of memory.
    pub(super) fn is_dense(&self) -> bool {
        self.taps.windows(2).all(|pair| pair[0].offset + 1 == pair[1].offset)
    }

    /// Whether the result is the source, position by position.
    pub(super) fn is_identity(&self) -> bool {
        let same = |taps: &[Tap]| matches!(taps, [tap] if tap.offset == 0);
        self.step == 1 && self.positions == self.source_len && same(&self.taps)
    }
}

/// Where in the kernel the taps are that read anything: each of the height's with each of the width's.
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
