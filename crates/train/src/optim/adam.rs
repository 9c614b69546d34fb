//! Adam, and Adam with decoupled weight decay.

use candle_core::{Result as TensorResult, Tensor, Var};
use candle_vision_ops::{AdamStep, AdamUpdate, Finite, GradScale, adam_steps, adam_steps_scaled};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Step, Update, UpdateRule, require_decay, require_rate};
use crate::Result;
use crate::error::require;
use crate::parts::described;

/// Names of the state tensors of both.
const STATE: &[&str] = &["exp_avg", "exp_avg_sq"];

/// Adam, as PyTorch's `Adam`: weight decay is added to the gradient.
///
/// In a recipe: `optimizer = { name = "adam", lr = 0.001 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    lr: f64,
    #[serde(default = "default_betas")]
    betas: [f64; 2],
    #[serde(default = "default_eps")]
    eps: f64,
    #[serde(default)]
    weight_decay: f64,
}

/// Adam with decoupled weight decay, as PyTorch's `AdamW`.
///
/// In a recipe: `optimizer = { name = "adamw", lr = 0.001 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    lr: f64,
    #[serde(default = "default_betas")]
    betas: [f64; 2],
    #[serde(default = "default_eps")]
    eps: f64,
    #[serde(default = "default_decoupled_weight_decay")]
    weight_decay: f64,
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_eps() -> f64 {
    1e-8
}

fn default_decoupled_weight_decay() -> f64 {
    1e-2
}

impl Adam {
    /// PyTorch's defaults with this learning rate, which must be positive.
    pub fn new(lr: f64) -> Self {
        Self { lr, betas: default_betas(), eps: default_eps(), weight_decay: 0.0 }
    }

    /// Decay rates of the running means of gradients and of squared gradients, each in `0.0..1.0`. They are
    /// 0.9 and 0.999 by default.
    pub fn betas(self, betas: [f64; 2]) -> Self {
        Self { betas, ..self }
    }

    /// Term added to the divisor. 1e-8 by default.
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Factor of the parameter that is added to its gradient. 0 by default.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }
}

impl AdamW {
    /// PyTorch's defaults with this learning rate, which must be positive.
    pub fn new(lr: f64) -> Self {
        let weight_decay = default_decoupled_weight_decay();
        Self { lr, betas: default_betas(), eps: default_eps(), weight_decay }
    }

    /// Decay rates of the running means of gradients and of squared gradients, each in `0.0..1.0`. They are
    /// 0.9 and 0.999 by default.
    pub fn betas(self, betas: [f64; 2]) -> Self {
        Self { betas, ..self }
    }

    /// Term added to the divisor. 1e-8 by default.
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// In each step a parameter shrinks by this factor times the learning rate. 0.01 by default.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }
}

/// The settings that both have.
#[derive(Clone, Copy)]
struct Shared {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
}

impl Shared {
    fn updates<'a>(self, updates: &[Update<'a>]) -> Vec<AdamUpdate<'a>> {
        let [beta1, beta2] = self.betas;
        let step = |step: &Step| AdamStep {
            lr: step.lr,
            beta1,
            beta2,
            eps: self.eps,
            weight_decay: step.weight_decay,
            decoupled_weight_decay: self.decoupled,
            step: step.number,
            grad_scale: step.grad_scale,
        };
        let update = |update: &Update<'a>| {
            let [first_moment, second_moment] = update.state else {
                unreachable!("a rule gets a tensor for each of its state names")
            };
            let (parameter, grad) = (update.parameter, update.grad);
            AdamUpdate { parameter, grad, first_moment, second_moment, step: step(&update.step) }
        };
        updates.iter().map(update).collect()
    }

    fn validate(self) -> Result<()> {
        let Self { lr, betas, eps, weight_decay, .. } = self;
        require_rate("optimizer.lr", lr)?;
        require_decay("optimizer.weight_decay", weight_decay)?;
        let in_range = betas.iter().all(|beta| (0.0..1.0).contains(beta));
        let expected = "two numbers in 0..1, 1 excluded";
        require(in_range, "optimizer.betas", format!("{betas:?}"), expected)?;
        require(eps > 0.0 && eps.is_finite(), "optimizer.eps", eps, "a positive number")
    }
}

macro_rules! rule {
    ($type:ident, $name:literal, decoupled: $decoupled:literal) => {
        impl $type {
            fn shared(&self) -> Shared {
                let Self { lr, betas, eps, weight_decay } = *self;
                Shared { lr, betas, eps, weight_decay, decoupled: $decoupled }
            }
        }

        impl UpdateRule for $type {
            fn lr(&self) -> f64 {
                self.lr
            }

            fn weight_decay(&self) -> f64 {
                self.weight_decay
            }

            fn state_names(&self) -> &[&str] {
                STATE
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
                adam_steps(&self.shared().updates(updates)).map(Some)
            }

            fn update_all_scaled(
                &self,
                updates: &[Update<'_>],
                scale: &GradScale,
            ) -> TensorResult<Option<Finite>> {
                adam_steps_scaled(&self.shared().updates(updates), scale).map(Some)
            }

            fn is_capturable(&self) -> bool {
                true
            }

            fn describe(&self) -> Option<Description> {
                Some(self.clone().into())
            }

            fn validate(&self) -> Result<()> {
                self.shared().validate()
            }
        }

        impl From<$type> for Description {
            fn from(rule: $type) -> Self {
                described($name, &rule)
            }
        }
    };
}

rule!(Adam, "adam", decoupled: false);
rule!(AdamW, "adamw", decoupled: true);
