//! Padding of convolutions and pools.

use candle_core::{Result, bail};

/// The padding around the input of a convolution (with zeros) or a pool.
///
/// It can be made from one number for all sides, `[height, width]` for both sides of each axis, or
/// `[top, bottom, left, right]`.
///
/// ```
/// use candle_vision_ops::Padding2d;
///
/// assert_eq!(Padding2d::from(1), Padding2d::from([1, 1, 1, 1]));
/// assert_eq!(Padding2d::from([0, 3]), Padding2d::from([0, 0, 3, 3]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Padding2d {
    /// The given number of positions on each side.
    Explicit {
        /// Rows above.
        top: usize,
        /// Rows below.
        bottom: usize,
        /// Columns to the left.
        left: usize,
        /// Columns to the right.
        right: usize,
    },
    /// PyTorch's `padding="same"`: the output is as large as the input. It requires a stride of 1. An odd
    /// position goes below and to the right.
    Same,
    /// TensorFlow's `"same"`: the output is the input divided by the stride, rounded up. The padding
    /// depends on the size of the input, the stride and the dilation. An odd position goes below and to the
    /// right.
    SameTf,
}

impl Default for Padding2d {
    /// No padding.
    fn default() -> Self {
        Self::from(0)
    }
}

impl From<usize> for Padding2d {
    fn from(size: usize) -> Self {
        Self::from([size; 4])
    }
}

impl From<[usize; 2]> for Padding2d {
    fn from([height, width]: [usize; 2]) -> Self {
        Self::from([height, height, width, width])
    }
}

impl From<[usize; 4]> for Padding2d {
    fn from([top, bottom, left, right]: [usize; 4]) -> Self {
        Self::Explicit { top, bottom, left, right }
    }
}

/// A window on an image. Each value is `[height, width]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placement {
    pub(crate) size: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

impl Padding2d {
    /// Padding before and after, for the height and the width.
    pub(crate) fn resolve(self, op: &str, window: &Placement) -> Result<[[usize; 2]; 2]> {
        let Placement { size, kernel, stride, dilation } = *window;
        // If this overflows a `usize`, no window fits, and the check below reports that.
        let reach = |axis: usize| kernel[axis].saturating_sub(1).saturating_mul(dilation[axis]);
        let halves = |total: usize| [total / 2, total - total / 2];
        match self {
            Self::Explicit { top, bottom, left, right } => Ok([[top, bottom], [left, right]]),
            Self::Same if stride != [1, 1] => bail!(
                "{op}: padding `Same` takes a stride of 1, got {stride:?}; `SameTf` takes any"
            ),
            Self::Same => Ok([halves(reach(0)), halves(reach(1))]),
            Self::SameTf => {
                let along = |axis: usize| {
                    let step = stride[axis].max(1);
                    let last = size[axis].div_ceil(step).saturating_sub(1) * step;
                    let end = last.saturating_add(reach(axis)).saturating_add(1);
                    halves(end.saturating_sub(size[axis]))
                };
                Ok([along(0), along(1)])
            }
        }
    }
}

/// One number for both axes, or one for the height and one for the width.
pub trait PerAxis {
    /// `[height, width]`.
    fn per_axis(self) -> [usize; 2];
}

impl PerAxis for usize {
    fn per_axis(self) -> [usize; 2] {
        [self; 2]
    }
}

impl PerAxis for [usize; 2] {
    fn per_axis(self) -> [usize; 2] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(padding: Padding2d, numbers: [usize; 4], expected: [usize; 2]) {
        let [size, kernel, stride, dilation] = numbers.map(|number| [number; 2]);
        let window = Placement { size, kernel, stride, dilation };
        assert_eq!(padding.resolve("op", &window).unwrap(), [expected; 2], "{window:?}");
    }

    /// `timm.layers.padding.get_same_padding(size, kernel, stride, dilation)`, halved.
    #[test]
    fn same_is_timms() {
        check(Padding2d::SameTf, [224, 3, 2, 1], [0, 1]);
        check(Padding2d::SameTf, [15, 3, 2, 1], [1, 1]);
        check(Padding2d::SameTf, [7, 5, 3, 2], [4, 4]);
        check(Padding2d::SameTf, [8, 2, 3, 1], [0, 0]);
        check(Padding2d::SameTf, [5, 1, 2, 1], [0, 0]);
        check(Padding2d::SameTf, [4, 4, 1, 1], [1, 2]);
        check(Padding2d::Same, [4, 4, 1, 1], [1, 2]);
        check(Padding2d::Same, [4, 3, 1, 2], [2, 2]);
    }

    #[test]
    fn a_stride_is_refused_where_it_has_no_meaning() {
        let pair = [3; 2];
        let window = Placement { size: pair, kernel: pair, stride: [2; 2], dilation: [1; 2] };
        let error = Padding2d::Same.resolve("conv2d", &window).unwrap_err().to_string();
        assert!(error.contains("conv2d: padding `Same`") && error.contains("[2, 2]"), "{error}");
    }
}
