//! Activation functions.
//!
//! candle has most of these, with two differences. Its `relu` passes a gradient at 0. PyTorch passes none,
//! and exact zeros are common, because a batch norm with zero bias makes them over zero padding. Its
//! `gelu_erf` rounds the constants of the derivative to six digits.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use candle_vision_kernels::activation::{self as kernels, Curve};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::storage::{elements, stored, with_float};
use crate::tape::{Footprint, apply1};

/// The activation function that a fused op applies to its result, or that a layer applies to its input.
///
/// A fused op computes `Identity`, `Relu` and `Relu6` within its own kernels. Any other activation is one
/// more pass over memory. Values and gradients equal those of two separate ops.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// No activation.
    #[default]
    Identity,
    /// `max(x, 0)`, see [`relu`].
    Relu,
    /// `min(max(x, 0), 6)`, see [`relu6`].
    Relu6,
    /// See [`leaky_relu`].
    LeakyRelu {
        /// Factor of negative values. PyTorch's default is 0.01.
        slope: f64,
    },
    /// See [`elu`].
    Elu {
        /// The limit towards minus infinity, without its sign. PyTorch's default is 1.
        alpha: f64,
    },
    /// See [`sigmoid`].
    Sigmoid,
    /// See [`tanh`].
    Tanh,
    /// See [`softplus`].
    Softplus,
    /// See [`silu`].
    Silu,
    /// See [`mish`].
    Mish,
    /// See [`gelu`].
    Gelu,
    /// See [`hardswish`].
    HardSwish,
    /// See [`hardsigmoid`].
    HardSigmoid,
}

/// Every activation with PyTorch's defaults. All names come from this table.
const TABLE: [(&str, Activation); Activation::NAMES.len()] = [
    ("identity", Activation::Identity),
    ("relu", Activation::Relu),
    ("relu6", Activation::Relu6),
    ("leaky_relu", Activation::LeakyRelu { slope: 0.01 }),
    ("elu", Activation::Elu { alpha: 1.0 }),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("softplus", Activation::Softplus),
    ("silu", Activation::Silu),
    ("mish", Activation::Mish),
    ("gelu", Activation::Gelu),
    ("hardswish", Activation::HardSwish),
    ("hardsigmoid", Activation::HardSigmoid),
];

impl Activation {
    /// The names that [`Self::from_name`] knows.
    pub const NAMES: [&'static str; 13] = [
        "identity",
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "sigmoid",
        "tanh",
        "softplus",
        "silu",
        "mish",
        "gelu",
        "hardswish",
        "hardsigmoid",
    ];

    /// Its name in PyTorch.
    ///
    /// ```
    /// use candle_vision_ops::Activation;
    ///
    /// assert_eq!(Activation::HardSwish.name(), "hardswish");
    /// assert_eq!(Activation::from_name("relu6"), Some(Activation::Relu6));
    /// assert_eq!(Activation::from_name("relu7"), None);
    /// ```
    pub fn name(self) -> &'static str {
        self.curve().map_or("identity", Curve::name)
    }

    /// The activation of this name, with PyTorch's defaults. `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.into_iter().find(|(known, _)| *known == name).map(|(_, activation)| activation)
    }

    /// Applies this activation to every element of `x`, as an op on the tape.
    ///
    /// # Errors
    /// If `x` is not of a float type.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use candle_vision_ops::Activation;
    ///
    /// let x = Tensor::new(&[-2f32, 4.0], &Device::Cpu)?;
    /// let y = Activation::LeakyRelu { slope: 0.25 }.apply(&x)?;
    /// assert_eq!(y.to_vec1::<f32>()?, [-0.5, 4.0]);
    /// # candle_core::Result::Ok(())
    /// ```
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self.curve() {
            None => Ok(x.clone()),
            Some(curve) => apply(x, curve),
        }
    }

    /// Applies this activation to every element of `x`, without a gradient.
    pub(crate) fn apply_untracked(self, x: &Tensor) -> Result<Tensor> {
        match self.curve() {
            None => Ok(x.clone()),
            Some(curve) => x.contiguous()?.apply_op1_no_bwd(&Value(curve)),
        }
    }

    /// Splits this into the part that a fused op computes itself and the part that remains for its result.
    pub(crate) fn split(self) -> (Self, Option<Self>) {
        match self {
            Self::Identity | Self::Relu | Self::Relu6 => (self, None),
            other => (Self::Identity, Some(other)),
        }
    }

    /// The upper limit of a ReLU (infinity for a plain one). `None` for any other activation.
    pub(crate) fn ceiling(self) -> Option<f64> {
        match self {
            Self::Relu => Some(f64::INFINITY),
            Self::Relu6 => Some(6.0),
            _ => None,
        }
    }

    fn curve(self) -> Option<Curve> {
        Some(match self {
            Self::Identity => return None,
            Self::Relu => Curve::Relu,
            Self::Relu6 => Curve::Relu6,
            Self::LeakyRelu { slope } => Curve::LeakyRelu { slope },
            Self::Elu { alpha } => Curve::Elu { alpha },
            Self::Sigmoid => Curve::Sigmoid,
            Self::Tanh => Curve::Tanh,
            Self::Softplus => Curve::Softplus,
            Self::Silu => Curve::Silu,
            Self::Mish => Curve::Mish,
            Self::Gelu => Curve::Gelu,
            Self::HardSwish => Curve::HardSwish,
            Self::HardSigmoid => Curve::HardSigmoid,
        })
    }
}

