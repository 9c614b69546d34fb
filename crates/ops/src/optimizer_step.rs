//! Updates of parameters in place: one step of SGD, Adam or AdamW for one tensor.
//!
//! Written with tensor operations an Adam step makes a dozen passes over memory and as many
//! allocations. On the CPU it is one pass here; other devices use the tensor operations.

use std::cell::Cell;
use std::marker::PhantomData;

use candle_core::{CpuStorage, DType, InplaceOp1, InplaceOp2, Layout, Result, Tensor, Var, bail};

use crate::check;
use crate::cpu::optimizer_step as kernels;
use crate::cpu::storage::{elements, with_float};

/// Settings of one step of stochastic gradient descent, as in PyTorch's `SGD`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Share of the momentum buffer that stays.
    pub momentum: f64,
    /// Share of the gradient that does not enter the momentum buffer. PyTorch begins a buffer with
    /// the whole gradient: give 0 in a parameter's first step.
    pub dampening: f64,
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f64,
    /// Whether to look ahead along the momentum.
    pub nesterov: bool,
    /// Factor of the gradient before anything else: below 1 when a gradient is clipped.
    pub grad_scale: f64,
}

/// Settings of one step of Adam or AdamW, as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment, so that nothing is divided by zero.
    pub eps: f64,
    /// Factor of the parameter that is added to its gradient, or by which `lr` shrinks it.
    pub weight_decay: f64,
    /// Whether weight decay shrinks the parameter itself (AdamW) instead of entering the moments.
    pub decoupled_weight_decay: bool,
    /// Number of this step for this parameter, from 1: corrects the moments' start at zero.
    pub step: u64,
    /// Factor of the gradient before anything else: below 1 when a gradient is clipped.
    pub grad_scale: f64,
}

impl AdamStep {
    /// What shrinks the parameter, and what enters its gradient: one of them is 0.
    pub(crate) fn weight_decays(&self) -> (f64, f64) {
        if self.decoupled_weight_decay {
            (self.weight_decay, 0.0)
        } else {
            (0.0, self.weight_decay)
        }
    }

    /// The learning rate over the correction of the first moment.
    pub(crate) fn step_size(&self) -> f64 {
        self.lr / (1.0 - self.beta1.powf(self.step as f64))
    }

    /// The root of the correction of the second moment.
    pub(crate) fn second_moment_correction(&self) -> f64 {
        (1.0 - self.beta2.powf(self.step as f64)).sqrt()
    }
}

/// One step of gradient descent, in place; returns whether all new values are finite.
///
/// With a `buffer` (zeros before the first step) the step has momentum; without one
/// `step.momentum`, `step.dampening` and `step.nesterov` have no effect.
///
/// # Shapes
/// - `parameter`, `grad` and `buffer`: the same shape and number type, `f32` or `f64`
///
/// # Errors
/// If shapes or number types differ, or a variable is not contiguous.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use candle_vision_ops::{SgdStep, sgd_step};
///
/// let parameter = Var::new(&[1f32, 2.0], &Device::Cpu)?;
/// let grad = Tensor::new(&[10f32, -10.0], &Device::Cpu)?;
/// let step = SgdStep {
///     lr: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, grad_scale: 1.0,
/// };
/// assert!(sgd_step(&parameter, &grad, None, &step)?);
/// assert_eq!(parameter.to_vec1::<f32>()?, [0.0, 3.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn sgd_step(
    parameter: &Var,
    grad: &Tensor,
    buffer: Option<&Var>,
    step: &SgdStep,
) -> Result<bool> {
    check_operands(SGD, parameter, grad, buffer.as_slice())?;
    if parameter.elem_count() == 0 {
        return Ok(true);
    }
    if !parameter.device().is_cpu() {
        return composed_sgd(parameter, grad, buffer, step);
    }
    let op = SgdInPlace { step, buffer, finite: Cell::new(true) };
    parameter.inplace_op2(&grad.contiguous()?, &op)?;
    Ok(op.finite.get())
}

