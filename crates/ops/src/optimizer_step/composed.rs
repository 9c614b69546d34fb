//! The same steps made of tensor operations. They serve devices without kernels, and the kernels are tested
//! against them.

use candle_core::{DType, Result, Tensor, Var};

use super::{AdamUpdate, Finite, RmsPropUpdate, SgdUpdate};

pub(super) fn sgd(updates: &[SgdUpdate<'_>]) -> Result<Finite> {
    finite(updates.iter().map(sgd_one))
}

pub(super) fn adam(updates: &[AdamUpdate<'_>]) -> Result<Finite> {
    finite(updates.iter().map(adam_one))
}

pub(super) fn rms_prop(updates: &[RmsPropUpdate<'_>]) -> Result<Finite> {
    finite(updates.iter().map(rms_prop_one))
}

fn finite(flags: impl Iterator<Item = Result<Tensor>>) -> Result<Finite> {
    let flags = flags.collect::<Result<Vec<_>>>()?;
    Ok(Finite::on_device(Tensor::stack(&flags, 0)?))
}

/// Returns 0, or NaN if a new value is not finite.
fn sgd_one(update: &SgdUpdate<'_>) -> Result<Tensor> {
    let SgdUpdate { parameter, grad, buffer, step } = *update;
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

/// Returns 0, or NaN if a new value is not finite.
fn adam_one(update: &AdamUpdate<'_>) -> Result<Tensor> {
    let AdamUpdate { parameter, grad, first_moment, second_moment, step } = *update;
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

/// Returns 0, or NaN if a new value is not finite.
fn rms_prop_one(update: &RmsPropUpdate<'_>) -> Result<Tensor> {
    let RmsPropUpdate { parameter, grad, square_avg, grad_avg, buffer, step } = *update;
    let grad = scaled_and_decayed(parameter, grad, step.grad_scale, step.weight_decay)?;
    let running = |mean: &Var, value: &Tensor| -> Result<Tensor> {
        let kept = (mean.as_detached_tensor() * step.alpha)?;
        mean.set(&(kept + (value * (1.0 - step.alpha))?)?)?;
        Ok(mean.as_detached_tensor())
    };
    let mut variance = running(square_avg, &grad.sqr()?)?;
    if let Some(mean) = grad_avg {
        variance = (variance - running(mean, &grad)?.sqr()?)?;
    }
    let mut direction = (grad / (variance.sqrt()? + step.eps)?)?;
    if let Some(buffer) = buffer {
        direction = ((buffer.as_detached_tensor() * step.momentum)? + direction)?;
        buffer.set(&direction)?;
    }
    replace(parameter, &(parameter.as_detached_tensor() - (direction * step.lr)?)?)
}

fn scaled_and_decayed(
    parameter: &Var,
    grad: &Tensor,
    grad_scale: f64,
    weight_decay: f64,
) -> Result<Tensor> {
    (grad * grad_scale)? + (parameter.as_detached_tensor() * weight_decay)?
}

/// Sets the new values. Returns 0 if all of them are finite, otherwise NaN.
fn replace(parameter: &Var, values: &Tensor) -> Result<Tensor> {
    parameter.set(values)?;
    // The product is NaN for a NaN and for an infinity.
    (values * 0.0)?.sum_all()?.to_dtype(DType::F64)
}

/// `x / max(|x| / divisor, least)`.
pub(super) fn over_norm(x: &Tensor, divisor: f64, least: f64) -> Result<Tensor> {
    let norm = (x.sqr()?.sum_all()?.sqrt()? / divisor)?.maximum(least)?;
    x.broadcast_div(&norm)
}

/// The sum of squares of one tensor, a scalar in `f64`.
pub(super) fn sum_of_squares(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F64)?.sqr()?.sum_all()
}

/// The sum over all tensors, a scalar in `f64`.
pub(super) fn sums_of_squares(tensors: &[&Tensor]) -> Result<Tensor> {
    let sums = tensors.iter().map(|x| sum_of_squares(x)).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&sums, 0)?.sum_all()
}
