//! Settings of convolutions.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Padding2d, PerAxis};

/// How the kernel of a convolution moves over its input. Pairs are `[height, width]`.
///
/// ```
/// use candle_vision_ops::{Conv2dConfig, Padding2d};
///
/// let stem = Conv2dConfig::default().stride(2).padding(3);
/// assert_eq!(stem.stride, [2, 2]);
/// let wide = Conv2dConfig::default().padding([0, 3]);
/// assert_eq!(wide.groups, 1);
/// let tensorflow = Conv2dConfig::default().stride([2, 1]).padding(Padding2d::SameTf);
/// assert_eq!(tensorflow.stride, [2, 1]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Conv2dConfig {
    /// Pixels between two positions of the kernel. Default 1.
    pub stride: [usize; 2],
    /// Zeros around the input. Default none.
    pub padding: Padding2d,
    /// Pixels between two taps of the kernel. Default 1.
    pub dilation: [usize; 2],
    /// Number of groups. Input and output channels are divided into so many parts, and each part is
    /// convolved by itself. Default 1.
    pub groups: usize,
    /// How it is computed. By default the settings of the process apply.
    pub options: ConvolutionOptions,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: Padding2d::default(),
            dilation: [1, 1],
            groups: 1,
            options: ConvolutionOptions::default(),
        }
    }
}

impl Conv2dConfig {
    /// Sets the stride: one number for both axes, or `[height, width]`.
    pub fn stride(self, stride: impl PerAxis) -> Self {
        Self { stride: stride.per_axis(), ..self }
    }

    /// Sets the padding: one number for all sides, `[height, width]`, `[top, bottom, left, right]`, or a
    /// [`Padding2d`].
    pub fn padding(self, padding: impl Into<Padding2d>) -> Self {
        Self { padding: padding.into(), ..self }
    }

    /// Sets the dilation: one number for both axes, or `[height, width]`.
    pub fn dilation(self, dilation: impl PerAxis) -> Self {
        Self { dilation: dilation.per_axis(), ..self }
    }

    /// Sets the number of groups.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Sets how it is computed.
    pub fn options(self, options: ConvolutionOptions) -> Self {
        Self { options, ..self }
    }
}

/// How convolutions are computed. For an option that is not set here, the setting of the process applies.
///
/// ```
/// use candle_vision_ops::{Conv2dConfig, ConvolutionOptions};
///
/// let config = Conv2dConfig::default().options(ConvolutionOptions::default().exact(true));
/// assert_eq!(config.options.exact, Some(true));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct ConvolutionOptions {
    /// See [`set_exact_convolution`].
    pub exact: Option<bool>,
    /// See [`set_tf32`].
    pub tf32: Option<bool>,
    /// See [`set_convolution_benchmark`].
    pub benchmark: Option<bool>,
}

impl ConvolutionOptions {
    /// Whether sums are computed directly, without Winograd's kernels.
    pub fn exact(self, exact: bool) -> Self {
        Self { exact: Some(exact), ..self }
    }

    /// Whether `f32` may be rounded to TF32 on a CUDA device.
    pub fn tf32(self, tf32: bool) -> Self {
        Self { tf32: Some(tf32), ..self }
    }

    /// Whether the fastest of cuDNN's algorithms is found by timing them.
    pub fn benchmark(self, benchmark: bool) -> Self {
        Self { benchmark: Some(benchmark), ..self }
    }

    pub(super) fn is_exact(self) -> bool {
        self.exact.unwrap_or_else(|| EXACT.load(Ordering::Relaxed))
    }

    /// How a CUDA device computes it.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_cuda(self) -> OnCuda {
        OnCuda {
            tf32: self.tf32.unwrap_or_else(|| TF32.load(Ordering::Relaxed)),
            benchmark: self.benchmark.unwrap_or_else(|| BENCHMARK.load(Ordering::Relaxed)),
        }
    }
}

/// [`ConvolutionOptions`] for a CUDA device, with all of them set.
#[cfg(feature = "cuda")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnCuda {
    pub(crate) tf32: bool,
    pub(crate) benchmark: bool,
}

/// Sets whether every later convolution of this process is summed directly, without Winograd's algorithm.
///
/// By default, 3x3 convolutions with stride 1 in `f32` use Winograd's algorithm where it is faster (two to
/// four times). Its rounding errors are a few times those of a direct sum, about 1e-6 of the largest value.
/// `true` switches it off, for comparisons.
pub fn set_exact_convolution(exact: bool) {
    EXACT.store(exact, Ordering::Relaxed);
}

static EXACT: AtomicBool = AtomicBool::new(false);

/// Sets whether later convolutions in `f32` on a CUDA device may round their factors to TF32 (10 bits of
/// mantissa; bf16 has 7). It is allowed by default, as in PyTorch.
pub fn set_tf32(allowed: bool) {
    TF32.store(allowed, Ordering::Relaxed);
}

static TF32: AtomicBool = AtomicBool::new(true);

/// Sets whether later convolutions on a CUDA device use the fastest of cuDNN's algorithms. At the first
/// call of each shape, the deterministic algorithms that need at most 1 GiB of workspace run a few times
/// each. The default is `false`.
///
/// By default cuDNN's heuristics choose without running anything, and a shape always gets the same
/// algorithm. With `true`, times differ from run to run, so two runs may choose different algorithms, and
/// their results then differ in the last bits. Within a process a shape keeps its algorithm, and the same
/// input gives the same bits. It is worth trying if many steps use the same few shapes. PyTorch's name for
/// it is `torch.backends.cudnn.benchmark`.
pub fn set_convolution_benchmark(benchmark: bool) {
    BENCHMARK.store(benchmark, Ordering::Relaxed);
}

static BENCHMARK: AtomicBool = AtomicBool::new(false);
