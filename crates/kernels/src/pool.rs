//! Positions of the windows of a pool, the same for every kind of pooling.

use std::ops::Range;

use super::error::{Error, Result};

/// One window along one axis: the inputs `start..end`. It is never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first input.
    pub start: usize,
    /// One past the last input.
    pub end: usize,
    /// The number by which an average divides along this axis.
    pub count: usize,
}

impl Window {
    /// Number of inputs in the window.
    #[expect(clippy::len_without_is_empty, reason = "no window is empty")]
    pub fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The windows along one axis of the input, in order. Their starts and their ends never decrease.
#[derive(Debug, Clone)]
pub struct AxisWindows {
    /// The windows from the first to the last.
    pub windows: Vec<Window>,
    /// For each input position, the windows that hold it.
    pub holders: Vec<Range<usize>>,
}

/// A window that slides along one axis.
#[derive(Debug, Clone, Copy)]
pub struct Sliding {
    /// Number of inputs that it covers.
    pub kernel: usize,
    /// Number of inputs between two windows.
    pub stride: usize,
    /// Number of padding positions before the input and after it.
    pub padding: [usize; 2],
    /// Whether a last window may reach past the padded input, as long as it starts inside it.
    pub ceil_mode: bool,
    /// Whether padding counts in [`Window::count`].
    pub count_include_pad: bool,
}

impl AxisWindows {
    /// PyTorch's placement of sliding windows. The error says in words why there is none.
    fn sliding(input: usize, window: Sliding) -> std::result::Result<Self, String> {
        let Sliding { kernel, stride, padding: [front, behind], .. } = window;
        let windows = (0..window.positions(input)?).map(|i| {
            // Positions on the padded axis. PyTorch counts no padding past its right end.
            let start = i * stride;
            let end = (start + kernel).min(front + input + behind);
            let inside = Window {
                start: start.max(front) - front,
                end: end.min(input + front) - front,
                count: end - start,
            };
            let count = if window.count_include_pad { inside.count } else { inside.len() };
            Window { count, ..inside }
        });
        Ok(Self::new(input, windows.collect()))
    }

    /// `output` windows that cover the input evenly. They overlap if `output` does not divide the input.
    pub fn adaptive(input: usize, output: usize) -> Self {
        let windows = (0..output).map(|i| {
            let (start, end) = (i * input / output, ((i + 1) * input).div_ceil(output));
            Window { start, end, count: end - start }
        });
        Self::new(input, windows.collect())
    }

    fn new(input: usize, windows: Vec<Window>) -> Self {
        let holders = (0..input).map(|position| {
            let first = windows.partition_point(|window| window.end <= position);
            let last = windows.partition_point(|window| window.start <= position);
            first..last
        });
        let holders = holders.collect();
        Self { windows, holders }
    }

    /// Number of positions of the input.
    pub fn input(&self) -> usize {
        self.holders.len()
    }

    /// Number of windows.
    pub fn output(&self) -> usize {
        self.windows.len()
    }
}

impl Sliding {
    fn positions(&self, input: usize) -> std::result::Result<usize, String> {
        let Self { kernel, stride, padding: [front, behind], ceil_mode, .. } = *self;
        if kernel == 0 || stride == 0 {
            return Err(format!("kernel and stride are at least 1, got {kernel} and {stride}"));
        }
        // More padding could leave a window without any input.
        let padding = front.max(behind);
        if padding > kernel / 2 {
            return Err(format!("padding is at most half of kernel {kernel}, got {padding}"));
        }
        // In ceil mode even the first window may reach past the padded input.
        let past = if ceil_mode { stride - 1 } else { 0 };
        let Some(room) = (front + input + behind + past).checked_sub(kernel) else {
            return Err(format!(
                "kernel {kernel} does not fit {input} inputs padded by {front} and {behind}"
            ));
        };
        let positions = room / stride + 1;
        let last_starts_inside = (positions - 1) * stride < input + front;
        Ok(if !ceil_mode || last_starts_inside { positions } else { positions - 1 })
    }
}

/// The windows of a pool on images of one size.
#[derive(Debug, Clone)]
pub struct Windows {
    /// The windows along the height.
    pub rows: AxisWindows,
    /// The windows along the width.
    pub columns: AxisWindows,
}

impl Windows {
    /// A pair of windows `[height, width]` on images of `size`. `op` is the pool's name in errors.
    ///
    /// # Errors
    /// If a window does not fit.
    pub fn sliding(op: &str, size: [usize; 2], window: [Sliding; 2]) -> Result<Self> {
        let axis = |i: usize| match AxisWindows::sliding(size[i], window[i]) {
            Ok(axis) => Ok(axis),
            Err(reason) => {
                let axis = ["height", "width"][i];
                Err(Error::new(format!("{op}: along the {axis}, {reason}")))
            }
        };
        Ok(Self { rows: axis(0)?, columns: axis(1)? })
    }

