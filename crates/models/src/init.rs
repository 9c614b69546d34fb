//! Initial values of parameters.

use std::f64::consts::SQRT_2;

use candle_core::cpu::erf::{erf_f64, erf_inv};
use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::init::NormalOrUniform;
use candle_vision_ops::Generator;
use rand::{RngExt, SeedableRng};

/// The distribution of a new parameter's values, with the names of `torch.nn.init`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// The same value everywhere.
    Constant(f64),
    /// Uniform in `low..high`.
    Uniform {
        /// The lowest value.
        low: f64,
        /// The upper bound, which is not drawn.
        high: f64,
    },
    /// Normal distribution.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std: f64,
    },
    /// Normal distribution, limited to `low..=high`.
    TruncatedNormal {
        /// The mean before truncation.
        mean: f64,
        /// The standard deviation before truncation.
        std: f64,
        /// The lowest value.
        low: f64,
        /// The highest value.
        high: f64,
    },
    /// The first kernels of a convolution pass the input's channels on as they are (`torch.nn.init.dirac_` on the
    /// first `in` of the `out` kernels). The others are uniform in `low..high`.
    PartialDirac {
        /// The lowest value of the other kernels.
        low: f64,
        /// Their upper bound, which is not drawn.
        high: f64,
    },
}

impl Init {
    /// Uniform in `±1 / sqrt(fan_in)`. This is PyTorch's default for the weights and biases of convolutions and
    /// linear layers (`kaiming_uniform_` with `a = sqrt(5)`). `fan_in` is the number of inputs that reach one
    /// output.
    pub fn fan_in_uniform(fan_in: usize) -> Self {
        let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
        Self::Uniform { low: -bound, high: bound }
    }

    /// Normal with mean 0 and standard deviation `sqrt(2 / fan_out)` (He et al. 2015, equation 14).
    /// torchvision's ResNet uses it (`kaiming_normal_`, `fan_out`, relu). `fan_out` is the number of outputs
    /// that one input reaches.
    pub fn fan_out_normal(fan_out: usize) -> Self {
        Self::Normal { mean: 0.0, std: (2.0 / fan_out.max(1) as f64).sqrt() }
    }

    /// Normal with mean 0 and standard deviation `sqrt(2 / fan_in)` (He et al. 2015, equation 10). This is
    /// PyTorch's `kaiming_normal_` without arguments. torchvision's DenseNet uses it. `fan_in` is the number of
    /// inputs that reach one output.
    pub fn fan_in_normal(fan_in: usize) -> Self {
        Self::Normal { mean: 0.0, std: (2.0 / fan_in.max(1) as f64).sqrt() }
    }

    /// Uniform in `±sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010, PyTorch's `xavier_uniform_`).
    pub fn xavier_uniform(fan_in: usize, fan_out: usize) -> Self {
        let bound = (6.0 / (fan_in + fan_out).max(1) as f64).sqrt();
        Self::Uniform { low: -bound, high: bound }
    }

    /// Identity as far as there are input channels, and [`Init::fan_in_uniform`] for the other kernels (Jordan 2024,
    /// <https://arxiv.org/abs/2404.00498>, section 3.2). `fan_in` is the number of inputs that reach one output.
    pub fn partial_dirac(fan_in: usize) -> Self {
        let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
        Self::PartialDirac { low: -bound, high: bound }
    }

    /// PyTorch's `trunc_normal_(std=std)`: mean 0, truncated at -2 and 2. These bounds are values, not
    /// multiples of the standard deviation. Vision transformers use this initialisation.
    pub fn truncated_normal(std: f64) -> Self {
        Self::TruncatedNormal { mean: 0.0, std, low: -2.0, high: 2.0 }
    }

    /// The distribution that candle-nn's hint means for a tensor of `shape`.
    pub(crate) fn from_candle(init: candle_nn::Init, shape: &Shape) -> Self {
        match init {
            candle_nn::Init::Const(value) => Self::Constant(value),
            candle_nn::Init::Randn { mean, stdev } => Self::Normal { mean, std: stdev },
            candle_nn::Init::Uniform { lo, up } => Self::Uniform { low: lo, high: up },
            candle_nn::Init::Kaiming { dist, fan, non_linearity } => {
                let std = non_linearity.gain() / (fan.for_shape(shape).max(1) as f64).sqrt();
                match dist {
                    NormalOrUniform::Normal => Self::Normal { mean: 0.0, std },
                    NormalOrUniform::Uniform => {
                        let bound = 3f64.sqrt() * std;
                        Self::Uniform { low: -bound, high: bound }
                    }
                }
            }
        }
    }

    /// Draws a tensor. Its values depend only on `seed`, `path` and `shape`. So the parameters of a network do
    /// not depend on the order in which its layers are built.
    pub(crate) fn draw(
        self,
        seed: u64,
        path: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let mut generator = Generator::seed_from_u64(seed);
        generator.set_stream(stream_of(path));
        let mut value = || match self {
            Self::Constant(value) => value,
            Self::Uniform { low, high } | Self::PartialDirac { low, high } => {
                low + (high - low) * generator.random::<f64>()
            }
            Self::Normal { mean, std } => mean + std * standard_normal(&mut generator),
            Self::TruncatedNormal { mean, std, low, high } => {
                // Uses the inverse of the distribution function, as PyTorch does, so that no draw is thrown
                // away.
                let erf = |x: f64| erf_f64((x - mean) / std / SQRT_2);
                let uniform = erf(low) + (erf(high) - erf(low)) * generator.random::<f64>();
                (mean + std * SQRT_2 * erf_inv(uniform)).clamp(low, high)
            }
        };
        let count = shape.iter().product();
        let mut values: Vec<f32> = (0..count).map(|_| value() as f32).collect();
        if let Self::PartialDirac { .. } = self {
            set_dirac(&mut values, shape);
        }
        Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
    }
}