/// One step of Adam or AdamW, in place; returns whether all new values are finite.
///
/// # Shapes
/// - `parameter`, `grad`, `first_moment` and `second_moment` (both zeros before the first step): the
///   same shape and number type, `f32` or `f64`
///
/// # Errors
/// If shapes or number types differ, or a variable is not contiguous.
pub fn adam_step(
    parameter: &Var,
    grad: &Tensor,
    first_moment: &Var,
    second_moment: &Var,
    step: &AdamStep,
) -> Result<bool> {
    check_operands(ADAM, parameter, grad, &[first_moment, second_moment])?;
    if parameter.elem_count() == 0 {
        return Ok(true);
    }
    if !parameter.device().is_cpu() {
        return composed_adam(parameter, grad, first_moment, second_moment, step);
    }
    let op = AdamInPlace { step, first_moment, second_moment, finite: Cell::new(true) };
    parameter.inplace_op2(&grad.contiguous()?, &op)?;
    Ok(op.finite.get())
}

/// The sum of the squares of all elements in `f64`, the same bits for any number of threads: the
/// building block of a gradient's norm.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    check::float("sum_of_squares", x)?;
    if !x.device().is_cpu() {
        return x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar();
    }
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => with_float!("sum_of_squares", storage, T => {
            Ok(kernels::sum_of_squares(elements::<T>(storage, layout)?))
        }),
        _ => bail!("sum_of_squares: a tensor on the CPU is not stored there"),
    }
}

const SGD: &str = "sgd_step";
const ADAM: &str = "adam_step";

fn check_operands(op: &str, parameter: &Var, grad: &Tensor, state: &[&Var]) -> Result<()> {
    check::float(op, parameter)?;
    check::matches(op, "a gradient", grad, parameter.dims(), parameter)?;
    for state in state {
        check::matches(op, "optimizer state", state, parameter.dims(), parameter)?;
    }
    Ok(())
}

struct SgdInPlace<'a> {
    step: &'a SgdStep,
    buffer: Option<&'a Var>,
    finite: Cell<bool>,
}

impl InplaceOp2 for SgdInPlace<'_> {
    fn name(&self) -> &'static str {
        SGD
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        with_float!(SGD, grad, T => {
            let grad = elements::<T>(grad, grad_layout)?;
            let parameter = T::elements_mut(parameter, parameter_layout)?;
            let finite = match self.buffer {
                None => kernels::sgd(parameter, grad, self.step),
                Some(buffer) => with_elements(buffer, |buffer| {
                    Ok(kernels::sgd_momentum(parameter, buffer, grad, self.step))
                })?,
            };
            self.finite.set(finite);
            Ok(())
        })
    }
}

struct AdamInPlace<'a> {
    step: &'a AdamStep,
    first_moment: &'a Var,
    second_moment: &'a Var,
    finite: Cell<bool>,
}

impl InplaceOp2 for AdamInPlace<'_> {
    fn name(&self) -> &'static str {
        ADAM
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        with_float!(ADAM, grad, T => {
            let grad = elements::<T>(grad, grad_layout)?;
            let parameter = T::elements_mut(parameter, parameter_layout)?;
            let finite = with_elements(self.first_moment, |first| {
                with_elements(self.second_moment, |second| {
                    Ok(kernels::adam(parameter, first, second, grad, self.step))
                })
            })?;
            self.finite.set(finite);
            Ok(())
        })
    }
}

/// The elements of a contiguous tensor inside its storage, to be written.
trait ElementsMut: Sized {
    fn elements_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [Self]>;
}

macro_rules! elements_mut {
    ($ty:ty, $variant:ident) => {
        impl ElementsMut for $ty {
            fn elements_mut<'a>(
                storage: &'a mut CpuStorage,
                layout: &Layout,
            ) -> Result<&'a mut [Self]> {
                match (storage, layout.contiguous_offsets()) {
                    (CpuStorage::$variant(data), Some((start, end))) => Ok(&mut data[start..end]),
                    (_, None) => bail!("a variable that is updated in place must be contiguous"),
                    _ => bail!("a variable that is updated in place changed its number type"),
                }
            }
        }
    };
}

