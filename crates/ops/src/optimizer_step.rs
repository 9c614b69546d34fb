//! Updates of parameters in place: one step of SGD, Adam, AdamW or RMSprop for all tensors of a network.
//!
//! Written with tensor operations, an Adam step makes a dozen passes over memory and as many allocations.
//! Here it is one pass per tensor on the CPU. All tensors are given at once, so that a GPU can update them
//! together. Most of them are too small to be worth a kernel launch on their own.

mod accumulate;
mod composed;
mod finite;
mod grad_scale;
mod in_place;
#[cfg(test)]
mod tests;

pub use accumulate::accumulate;
pub use candle_vision_kernels::optimizer_step::{AdamStep, RmsPropStep, SgdStep};
pub use finite::Finite;
pub use grad_scale::GradScale;

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::{Device, Result, Tensor, Var, bail};

use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda;
use crate::storage::{elements, with_float};
use candle_vision_kernels::optimizer_step as kernels;

/// One parameter in a step of gradient descent.
///
/// With a `buffer` (zeros before the first step) the step has momentum. Without one, `step.momentum`,
/// `step.dampening` and `step.nesterov` have no effect.
///
/// All tensors have the same shape and number type, `f32` or `f64`.
#[derive(Clone, Copy, Debug)]
pub struct SgdUpdate<'a> {
    /// The parameter to update.
    pub parameter: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// Its momentum, which is updated too. `None` for a step without momentum.
    pub buffer: Option<&'a Var>,
    /// The settings of the step.
    pub step: SgdStep,
}

/// One parameter in a step of Adam or AdamW.
///
/// All tensors have the same shape and number type, `f32` or `f64`.
#[derive(Clone, Copy, Debug)]
pub struct AdamUpdate<'a> {
    /// The parameter to update.
    pub parameter: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The running mean of its gradients, which is updated too. It is zero before the first step.
    pub first_moment: &'a Var,
    /// The running mean of its squared gradients, which is updated too. It is zero before the first step.
    pub second_moment: &'a Var,
    /// The settings of the step.
    pub step: AdamStep,
}

/// One parameter in a step of RMSprop.
///
/// All tensors have the same shape and number type, `f32` or `f64`.
#[derive(Clone, Copy, Debug)]
pub struct RmsPropUpdate<'a> {
    /// The parameter to update.
    pub parameter: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The running mean of its squared gradients, which is updated too. It is zero before the first step.
    pub square_avg: &'a Var,
    /// The running mean of its gradients, which is updated too, zero before the first step. With it the step divides by the
    /// standard deviation, without it by the root mean square.
    pub grad_avg: Option<&'a Var>,
    /// Its momentum, which is updated too, zero before the first step. `None` for a step without momentum.
    pub buffer: Option<&'a Var>,
    /// The settings of the step.
    pub step: RmsPropStep,
}

