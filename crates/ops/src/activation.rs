//! Activation functions.
//!
//! candle has most of these, but its `relu` passes a gradient at 0 (PyTorch passes none, and a
//! batch norm with zero bias over zero padding makes exact zeros common) and its `gelu_erf` rounds
//! the constants of the derivative to six digits.

use std::marker::PhantomData;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::check;
use crate::cpu::activation::{
    self as kernels, Curve, Gelu, HardSigmoid, HardSwish, Relu, Relu6, Sigmoid, Silu,
};
use crate::cpu::storage::{elements, stored, with_float};
#[cfg(feature = "cuda")]
use crate::cuda::{self, Array};
use crate::emulated::{is_emulated, widened};
use crate::tape::apply1;

/// What a fused op applies to its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// `max(x, 0)`, see [`relu`].
    Relu,
    /// `min(max(x, 0), 6)`, see [`relu6`].
    Relu6,
}

impl Activation {
    /// Where a rectifier stops; nothing if this is none.
    pub(crate) fn ceiling(self) -> Option<f64> {
        match self {
            Self::Identity => None,
            Self::Relu => Some(f64::INFINITY),
            Self::Relu6 => Some(6.0),
        }
    }
}

/// `max(x, 0)` of every element; the derivative at 0 is 0.
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
    apply::<Relu>(x)
}

/// `min(max(x, 0), 6)` of every element; the derivative at 0 and at 6 is 0.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    apply::<Relu6>(x)
}

/// `1 / (1 + exp(-x))` of every element.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    apply::<Sigmoid>(x)
}

/// `x * sigmoid(x)` of every element (also called swish).
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    apply::<Silu>(x)
}

/// `x` times the probability that a standard normal number is below `x`, of every element: the
/// exact form with the error function, PyTorch's default, not the approximation with `tanh`.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    apply::<Gelu>(x)
}

/// `x * relu6(x + 3) / 6` of every element; the derivative at -3 is 0 and at 3 is 1.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn hardswish(x: &Tensor) -> Result<Tensor> {
    apply::<HardSwish>(x)
}

/// `relu6(x + 3) / 6` of every element; the derivative at -3 and at 3 is 0.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn hardsigmoid(x: &Tensor) -> Result<Tensor> {
    apply::<HardSigmoid>(x)
}

fn apply<C: Curve>(x: &Tensor) -> Result<Tensor> {
    check::float(C::NAME, x)?;
    if is_emulated(x) {
        return apply::<C>(&widened(x)?)?.to_dtype(x.dtype());
    }
    apply1(&x.contiguous()?, Value::<C>(PhantomData))
}

struct Value<C>(PhantomData<C>);

impl<C: Curve> CustomOp1 for Value<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        with_float!(C::NAME, x, T => {
            let y = kernels::value::<C, T>(elements(x, layout)?);
            Ok(stored(y, layout.shape()))
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda::curve(C::NAME, Array::new(x, layout))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let gradient = Gradient::<C>(PhantomData);
        x.apply_op2_no_bwd(&grad.contiguous()?, &gradient).map(Some)
    }
}

struct Gradient<C>(PhantomData<C>);

impl<C: Curve> CustomOp2 for Gradient<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(C::NAME, x, T => {
            let (x, grad) = (elements::<T>(x, x_layout)?, elements(grad, grad_layout)?);
            let dx = kernels::gradient::<C, T>(x, grad);
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
        cuda::curve_gradient(C::NAME, Array::new(x, x_layout), Array::new(grad, grad_layout))
    }
}

/// What of `grad` passes back through a rectifier with this ceiling that gave `output`; both are
/// contiguous.
pub(crate) fn rectifier_gradient(output: &Tensor, grad: &Tensor, ceiling: f64) -> Result<Tensor> {
    output.apply_op2_no_bwd(grad, &RectifierGradient { ceiling })
}

struct RectifierGradient {
    ceiling: f64,
}

impl CustomOp2 for RectifierGradient {
    fn name(&self) -> &'static str {
        Relu::NAME
    }

    fn cpu_fwd(
        &self,
        output: &CpuStorage,
        output_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(Relu::NAME, output, T => {
            let output = elements::<T>(output, output_layout)?;
            let passed = kernels::rectifier_mask(output, elements(grad, grad_layout)?, self.ceiling);
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
        cuda::rectifier_gradient(output, grad, self.ceiling)
    }
}