    /// Number of elements of one input image.
    pub fn image_len(&self, channels: usize) -> usize {
        self.rows.input() * self.columns.input() * channels
    }

    /// Number of elements of one output image.
    pub fn output_len(&self, channels: usize) -> usize {
        self.rows.output() * self.columns.output() * channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sliding(kernel: usize, stride: usize, padding: usize, ceil_mode: bool) -> Sliding {
        let padding = [padding; 2];
        Sliding { kernel, stride, padding, ceil_mode, count_include_pad: true }
    }

    fn spans(axis: &AxisWindows) -> Vec<(usize, usize)> {
        axis.windows.iter().map(|window| (window.start, window.end)).collect()
    }

    #[test]
    fn windows_are_cut_to_the_input() {
        let axis = AxisWindows::sliding(5, sliding(3, 2, 1, false)).unwrap();
        assert_eq!(spans(&axis), [(0, 2), (1, 4), (3, 5)]);
        assert_eq!(axis.holders, [0..1, 0..2, 1..2, 1..3, 2..3]);
    }

    #[test]
    fn ceil_mode_adds_a_window_only_if_it_starts_inside() {
        let axis = AxisWindows::sliding(5, sliding(2, 2, 0, true)).unwrap();
        assert_eq!(spans(&axis), [(0, 2), (2, 4), (4, 5)]);
        // So may the only one, as far as the stride goes.
        let axis = AxisWindows::sliding(2, sliding(3, 2, 0, true)).unwrap();
        assert_eq!(spans(&axis), [(0, 2)]);
        assert!(AxisWindows::sliding(1, sliding(3, 2, 0, true)).is_err());
        // A second window would start at the right padding.
        let axis = AxisWindows::sliding(3, sliding(2, 4, 1, true)).unwrap();
        assert_eq!(spans(&axis), [(0, 1)]);
    }

    #[test]
    fn windows_past_the_right_padding_count_what_they_hold() {
        let axis = AxisWindows::sliding(4, sliding(3, 3, 1, true)).unwrap();
        let counts: Vec<_> = axis.windows.iter().map(|window| window.count).collect();
        assert_eq!((spans(&axis), counts), (vec![(0, 2), (2, 4)], vec![3, 3]));
        let axis = AxisWindows::sliding(4, sliding(3, 2, 0, true)).unwrap();
        assert_eq!(axis.windows[1], Window { start: 2, end: 4, count: 2 });
    }

    #[test]
    fn stride_past_the_kernel_leaves_inputs_unseen() {
        let axis = AxisWindows::sliding(7, sliding(2, 3, 0, false)).unwrap();
        assert_eq!(axis.holders[2], 1..1);
    }

    #[test]
    fn adaptive_windows_cover_evenly() {
        assert_eq!(spans(&AxisWindows::adaptive(7, 3)), [(0, 3), (2, 5), (4, 7)]);
        assert_eq!(spans(&AxisWindows::adaptive(2, 4)), [(0, 1), (0, 1), (1, 2), (1, 2)]);
    }

    #[test]
    fn impossible_windows_are_refused() {
        for window in [(0, 1, 0), (2, 0, 0), (2, 1, 2), (5, 1, 0)] {
            let (kernel, stride, padding) = window;
            assert!(
                AxisWindows::sliding(4, sliding(kernel, stride, padding, false)).is_err(),
                "{window:?}"
            );
        }
    }
}