/// `max(x, 0)` of every element. The derivative at 0 is 0.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
///
/// # Example
/// ```
/// use candle_core::{Device, Var};
///
/// let x = Var::new(&[-1f32, 0.0, 2.0], &Device::Cpu)?;
/// let y = candle_vision_ops::relu(&x)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0.0, 0.0, 2.0]);
/// let dx = y.sum_all()?.backward()?.remove(&x).unwrap();
/// assert_eq!(dx.to_vec1::<f32>()?, [0.0, 0.0, 1.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn relu(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::Relu)
}

/// `min(max(x, 0), 6)` of every element. The derivative at 0 and at 6 is 0.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::Relu6)
}

/// `1 / (1 + exp(-x))` of every element.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::Sigmoid)
}

/// `x * sigmoid(x)` of every element (also called swish).
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::Silu)
}

/// `x` times the probability that a standard normal number is below `x`, for every element. This is the
/// exact form with the error function, PyTorch's default, not the approximation with `tanh`.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::Gelu)
}

/// `x * relu6(x + 3) / 6` of every element. The derivative is 0 at -3 and 1 at 3.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn hardswish(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::HardSwish)
}

/// `relu6(x + 3) / 6` of every element. The derivative at -3 and at 3 is 0.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn hardsigmoid(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::HardSigmoid)
}

/// `x` where it is positive, otherwise `slope * x`. The derivative at 0 is `slope`. PyTorch's default slope
/// is 0.01.
///
/// # Errors
/// If `x` is not of a float type.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    apply(x, Curve::LeakyRelu { slope })
}

/// `x` where it is positive, otherwise `alpha * (exp(x) - 1)`. PyTorch's default `alpha` is 1.
///
/// # Errors
/// If `x` is not of a float type.
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    apply(x, Curve::Elu { alpha })
}

/// The hyperbolic tangent of every element.
///
/// # Errors
/// If `x` is not of a float type.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::Tanh)
}

/// `ln(1 + exp(x))` of every element. Above 20 it is `x` itself, as in PyTorch.
///
/// # Errors
/// If `x` is not of a float type.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::Softplus)
}

/// `x * tanh(softplus(x))` of every element.
///
/// # Errors
/// If `x` is not of a float type.
pub fn mish(x: &Tensor) -> Result<Tensor> {
    apply(x, Curve::Mish)
}

fn apply(x: &Tensor, curve: Curve) -> Result<Tensor> {
    check::float(curve.name(), x)?;
    if is_emulated(x) {
        return apply(&widened(x)?, curve)?.to_dtype(x.dtype());
    }
    apply1(&x.contiguous()?, Value(curve))
}

struct Value(Curve);

impl Footprint for Value {}

impl CustomOp1 for Value {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        with_float!(self.0.name(), x, T => {
            let y = kernels::value::<T>(self.0, elements(x, layout)?);
            Ok(stored(y, layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::curve(self.0, Array::new(x, layout))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&grad.contiguous()?, &Gradient(self.0)).map(Some)
    }
}

struct Gradient(Curve);

impl CustomOp2 for Gradient {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(self.0.name(), x, T => {
            let (x, grad) = (elements::<T>(x, x_layout)?, elements(grad, grad_layout)?);
            let dx = kernels::gradient::<T>(self.0, x, grad);
            Ok(stored(dx, x_layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cuda::curve_gradient(self.0, Array::new(x, x_layout), Array::new(grad, grad_layout))
    }
}

const RELU: &str = "relu";

/// The part of `grad` that passes back through a ReLU with this ceiling. `output` is the ReLU's output.
/// Both must be contiguous.
pub(crate) fn relu_gradient(output: &Tensor, grad: &Tensor, ceiling: f64) -> Result<Tensor> {
    output.apply_op2_no_bwd(grad, &ReluGradient { ceiling })
}

struct ReluGradient {
    ceiling: f64,
}

impl CustomOp2 for ReluGradient {
    fn name(&self) -> &'static str {
        RELU
    }

    fn cpu_fwd(
        &self,
        output: &CpuStorage,
        output_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(RELU, output, T => {
            let output = elements::<T>(output, output_layout)?;
            let passed = kernels::relu_mask(output, elements(grad, grad_layout)?, self.ceiling);
            Ok(stored(passed, output_layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        output: &CudaStorage,
        output_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (output, grad) = (Array::new(output, output_layout), Array::new(grad, grad_layout));
        cuda::relu_gradient(output, grad, self.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::cpu::erf::{erf_f32, erf_f64};
    use candle_vision_kernels::float::Float;

    use super::*;

    #[test]
    fn the_error_function_is_candles() {
        for i in -6000..=6000 {
            let x = f64::from(i) * 1.037e-3;
            assert_eq!(Float::erf(x).to_bits(), erf_f64(x).to_bits(), "{x}");
            let x = x as f32;
            let (found, expected) = (Float::erf(x), erf_f32(x));
            assert!((found - expected).abs() <= 2e-7 * expected.abs(), "{x}: {found}, {expected}");
        }
    }

    #[test]
    fn names_and_activations_are_one_table() {
        for ((name, activation), listed) in TABLE.into_iter().zip(Activation::NAMES) {
            assert_eq!((name, activation.name()), (listed, listed));
            assert_eq!(Activation::from_name(listed), Some(activation));
        }
    }
}
