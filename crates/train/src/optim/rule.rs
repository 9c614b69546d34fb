//! Update rules: how one parameter changes by its gradient.

use std::fmt::Debug;

use candle_core::{DType, Result as TensorResult, Tensor, Var};
use candle_vision_models::Parameter;
use candle_vision_ops::{Finite, GradScale};
use candle_vision_registry::Description;

use super::{PerParameter, require_decay, require_rate};
use crate::{Error, Result};

/// How one parameter changes by its gradient: an optimizer's settings and arithmetic.
///
/// The rule's state for a parameter consists of tensors of the parameter's shape. [`PerParameter`] makes
/// them (zero at first), saves them and loads them.
///
/// # Example
/// The rule of Lion (<https://arxiv.org/abs/2302.06675>):
/// ```
/// use candle_core::{Result, Tensor, Var};
/// use candle_vision_train::optim::{Step, UpdateRule};
///
/// #[derive(Debug, Clone)]
/// struct Lion { lr: f64, betas: [f64; 2] }
///
/// impl UpdateRule for Lion {
///     fn lr(&self) -> f64 { self.lr }
///     fn state_names(&self) -> &[&str] { &["exp_avg"] }
///     fn update(&self, parameter: &Var, grad: &Tensor, state: &[Var], step: &Step) -> Result<()> {
///         let [beta1, beta2] = self.betas;
///         let mean = state[0].as_detached_tensor();
///         let direction = ((&mean * beta1)? + (grad * (1.0 - beta1))?)?.sign()?;
///         let x = parameter.as_detached_tensor();
///         let x = ((&x * (1.0 - step.lr * step.weight_decay))? - (direction * step.lr)?)?;
///         state[0].set(&((mean * beta2)? + (grad * (1.0 - beta2))?)?)?;
///         parameter.set(&x)
///     }
/// }
/// ```
pub trait UpdateRule: Debug + Clone + Send + Sync + 'static {
    /// The initial learning rate.
    fn lr(&self) -> f64;

    /// The weight decay of parameters in groups without their own.
    fn weight_decay(&self) -> f64 {
        0.0
    }

    /// Names of the state tensors of each parameter, in the order in which a step takes them.
    fn state_names(&self) -> &[&str] {
        &[]
    }

    /// Changes `parameter` and its `state` by `grad`, which has already been scaled.
    ///
    /// # Errors
    /// If an operation fails.
    fn update(
        &self,
        parameter: &Var,
        grad: &Tensor,
        state: &[Var],
        step: &Step,
    ) -> TensorResult<()>;

    /// Updates all parameters at once, for rules that are faster that way. The gradients have not been
    /// scaled yet. The result tells whether the new values are finite. With `None` the caller checks this.
    ///
    /// # Errors
    /// If an operation fails.
    fn update_all(&self, updates: &[Update<'_>]) -> TensorResult<Option<Finite>> {
        for Update { parameter, grad, state, step } in updates {
            // Scaling is one more kernel per parameter, so it is done only if it changes something.
            if step.grad_scale == 1.0 {
                self.update(parameter, grad, state, step)?;
            } else {
                self.update(parameter, &(*grad * step.grad_scale)?, state, step)?;
            }
        }
        Ok(None)
    }

    /// As [`UpdateRule::update_all`], by a scale that was found from the gradients. The default waits for the scale. A rule
    /// that [is capturable](UpdateRule::is_capturable) does not.
    ///
    /// # Errors
    /// If an operation fails.
    fn update_all_scaled(
        &self,
        updates: &[Update<'_>],
        scale: &GradScale,
    ) -> TensorResult<Option<Finite>> {
        let Some(factor) = scale.factor()? else { return Ok(None) };
        let mut updates = updates.to_vec();
        updates.iter_mut().for_each(|update| update.step.grad_scale *= factor);
        self.update_all(&updates)
    }

    /// Whether a captured step holds what [`UpdateRule::update_all`] and [`UpdateRule::update_all_scaled`] ask a CUDA device
    /// for. [`sgd_steps`](candle_vision_ops::sgd_steps), [`adam_steps`](candle_vision_ops::adam_steps),
    /// [`rms_prop_steps`](candle_vision_ops::rms_prop_steps) and their scaled forms can be captured, and get their numbers in
    /// every repetition. Other work may neither read what the device has computed nor depend on numbers that change, and
    /// is left out where [`only_collects_numbers`](candle_vision_ops::only_collects_numbers). See [`Optimizer::is_capturable`](super::Optimizer::is_capturable).
    fn is_capturable(&self) -> bool {
        false
    }

    /// Name and settings. If a registry builds the rule, its entry supplies them.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// Checks that the rule suits a parameter that is about to be added.
    ///
    /// # Errors
    /// If it does not. The error names the parameter.
    fn check_parameter(&self, parameter: &Parameter) -> Result<()> {
        let _ = parameter;
        Ok(())
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// If one is impossible. The error names it.
    fn validate(&self) -> Result<()> {
        require_rate("optimizer.lr", self.lr())?;
        require_decay("optimizer.weight_decay", self.weight_decay())
    }

    /// An optimizer of these parameters by this rule, for your own training loop.
    ///
    /// # Errors
    /// If a setting is impossible, or a parameter is named twice.
    fn optimizer(self, parameters: Vec<Parameter>) -> Result<PerParameter<Self>> {
        let mut optimizer = PerParameter::new(self)?;
        super::Optimizer::add(&mut optimizer, vec![super::ParamGroup::new(parameters)])?;
        Ok(optimizer)
    }
}

/// The numbers of a step for one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Learning rate of the parameter's group.
    pub lr: f64,
    /// Weight decay of the parameter's group.
    pub weight_decay: f64,
    /// Number of steps that the parameter has taken, including this one. It is 1 in the first step.
    pub number: u64,
    /// Factor of the gradients, for clipping. [`UpdateRule::update`] gets gradients that are already
    /// multiplied.
    pub grad_scale: f64,
}

/// A parameter with everything that its update needs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Update<'a> {
    /// The parameter.
    pub parameter: &'a Var,
    /// Its gradient, not scaled yet.
    pub grad: &'a Tensor,
    /// Its state tensors, in the order of [`UpdateRule::state_names`].
    pub state: &'a [Var],
    /// Its step.
    pub step: Step,
}

