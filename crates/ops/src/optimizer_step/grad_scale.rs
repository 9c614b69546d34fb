//! What gradients are multiplied by before a step: clipping by their norm, and making up for a scaled loss.

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::{composed, one_device, sum_of_squares};
use crate::check;
#[cfg(feature = "cuda")]
use crate::cuda;

/// What gradients are multiplied by before a step, found from the gradients themselves.
///
/// On a CUDA device the device computes it and the step's kernel reads it there, so the host need not wait for the
/// gradients before it asks for the step. [`sgd_steps_scaled`](super::sgd_steps_scaled) and
/// [`adam_steps_scaled`](super::adam_steps_scaled) take it.
///
/// # Example
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_vision_ops::GradScale;
///
/// let grad = Tensor::new(&[3f32, 4.0], &Device::Cpu)?;
/// let scale = GradScale::new(&[&grad], Some(1.0), None)?;
/// assert_eq!(scale.norm()?, 5.0);
/// assert!((scale.factor()?.unwrap() - 0.2).abs() < 1e-6);
/// # candle_core::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct GradScale(State);

#[derive(Debug)]
enum State {
    Known {
        norm: f64,
        /// `None` if the gradients must not be used.
        factor: Option<f64>,
    },
    /// `[4]` of `f64`: the sum of squares, the norm, the factor, and 0 if the gradients must not be used.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only CUDA makes it"))]
    OnDevice(Tensor),
}