/// Makes the first `in` of `[out, in, ..]` kernels pass on the input's channels one by one, from the middle of the
/// kernel.
fn set_dirac(values: &mut [f32], shape: &[usize]) {
    let &[out_channels, in_channels, ref kernel @ ..] = shape else { return };
    let size: usize = kernel.iter().product();
    let middle = kernel.iter().fold(0, |middle, side| middle * side + side / 2);
    for channel in 0..in_channels.min(out_channels) {
        let own = &mut values[channel * in_channels * size..][..in_channels * size];
        own.fill(0.0);
        own[channel * size + middle] = 1.0;
    }
}

/// Draws a number from the normal distribution with mean 0 and standard deviation 1, by the Box-Muller
/// transform.
///
/// ```
/// use rand::SeedableRng;
///
/// let mut generator = candle_vision_ops::Generator::seed_from_u64(0);
/// assert!(candle_vision_models::standard_normal(&mut generator).is_finite());
/// ```
pub fn standard_normal(generator: &mut Generator) -> f64 {
    let (u, v) = (generator.random::<f64>(), generator.random::<f64>());
    // `1 - u` keeps the logarithm finite.
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A stable number for a path: its FNV-1a hash.
fn stream_of(path: &str) -> u64 {
    path.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(init: Init, seed: u64, path: &str) -> Vec<f32> {
        let tensor = init.draw(seed, path, &[64, 100], DType::F32, &Device::Cpu);
        tensor.and_then(|t| t.flatten_all()?.to_vec1()).expect("a small tensor can be drawn")
    }

    #[test]
    fn values_depend_on_seed_and_path() {
        let init = Init::fan_in_uniform(100);
        assert_eq!(draw(init, 1, "fc.weight"), draw(init, 1, "fc.weight"));
        assert_ne!(draw(init, 1, "fc.weight"), draw(init, 2, "fc.weight"));
        assert_ne!(draw(init, 1, "fc.weight"), draw(init, 1, "fc2.weight"));
    }

    #[test]
    fn spread_is_what_the_name_says() {
        let variance = |values: &[f32]| {
            values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64
        };
        let uniform = draw(Init::fan_in_uniform(100), 0, "a");
        assert!(uniform.iter().all(|v| v.abs() <= 0.1));
        assert!((variance(&uniform) - 0.01 / 3.0).abs() < 3e-4);
        let normal = draw(Init::fan_out_normal(50), 0, "a");
        assert!((variance(&normal) - 0.04).abs() < 3e-3);
        // Nothing to speak of lies outside.
        let whole = draw(Init::truncated_normal(0.02), 0, "a");
        assert!((variance(&whole) - 4e-4).abs() < 3e-5);
    }

    #[test]
    fn the_first_kernels_of_a_partial_dirac_pass_their_channel_on() {
        let init = Init::partial_dirac(2 * 6);
        let whole = init.draw(0, "a", &[5, 2, 2, 3], DType::F32, &Device::Cpu).unwrap();
        let kernels = whole.flatten(1, 3).unwrap().to_vec2::<f32>().unwrap();
        // `torch.nn.init.dirac_(torch.empty(2, 2, 2, 3))` has its ones at [0, 0, 1, 1] and [1, 1, 1, 1].
        let one_at = |place: usize| (0..12).map(|at| f32::from(at == place)).collect::<Vec<_>>();
        assert_eq!(kernels[..2], [one_at(4), one_at(10)]);
        let bound = 1.0 / 12f32.sqrt();
        let rest = kernels[2..].concat();
        assert!(rest.iter().all(|value| value.abs() <= bound));
        assert!(rest.iter().any(|value| value.abs() > bound / 2.0));
    }

    /// Mean and variance of a normal distribution of mean 1 and deviation 2 within 0..2, by
    /// `scipy.stats.truncnorm(-.5, .5, loc=1, scale=2).stats()`: 1 and 0.322357.
    #[test]
    fn a_truncated_normal_keeps_its_bounds() {
        let init = Init::TruncatedNormal { mean: 1.0, std: 2.0, low: 0.0, high: 2.0 };
        let values = draw(init, 3, "a");
        assert_eq!(values, draw(init, 3, "a"));
        assert!(values.iter().all(|value| (0.0..=2.0).contains(value)));
        let mean = |of: &dyn Fn(f64) -> f64| {
            values.iter().map(|value| of(f64::from(*value))).sum::<f64>() / values.len() as f64
        };
        let average = mean(&|value| value);
        assert!((average - 1.0).abs() < 0.02, "{average}");
        let variance = mean(&|value| (value - average).powi(2));
        assert!((variance - 0.322_357).abs() < 0.01, "{variance}");
    }
}
