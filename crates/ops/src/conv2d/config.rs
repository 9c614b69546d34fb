//! How convolutions are computed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::conv;

/// How the kernel of a convolution moves over its input. Pairs are `[height, width]`.
///
/// ```
/// use candle_vision_ops::Conv2dConfig;
///
/// let stem = Conv2dConfig::default().stride(2).padding(3);
/// assert_eq!(stem.stride, [2, 2]);
/// let wide = Conv2dConfig { padding: [0, 3], ..Default::default() };
/// assert_eq!(wide.groups, 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dConfig {
    /// Pixels between two positions of the kernel. Default 1.
    pub stride: [usize; 2],
    /// Rows (and columns) of zeros on either side of the input. Default 0.
    pub padding: [usize; 2],
    /// Pixels between two taps of the kernel. Default 1.
    pub dilation: [usize; 2],
    /// Parts into which input and output channels are divided, each part convolved by itself.
    /// Default 1.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

impl Conv2dConfig {
    /// Sets the stride of both axes.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// Sets the padding of both axes.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// Sets the dilation of both axes.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation: [dilation; 2], ..self }
    }

    /// Sets the number of groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
}

/// Whether every convolution of this process is summed plainly, from now on.
///
/// By default 3x3 convolutions of stride 1 in `f32` take Winograd's way where it is faster
/// (two to four times). Its rounding errors are a few times those of a plain sum, around 1e-6 of
/// the largest value; `true` switches it off, to compare.
pub fn set_exact_convolution(exact: bool) {
    conv::set_exact(exact);
}

/// Whether convolutions in `f32` on a CUDA device may round their factors to TF32 (10 bits of mantissa,
/// as bf16 has 7), from now on. Allowed unless switched off, as in PyTorch.
pub fn set_tf32(allowed: bool) {
    TF32.store(allowed, Ordering::Relaxed);
}

static TF32: AtomicBool = AtomicBool::new(true);

/// Whether convolutions on a CUDA device take the fastest of cuDNN's algorithms, from now on: at the
/// first call of each shape, the deterministic ones that are content with 1 GiB of workspace run a few
/// times each. `false` unless set.
///
/// By default cuDNN's heuristics choose without running anything, and a shape always gets the same
/// algorithm. Times differ from run to run, so two runs may choose differently, and their results then
/// differ in the last bits; within a process a shape keeps its algorithm, and the same input gives the
/// same bits. Worth trying where many steps have the same few shapes. PyTorch has it as
/// `torch.backends.cudnn.benchmark`.
pub fn set_convolution_benchmark(benchmark: bool) {
    BENCHMARK.store(benchmark, Ordering::Relaxed);
}

static BENCHMARK: AtomicBool = AtomicBool::new(false);

#[cfg(feature = "cuda")]
pub(crate) fn benchmark_wanted() -> bool {
    BENCHMARK.load(Ordering::Relaxed)
}

#[cfg(feature = "cuda")]
pub(crate) fn tf32_allowed() -> bool {
    TF32.load(Ordering::Relaxed)
}