/// Takes one step of gradient descent for all parameters, in place.
///
/// # Errors
/// If shapes or number types differ, the parameters are on several devices, or a variable is not
/// contiguous. Shapes, types and devices are checked before anything is changed.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use candle_vision_ops::{SgdStep, SgdUpdate, sgd_steps};
///
/// let parameter = Var::new(&[1f32, 2.0], &Device::Cpu)?;
/// let grad = Tensor::new(&[10f32, -10.0], &Device::Cpu)?;
/// let step = SgdStep {
///     lr: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, grad_scale: 1.0,
/// };
/// let update = SgdUpdate { parameter: &parameter, grad: &grad, buffer: None, step };
/// let finite = sgd_steps(&[update])?;
/// assert_eq!(finite.first_not_finite()?, None);
/// assert_eq!(parameter.to_vec1::<f32>()?, [0.0, 3.0]);
/// # candle_core::Result::Ok(())
/// ```
pub fn sgd_steps(updates: &[SgdUpdate<'_>]) -> Result<Finite> {
    sgd_of(updates, None)
}

/// As [`sgd_steps`], with all gradients multiplied by `scale` as well. No step is taken if the scale says that the
/// gradients must not be used. Everything is finite then.
///
/// # Errors
/// As [`sgd_steps`], or if the device fails.
pub fn sgd_steps_scaled(updates: &[SgdUpdate<'_>], scale: &GradScale) -> Result<Finite> {
    if let Some(scale) = scale.on_device() {
        return sgd_of(updates, Some(scale));
    }
    let Some(factor) = scale.factor()? else { return Ok(Finite::known(None)) };
    let mut updates = updates.to_vec();
    updates.iter_mut().for_each(|update| update.step.grad_scale *= factor);
    sgd_of(&updates, None)
}

/// `scale` is what the device has computed for its kernels.
fn sgd_of(updates: &[SgdUpdate<'_>], scale: Option<&Tensor>) -> Result<Finite> {
    for update in updates {
        check_operands(SGD, update.parameter, update.grad, update.buffer.as_slice())?;
    }
    let tensors = updates.iter().map(|update| update.parameter.as_tensor());
    match one_device(SGD, tensors.chain(scale))? {
        None => Ok(Finite::known(None)),
        Some(Device::Cpu) => in_place::sgd(updates),
        #[cfg(feature = "cuda")]
        Some(Device::Cuda(device)) => {
            cuda::optimizer_step::sgd(device, updates, scale).map(Finite::on_device)
        }
        Some(_) => composed::sgd(updates),
    }
}

/// Takes one step of Adam or AdamW for all parameters, in place.
///
/// # Errors
/// If shapes or number types differ, the parameters are on several devices, or a variable is not
/// contiguous. Shapes, types and devices are checked before anything is changed.
pub fn adam_steps(updates: &[AdamUpdate<'_>]) -> Result<Finite> {
    adam_of(updates, None)
}

/// As [`adam_steps`], with all gradients multiplied by `scale` as well. No step is taken if the scale says that the
/// gradients must not be used. Everything is finite then.
///
/// # Errors
/// As [`adam_steps`], or if the device fails.
pub fn adam_steps_scaled(updates: &[AdamUpdate<'_>], scale: &GradScale) -> Result<Finite> {
    if let Some(scale) = scale.on_device() {
        return adam_of(updates, Some(scale));
    }
    let Some(factor) = scale.factor()? else { return Ok(Finite::known(None)) };
    let mut updates = updates.to_vec();
    updates.iter_mut().for_each(|update| update.step.grad_scale *= factor);
    adam_of(&updates, None)
}

/// `scale` is what the device has computed for its kernels.
fn adam_of(updates: &[AdamUpdate<'_>], scale: Option<&Tensor>) -> Result<Finite> {
    for update in updates {
        let moments = [update.first_moment, update.second_moment];
        check_operands(ADAM, update.parameter, update.grad, &moments)?;
    }
    let tensors = updates.iter().map(|update| update.parameter.as_tensor());
    match one_device(ADAM, tensors.chain(scale))? {
        None => Ok(Finite::known(None)),
        Some(Device::Cpu) => in_place::adam(updates),
        #[cfg(feature = "cuda")]
        Some(Device::Cuda(device)) => {
            cuda::optimizer_step::adam(device, updates, scale).map(Finite::on_device)
        }
        Some(_) => composed::adam(updates),
    }
}

/// Takes one step of RMSprop for all parameters, in place.
///
/// # Errors
/// If shapes or number types differ, the parameters are on several devices, or a variable is not
/// contiguous. Shapes, types and devices are checked before anything is changed.
pub fn rms_prop_steps(updates: &[RmsPropUpdate<'_>]) -> Result<Finite> {
    rms_prop_of(updates, None)
}

/// As [`rms_prop_steps`], with all gradients multiplied by `scale` as well. No step is taken if the scale says that the
/// gradients must not be used. Everything is finite then.
///
/// # Errors
/// As [`rms_prop_steps`], or if the device fails.
pub fn rms_prop_steps_scaled(updates: &[RmsPropUpdate<'_>], scale: &GradScale) -> Result<Finite> {
    if let Some(scale) = scale.on_device() {
        return rms_prop_of(updates, Some(scale));
    }
    let Some(factor) = scale.factor()? else { return Ok(Finite::known(None)) };
    let mut updates = updates.to_vec();
    updates.iter_mut().for_each(|update| update.step.grad_scale *= factor);
    rms_prop_of(&updates, None)
}

/// `scale` is what the device has computed for its kernels.
fn rms_prop_of(updates: &[RmsPropUpdate<'_>], scale: Option<&Tensor>) -> Result<Finite> {
    for update in updates {
        let state = [Some(update.square_avg), update.grad_avg, update.buffer];
        let state: Vec<&Var> = state.into_iter().flatten().collect();
        check_operands(RMS_PROP, update.parameter, update.grad, &state)?;
    }
    let tensors = updates.iter().map(|update| update.parameter.as_tensor());
    match one_device(RMS_PROP, tensors.chain(scale))? {
        None => Ok(Finite::known(None)),
        Some(Device::Cpu) => in_place::rms_prop(updates),
        #[cfg(feature = "cuda")]
        Some(Device::Cuda(device)) => {
            cuda::optimizer_step::rms_prop(device, updates, scale).map(Finite::on_device)
        }
        Some(_) => composed::rms_prop(updates),
    }
}

/// `x / max(|x| / divisor, least)`, with the norm `|x|` of all elements. It is not differentiable. On a CUDA device it can be
/// captured.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::over_norm;
///
/// let x = Tensor::new(&[3f32, 4.0], &Device::Cpu)?;
/// assert_eq!(over_norm(&x, 1.0, 1e-7)?.to_vec1::<f32>()?, [0.6, 0.8]);
/// # candle_core::Result::Ok(())
/// ```
pub fn over_norm(x: &Tensor, divisor: f64, least: f64) -> Result<Tensor> {
    check::full_float("over_norm", x)?;
    let x = x.detach();
    #[cfg(feature = "cuda")]
    if let (Device::Cuda(device), DType::F32) = (x.device(), x.dtype()) {
        return cuda::optimizer_step::over_norm(device, &x.contiguous()?, divisor, least);
    }
    composed::over_norm(&x, divisor, least)
}

/// Whether this thread repeats captured work, and so only collects the numbers of optimizer steps for the next launch: the
/// functions of this module then launch nothing, and other work for such a step must not be done.
pub fn only_collects_numbers() -> bool {
    #[cfg(feature = "cuda")]
    return cuda::only_collects_numbers();
    #[cfg(not(feature = "cuda"))]
    false
}

/// The sum of the squares of all elements in `f64`, from which a gradient's norm is computed. It has the
/// same bits on any number of threads.
///
/// # Errors
/// If `x` is not `f32` or `f64`.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    check::full_float("sum_of_squares", x)?;
    if !x.device().is_cpu() {
        return composed::sum_of_squares(x)?.to_scalar();
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

/// The sum of the squares of all elements of all tensors in `f64`. The square of an `f32` cannot overflow
/// there, so the sum is finite if and only if all elements are.
///
/// On the CPU it is the sum of [`sum_of_squares`] over the tensors. On another device the tensors are
/// summed on the device, and the host waits for the result once.
///
/// # Errors
/// If a tensor is not `f32` or `f64`, or they are on several devices.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::sums_of_squares;
///
/// let (a, b) = (Tensor::new(&[1f32, 2.0], &Device::Cpu)?, Tensor::new(3f32, &Device::Cpu)?);
/// assert_eq!(sums_of_squares(&[&a, &b])?, 14.0);
/// # candle_core::Result::Ok(())
/// ```
pub fn sums_of_squares(tensors: &[&Tensor]) -> Result<f64> {
    for x in tensors {
        check::full_float("sums_of_squares", x)?;
    }
    match one_device("sums_of_squares", tensors.iter().copied())? {
        None => Ok(0.0),
        Some(Device::Cpu) => tensors.iter().map(|x| sum_of_squares(x)).sum(),
        #[cfg(feature = "cuda")]
        Some(Device::Cuda(device)) if tensors.iter().all(|x| x.dtype() == DType::F32) => {
            let scale = cuda::optimizer_step::grad_scale(device, tensors, f64::INFINITY, None)?;
            scale.get(0)?.to_scalar()
        }
        Some(_) => composed::sums_of_squares(tensors)?.to_scalar(),
    }
}

const SGD: &str = "sgd_steps";
const ADAM: &str = "adam_steps";
const RMS_PROP: &str = "rms_prop_steps";

fn check_operands(op: &str, parameter: &Var, grad: &Tensor, state: &[&Var]) -> Result<()> {
    check::full_float(op, parameter)?;
    check::matches(op, "a gradient", grad, parameter.dims(), parameter)?;
    for state in state {
        check::matches(op, "optimizer state", state, parameter.dims(), parameter)?;
    }
    Ok(())
}

/// The device of all tensors. `None` if there are no tensors.
fn one_device<'a>(
    op: &str,
    tensors: impl Iterator<Item = &'a Tensor>,
) -> Result<Option<&'a Device>> {
    let mut devices = tensors.map(Tensor::device);
    let Some(first) = devices.next() else { return Ok(None) };
    match devices.find(|device| !device.same_device(first)) {
        None => Ok(Some(first)),
        Some(other) => {
            bail!("{op}: tensors are on {:?} and {:?}", first.location(), other.location())
        }
    }
}