elements_mut!(f32, F32);
elements_mut!(f64, F64);

/// Lends a variable's elements to `f` and hands back its answer. candle's in-place operations write one tensor each, so an
/// operation that writes several borrows the others through one operation inside the other.
fn with_elements<T: ElementsMut>(
    var: &Var,
    f: impl FnOnce(&mut [T]) -> Result<bool>,
) -> Result<bool> {
    let lend = Lend { borrower: Cell::new(Some(f)), finite: Cell::new(true), of: PhantomData };
    var.inplace_op1(&lend)?;
    Ok(lend.finite.get())
}

struct Lend<T, F> {
    borrower: Cell<Option<F>>,
    finite: Cell<bool>,
    of: PhantomData<T>,
}

impl<T: ElementsMut, F: FnOnce(&mut [T]) -> Result<bool>> InplaceOp1 for Lend<T, F> {
    fn name(&self) -> &'static str {
        "optimizer_state"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let elements = T::elements_mut(storage, layout)?;
        if let Some(borrower) = self.borrower.take() {
            self.finite.set(borrower(elements)?);
        }
        Ok(())
    }
}

/// The same with tensor operations: for devices without a kernel, and the measure of the kernels.
fn composed_sgd(
    parameter: &Var,
    grad: &Tensor,
    buffer: Option<&Var>,
    step: &SgdStep,
) -> Result<bool> {
    let grad = scaled_and_decayed(parameter, grad, step.grad_scale, step.weight_decay)?;
    let direction = match buffer {
        None => grad,
        Some(buffer) => {
            let gained = (&grad * (1.0 - step.dampening))?;
            buffer.set(&((buffer.as_detached_tensor() * step.momentum)? + gained)?)?;
            if step.nesterov {
                (grad + (buffer.as_detached_tensor() * step.momentum)?)?
            } else {
                buffer.as_detached_tensor()
            }
        }
    };
    replace(parameter, &(parameter.as_detached_tensor() - (direction * step.lr)?)?)
}

/// The same with tensor operations: for devices without a kernel, and the measure of the kernels.
fn composed_adam(
    parameter: &Var,
    grad: &Tensor,
    first_moment: &Var,
    second_moment: &Var,
    step: &AdamStep,
) -> Result<bool> {
    let (decoupled, coupled) = step.weight_decays();
    let grad = scaled_and_decayed(parameter, grad, step.grad_scale, coupled)?;
    let gained = (&grad * (1.0 - step.beta1))?;
    first_moment.set(&((first_moment.as_detached_tensor() * step.beta1)? + gained)?)?;
    let gained = (grad.sqr()? * (1.0 - step.beta2))?;
    second_moment.set(&((second_moment.as_detached_tensor() * step.beta2)? + gained)?)?;
    let root = second_moment.as_detached_tensor().sqrt()?;
    let scale = ((root / step.second_moment_correction())? + step.eps)?;
    let change = ((first_moment.as_detached_tensor() * step.step_size())? / scale)?;
    let shrunk = (parameter.as_detached_tensor() * (1.0 - step.lr * decoupled))?;
    replace(parameter, &(shrunk - change)?)
}

fn scaled_and_decayed(
    parameter: &Var,
    grad: &Tensor,
    grad_scale: f64,
    weight_decay: f64,
) -> Result<Tensor> {
    (grad * grad_scale)? + (parameter.as_detached_tensor() * weight_decay)?
}

/// Sets the new values and tells whether all of them are finite.
fn replace(parameter: &Var, values: &Tensor) -> Result<bool> {
    parameter.set(values)?;
    // The product is NaN for a NaN and for an infinity.
    let sum = (values * 0.0)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok(sum == 0.0)
}

#[cfg(test)]
mod tests;
