//! The steps on the CPU: one pass over memory for each parameter.

use std::cell::Cell;
use std::marker::PhantomData;

use candle_core::{CpuStorage, InplaceOp1, InplaceOp2, Layout, Result, Var, bail};

use super::{ADAM, AdamStep, AdamUpdate, Finite, RMS_PROP, RmsPropUpdate, SGD, SgdStep, SgdUpdate};
use crate::storage::{elements, with_float};
use candle_vision_kernels::optimizer_step::{self as kernels, RmsPropState};

/// Updates each parameter in turn.
pub(super) fn sgd(updates: &[SgdUpdate<'_>]) -> Result<Finite> {
    in_turn(updates, |SgdUpdate { parameter, grad, buffer, step }| {
        if parameter.elem_count() == 0 {
            return Ok(true);
        }
        let op = SgdInPlace { step, buffer: *buffer, finite: Cell::new(true) };
        parameter.inplace_op2(&grad.contiguous()?, &op)?;
        Ok(op.finite.get())
    })
}

/// Updates each parameter in turn.
pub(super) fn adam(updates: &[AdamUpdate<'_>]) -> Result<Finite> {
    in_turn(updates, |AdamUpdate { parameter, grad, first_moment, second_moment, step }| {
        if parameter.elem_count() == 0 {
            return Ok(true);
        }
        let op = AdamInPlace { step, first_moment, second_moment, finite: Cell::new(true) };
        parameter.inplace_op2(&grad.contiguous()?, &op)?;
        Ok(op.finite.get())
    })
}

/// Updates each parameter in turn.
pub(super) fn rms_prop(updates: &[RmsPropUpdate<'_>]) -> Result<Finite> {
    in_turn(updates, |update| {
        if update.parameter.elem_count() == 0 {
            return Ok(true);
        }
        let op = RmsPropInPlace { update, finite: Cell::new(true) };
        update.parameter.inplace_op2(&update.grad.contiguous()?, &op)?;
        Ok(op.finite.get())
    })
}

/// Calls `update` for each parameter. It returns whether all new values are finite. If one update gives
/// non-finite values, the others still run: all parameters take the step, or none.
fn in_turn<U>(updates: &[U], update: impl Fn(&U) -> Result<bool>) -> Result<Finite> {
    let mut first_not_finite = None;
    for (i, one) in updates.iter().enumerate() {
        if !update(one)? && first_not_finite.is_none() {
            first_not_finite = Some(i);
        }
    }
    Ok(Finite::known(first_not_finite))
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

struct RmsPropInPlace<'a> {
    update: &'a RmsPropUpdate<'a>,
    finite: Cell<bool>,
}

impl InplaceOp2 for RmsPropInPlace<'_> {
    fn name(&self) -> &'static str {
        RMS_PROP
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        parameter_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let RmsPropUpdate { square_avg, grad_avg, buffer, step, .. } = self.update;
        with_float!(RMS_PROP, grad, T => {
            let grad = elements::<T>(grad, grad_layout)?;
            let parameter = T::elements_mut(parameter, parameter_layout)?;
            let finite = with_elements(square_avg, |square_avg| {
                with_some_elements(*grad_avg, |grad_avg| {
                    with_some_elements(*buffer, |buffer| {
                        let state = RmsPropState { square_avg, grad_avg, buffer };
                        Ok(kernels::rms_prop(parameter, state, grad, step))
                    })
                })
            })?;
            self.finite.set(finite);
            Ok(())
        })
    }
}

/// Mutable access to the elements of a contiguous tensor in its storage.
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

/// Lends a variable's elements to `f` and returns its answer. candle's in-place operations write one tensor
/// each. An operation that writes several tensors therefore nests one such operation in another.
fn with_elements<T: ElementsMut>(
    var: &Var,
    f: impl FnOnce(&mut [T]) -> Result<bool>,
) -> Result<bool> {
    let lend = Lend { borrower: Cell::new(Some(f)), finite: Cell::new(true), of: PhantomData };
    var.inplace_op1(&lend)?;
    Ok(lend.finite.get())
}

/// As [`with_elements`], for a variable that there may be.
fn with_some_elements<T: ElementsMut>(
    var: Option<&Var>,
    f: impl FnOnce(Option<&mut [T]>) -> Result<bool>,
) -> Result<bool> {
    match var {
        Some(var) => with_elements(var, |elements| f(Some(elements))),
        None => f(None),
    }
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
