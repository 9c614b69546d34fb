//! Stochastic gradient descent.

use candle_core::{Result as TensorResult, Tensor, Var};
use candle_vision_ops::{Finite, GradScale, SgdStep, SgdUpdate, sgd_steps, sgd_steps_scaled};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Step, Update, UpdateRule, require_decay, require_rate};
use crate::Result;
use crate::error::require;
use crate::parts::described;

/// Stochastic gradient descent, as PyTorch's `SGD`.
///
/// In a recipe: `optimizer = { name = "sgd", lr = 0.001, momentum = 0.9 }`.
///
/// # Example
/// ```
/// use candle_vision_train::TrainerConfig;
/// use candle_vision_train::optim::Sgd;
///
/// let config = TrainerConfig::new(10, Sgd::new(0.1).momentum(0.9).nesterov(true));
/// assert_eq!(config.optimizer.name, "sgd");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    lr: f64,
    #[serde(default)]
    momentum: f64,
    #[serde(default)]
    weight_decay: f64,
    #[serde(default)]
    nesterov: bool,
    #[serde(default)]
    dampening: f64,
}

impl Sgd {
    /// Plain SGD with this learning rate, which must be positive.
    pub fn new(lr: f64) -> Self {
        Self { lr, momentum: 0.0, weight_decay: 0.0, nesterov: false, dampening: 0.0 }
    }

    /// Share of the last direction that is kept, in `0.0..1.0`. 0 by default.
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Factor of the parameter that is added to its gradient. 0 by default.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Whether to use Nesterov momentum, which looks ahead along the momentum.
    pub fn nesterov(self, nesterov: bool) -> Self {
        Self { nesterov, ..self }
    }

    /// Share of the gradient that does not enter the momentum, in `0.0..=1.0`. 0 by default.
    pub fn dampening(self, dampening: f64) -> Self {
        Self { dampening, ..self }
    }

    fn updates<'a>(&self, updates: &[Update<'a>]) -> Vec<SgdUpdate<'a>> {
        let update = |&Update { parameter, grad, state, step }: &Update<'a>| {
            let (buffer, step) = (state.first(), self.step(&step));
            SgdUpdate { parameter, grad, buffer, step }
        };
        updates.iter().map(update).collect()
    }

    fn step(&self, step: &Step) -> SgdStep {
        SgdStep {
            lr: step.lr,
            momentum: self.momentum,
            // PyTorch begins the momentum with the whole gradient.
            dampening: if step.number == 1 { 0.0 } else { self.dampening },
            weight_decay: step.weight_decay,
            nesterov: self.nesterov,
            grad_scale: step.grad_scale,
        }
    }
}

impl UpdateRule for Sgd {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn state_names(&self) -> &[&str] {
        if self.momentum == 0.0 { &[] } else { &["momentum"] }
    }

    fn update(
        &self,
        parameter: &Var,
        grad: &Tensor,
        state: &[Var],
        step: &Step,
    ) -> TensorResult<()> {
        let step = Step { grad_scale: 1.0, ..*step };
        self.update_all(&[Update { parameter, grad, state, step }]).map(|_| ())
    }

    fn update_all(&self, updates: &[Update<'_>]) -> TensorResult<Option<Finite>> {
        sgd_steps(&self.updates(updates)).map(Some)
    }

    fn update_all_scaled(
        &self,
        updates: &[Update<'_>],
        scale: &GradScale,
    ) -> TensorResult<Option<Finite>> {
        sgd_steps_scaled(&self.updates(updates), scale).map(Some)
    }

    fn is_capturable(&self) -> bool {
        true
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        let Self { momentum, nesterov, dampening, .. } = *self;
        require_rate("optimizer.lr", self.lr)?;
        require_decay("optimizer.weight_decay", self.weight_decay)?;
        let fraction = "in 0..1, 1 excluded";
        require((0.0..1.0).contains(&momentum), "optimizer.momentum", momentum, fraction)?;
        let in_range = (0.0..=1.0).contains(&dampening);
        require(in_range, "optimizer.dampening", dampening, "in 0..=1")?;
        let possible = !nesterov || (momentum > 0.0 && dampening == 0.0);
        let expected = "false unless there is momentum and no dampening";
        require(possible, "optimizer.nesterov", nesterov, expected)
    }
}

impl From<Sgd> for Description {
    fn from(rule: Sgd) -> Self {
        described("sgd", &rule)
    }
}