/// A step that was taken, or that is still running on a GPU.
#[derive(Debug)]
#[must_use = "only this knows whether the new values are finite"]
pub struct Updated {
    values: Values,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
enum Values {
    /// The kernel has checked whether the values are finite.
    Seen(Finite),
    /// One number per parameter. It is zero if the parameter's values are finite.
    Flags(Vec<Tensor>),
    /// The first parameter that is not finite.
    Known(Option<usize>),
    /// Those of several optimizers.
    Together(Vec<Updated>),
}

impl Updated {
    /// A step of `parameters`. `finite` knows whether their new values are finite.
    pub(super) fn seen(finite: Finite, parameters: Vec<Parameter>) -> Self {
        Self { values: Values::Seen(finite), parameters }
    }

    /// A step of `parameters`. The device computes from their values whether they are finite. The result is
    /// read when it is asked for.
    ///
    /// # Errors
    /// If the device fails.
    pub fn of(parameters: Vec<Parameter>) -> Result<Self> {
        // Zero times a non-finite value is NaN, and a sum of zeros cannot overflow.
        let flag = |parameter: &Parameter| (parameter.detached() * 0.0)?.sum_all();
        let flags = parameters.iter().map(flag).collect::<TensorResult<_>>()?;
        Ok(Self { values: Values::Flags(flags), parameters })
    }

    /// A step of `parameters` that is done, with the place of the first one that is not finite.
    pub(super) fn known(first_not_finite: Option<usize>, parameters: Vec<Parameter>) -> Self {
        Self { values: Values::Known(first_not_finite), parameters }
    }

    /// Steps of several optimizers as one.
    pub(super) fn together(steps: Vec<Self>) -> Self {
        Self { values: Values::Together(steps), parameters: Vec::new() }
    }

    /// The same in memory of its own.
    pub(crate) fn copied(&self) -> Result<Self> {
        let values = match &self.values {
            Values::Seen(finite) => Values::Seen(finite.copied()?),
            Values::Flags(flags) => {
                Values::Flags(flags.iter().map(Tensor::copy).collect::<TensorResult<_>>()?)
            }
            Values::Known(first) => Values::Known(*first),
            Values::Together(steps) => {
                Values::Together(steps.iter().map(Self::copied).collect::<Result<_>>()?)
            }
        };
        Ok(Self { values, parameters: self.parameters.clone() })
    }

    /// The first parameter with a NaN or an infinity after the step. Waits for the step.
    ///
    /// # Errors
    /// If the device fails.
    pub fn first_not_finite(&self) -> Result<Option<&Parameter>> {
        let first = match &self.values {
            Values::Seen(finite) => finite.first_not_finite()?,
            Values::Known(first) => *first,
            Values::Flags(flags) => {
                let mut first = None;
                for (i, flag) in flags.iter().enumerate() {
                    if flag.to_dtype(DType::F64)?.to_scalar::<f64>()? != 0.0 {
                        first = Some(i);
                        break;
                    }
                }
                first
            }
            Values::Together(steps) => {
                for step in steps {
                    if let Some(parameter) = step.first_not_finite()? {
                        return Ok(Some(parameter));
                    }
                }
                None
            }
        };
        Ok(first.and_then(|first| self.parameters.get(first)))
    }

    /// Fails if a parameter is not finite after the step. Waits for the step.
    ///
    /// # Errors
    /// [`Error::NotFinite`], which names the parameter.
    pub fn check(&self) -> Result<()> {
        self.first_not_finite()?.map_or(Ok(()), |parameter| {
            Err(Error::NotFinite { parameter: parameter.path().to_owned() })
        })
    }
}