impl GradScale {
    /// The scale of `grads`, which are all gradients of a step.
    ///
    /// - `max_norm`: gradients whose norm, taken together, is larger are scaled down to it, as PyTorch's
    ///   `clip_grad_norm_` does.
    /// - `loss_scale`: the number that the loss was multiplied by, a scalar in `f32` on the gradients' device. The norm
    ///   and the factor make up for it. Gradients that are not finite must not be used then, because a smaller scale may
    ///   help.
    ///
    /// # Errors
    /// If a gradient is not `f32` or `f64`, the tensors are on several devices, or `loss_scale` is no scalar in `f32`.
    pub fn new(
        grads: &[&Tensor],
        max_norm: Option<f64>,
        loss_scale: Option<&Tensor>,
    ) -> Result<Self> {
        for grad in grads {
            check::full_float(NAME, grad)?;
        }
        if let Some(scale) = loss_scale
            && (scale.dtype(), scale.rank()) != (DType::F32, 0)
        {
            let (dtype, dims) = (scale.dtype(), scale.dims());
            bail!("{NAME}: the loss scale is a scalar in F32, got {dims:?} of {dtype:?}")
        }
        let device = one_device(NAME, grads.iter().copied().chain(loss_scale))?;
        #[cfg(feature = "cuda")]
        if let Some(Device::Cuda(device)) = device
            && grads.iter().all(|grad| grad.dtype() == DType::F32)
        {
            let largest = max_norm.unwrap_or(f64::INFINITY);
            let scale = cuda::optimizer_step::grad_scale(device, grads, largest, loss_scale)?;
            return Ok(Self(State::OnDevice(scale)));
        }
        let sum = match device {
            None | Some(Device::Cpu) => grads.iter().map(|grad| sum_of_squares(grad)).sum(),
            Some(_) => composed::sums_of_squares(grads)?.to_scalar::<f64>(),
        }?;
        let of_loss = match loss_scale {
            Some(scale) => f64::from(scale.to_scalar::<f32>()?),
            None => 1.0,
        };
        let norm = sum.sqrt() / of_loss;
        // A NaN is no reason to clip.
        let clipping = max_norm.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0));
        let applies = loss_scale.is_none() || norm.is_finite();
        Ok(Self(State::Known { norm, factor: applies.then_some(clipping / of_loss) }))
    }

    /// The Euclidean norm of all gradients together, of the loss before it was scaled. Waits for the device. It is finite
    /// if and only if all gradients are.
    ///
    /// # Errors
    /// If the device fails.
    pub fn norm(&self) -> Result<f64> {
        match &self.0 {
            State::Known { norm, .. } => Ok(*norm),
            State::OnDevice(values) => values.get(1)?.to_scalar(),
        }
    }

    /// The factor of the gradients. `None` if they must not be used. Waits for the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn factor(&self) -> Result<Option<f64>> {
        match &self.0 {
            State::Known { factor, .. } => Ok(*factor),
            State::OnDevice(values) => {
                let values = values.to_vec1::<f64>()?;
                Ok((values[3] != 0.0).then_some(values[2]))
            }
        }
    }

    /// A gradient times the factor, for steps that need more of it than sums. The host does not wait. The result means nothing
    /// if the gradients must not be used.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Example
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use candle_vision_ops::GradScale;
    ///
    /// let grad = Tensor::new(&[3f32, 4.0], &Device::Cpu)?;
    /// let scale = GradScale::new(&[&grad], Some(2.5), None)?;
    /// assert!((scale.apply_to(&grad)?.to_vec1::<f32>()?[1] - 2.0).abs() < 1e-6);
    /// assert_eq!(scale.when_applied()?.factor()?, Some(1.0));
    /// # candle_core::Result::Ok(())
    /// ```
    pub fn apply_to(&self, grad: &Tensor) -> Result<Tensor> {
        match &self.0 {
            // Scaling is one more pass, so it is done only if it changes something.
            State::Known { factor: Some(1.0) | None, .. } => Ok(grad.clone()),
            State::Known { factor: Some(factor), .. } => grad * *factor,
            #[cfg(feature = "cuda")]
            State::OnDevice(scale) => {
                cuda::optimizer_step::times_scale(card(scale)?, &grad.contiguous()?, scale)
            }
            #[cfg(not(feature = "cuda"))]
            State::OnDevice(_) => no_card(),
        }
    }

    /// The scale of gradients that were multiplied already ([`GradScale::apply_to`]): of factor 1, and they must not be used
    /// where these must not.
    ///
    /// # Errors
    /// If the device fails.
    pub fn when_applied(&self) -> Result<Self> {
        match &self.0 {
            State::Known { norm, factor } => {
                Ok(Self(State::Known { norm: *norm, factor: factor.map(|_| 1.0) }))
            }
            #[cfg(feature = "cuda")]
            State::OnDevice(scale) => {
                let left = cuda::optimizer_step::without_factor(card(scale)?, scale)?;
                Ok(Self(State::OnDevice(left)))
            }
            #[cfg(not(feature = "cuda"))]
            State::OnDevice(_) => no_card(),
        }
    }

    /// Sets `place` to `values`, unless the gradients must not be used. The host does not wait.
    ///
    /// # Errors
    /// If shapes or number types differ, or the device fails.
    pub fn set(&self, place: &Var, values: &Tensor) -> Result<()> {
        check::matches(NAME, "values", values, place.dims(), place)?;
        match &self.0 {
            State::Known { factor: None, .. } => Ok(()),
            State::Known { .. } => place.set(values),
            #[cfg(feature = "cuda")]
            State::OnDevice(scale) => {
                let values = values.contiguous()?;
                cuda::optimizer_step::set_if_used(card(scale)?, place, &values, scale)
            }
            #[cfg(not(feature = "cuda"))]
            State::OnDevice(_) => no_card(),
        }
    }

    /// The kernels' form of the scale, if the device has computed it.
    pub(super) fn on_device(&self) -> Option<&Tensor> {
        match &self.0 {
            State::Known { .. } => None,
            State::OnDevice(values) => Some(values),
        }
    }
}

/// The CUDA device that has computed a scale.
#[cfg(feature = "cuda")]
fn card(scale: &Tensor) -> Result<&candle_core::CudaDevice> {
    match scale.device() {
        Device::Cuda(device) => Ok(device),
        other => bail!("{NAME}: a scale of a CUDA device lies on {:?}", other.location()),
    }
}

#[cfg(not(feature = "cuda"))]
fn no_card<T>() -> Result<T> {
    bail!("{NAME}: built without the feature `cuda` of candle-vision-ops")
}

const NAME: &str = "GradScale";
