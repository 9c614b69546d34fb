//! Muon: momentum whose singular values are made equal.

use candle_core::{Result as TensorResult, Tensor, Var};
use candle_vision_models::Parameter;
use candle_vision_ops::{
    Finite, GradScale, SgdStep, SgdUpdate, matmul, only_collects_numbers, over_norm, sgd_steps,
    sgd_steps_scaled, transpose,
};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Step, Update, UpdateRule, require_decay, require_rate};
use crate::accumulation::in_order;
use crate::error::require;
use crate::parts::described;
use crate::{Error, Result};

/// Muon, as PyTorch's `Muon` (Jordan 2024, <https://kellerjordan.github.io/posts/muon/>): the momentum of a matrix is
/// replaced by the nearest matrix with equal singular values, as far as a few Newton-Schulz steps get.
///
/// It is for matrices and for kernels, which count as matrices with one row for each output channel. It refuses
/// parameters of rank 1. Biases, norms and the classifier get an optimizer of their own in a group of parameters.
///
/// In a recipe: `optimizer = { name = "muon", lr = 0.24 }` and
/// `param_groups = [{ pattern = "**.bias", optimizer = { name = "sgd", lr = 0.1 } }]`.
///
/// It differs from PyTorch's in three points. The Newton-Schulz steps run in the parameter's number type, where PyTorch
/// takes `bfloat16`. Kernels are accepted. `normalize` is new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Muon {
    lr: f64,
    #[serde(default = "default_weight_decay")]
    weight_decay: f64,
    #[serde(default = "default_momentum")]
    momentum: f64,
    #[serde(default = "default_nesterov")]
    nesterov: bool,
    #[serde(default = "default_ns_coefficients")]
    ns_coefficients: [f64; 3],
    #[serde(default = "default_eps")]
    eps: f64,
    #[serde(default = "default_ns_steps")]
    ns_steps: usize,
    #[serde(default)]
    adjust_lr_fn: AdjustLr,
    #[serde(default)]
    normalize: bool,
}

/// How [`Muon`] adjusts the learning rate to a matrix of `rows` by `columns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdjustLr {
    /// Times the square root of `rows / columns` where there are more rows than columns.
    #[default]
    Original,
    /// Times a fifth of the square root of the larger side, so that a step is as large as one of AdamW.
    MatchRmsAdamw,
}

impl AdjustLr {
    fn factor(self, rows: usize, columns: usize) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self {
            Self::Original => (rows / columns).max(1.0).sqrt(),
            Self::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        }
    }
}

fn default_weight_decay() -> f64 {
    0.1
}

fn default_momentum() -> f64 {
    0.95
}

fn default_nesterov() -> bool {
    true
}

fn default_ns_coefficients() -> [f64; 3] {
    [3.4445, -4.775, 2.0315]
}

fn default_eps() -> f64 {
    1e-7
}

fn default_ns_steps() -> usize {
    5
}

impl Muon {
    /// PyTorch's defaults with this learning rate, which must be positive.
    pub fn new(lr: f64) -> Self {
        Self {
            lr,
            weight_decay: default_weight_decay(),
            momentum: default_momentum(),
            nesterov: default_nesterov(),
            ns_coefficients: default_ns_coefficients(),
            eps: default_eps(),
            ns_steps: default_ns_steps(),
            adjust_lr_fn: AdjustLr::default(),
            normalize: false,
        }
    }

    /// In each step a parameter shrinks by this factor times the learning rate. 0.1 by default.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Share of the last direction that is kept, in `0.0..1.0`. 0.95 by default.
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Whether to look ahead along the momentum. `true` by default.
    pub fn nesterov(self, nesterov: bool) -> Self {
        Self { nesterov, ..self }
    }

    /// Number of Newton-Schulz steps. 5 by default.
    pub fn ns_steps(self, steps: usize) -> Self {
        Self { ns_steps: steps, ..self }
    }

    /// How the learning rate is adjusted to the shape of a matrix.
    pub fn adjust_lr_fn(self, adjust_lr_fn: AdjustLr) -> Self {
        Self { adjust_lr_fn, ..self }
    }

    /// Whether each step first scales the matrix so that its rows have a root mean square norm of 1, as the CIFAR-10
    /// speed records do. Batch norm behind a convolution takes the scale off again, so only the step's size relative to
    /// the kernel changes. `false` by default.
    pub fn normalize(self, normalize: bool) -> Self {
        Self { normalize, ..self }
    }

    /// The direction of a step, of the parameter's shape, with the adjustment of the learning rate in it. `grad` is scaled.
    fn direction(
        &self,
        grad: &Tensor,
        momentum: &Var,
        scale: Option<&GradScale>,
    ) -> TensorResult<Tensor> {
        let kept = self.momentum;
        let mixed = |momentum: &Tensor| (momentum * kept)? + (grad * (1.0 - kept))?;
        let moved = mixed(&momentum.as_detached_tensor())?;
        set(momentum, &moved, scale)?;
        let direction = if self.nesterov { mixed(&moved)? } else { moved };
        let matrix = direction.flatten_from(1)?;
        let (rows, columns) = matrix.dims2()?;
        let orthogonal = newton_schulz(&matrix, self.ns_coefficients, self.ns_steps, self.eps)?;
        (orthogonal * self.adjust_lr_fn.factor(rows, columns))?.reshape(grad.shape())
    }

    /// The step of all parameters, whose gradients are multiplied by `scale` as well.
    fn step_all(
        &self,
        updates: &[Update<'_>],
        scale: Option<&GradScale>,
    ) -> TensorResult<Option<Finite>> {
        let mut directions = Vec::with_capacity(updates.len());
        if !only_collects_numbers() {
            for Update { parameter, grad, state, step } in updates {
                let [momentum] = state else {
                    unreachable!("a rule gets a tensor for each of its state names")
                };
                let mut grad = in_order(&grad.detach())?;
                if step.grad_scale != 1.0 {
                    grad = (grad * step.grad_scale)?;
                }
                if let Some(scale) = scale {
                    grad = scale.apply_to(&grad)?;
                }
                if self.normalize {
                    normalize(parameter, scale)?;
                }
                directions.push(self.direction(&grad, momentum, scale)?);
            }
        }
        let steps = updates.iter().enumerate().map(|(at, update)| SgdUpdate {
            parameter: update.parameter,
            // Nobody reads it where only numbers are collected.
            grad: directions.get(at).unwrap_or(update.grad),
            buffer: None,
            step: SgdStep {
                lr: update.step.lr,
                momentum: 0.0,
                dampening: 0.0,
                weight_decay: update.step.weight_decay,
                nesterov: false,
                grad_scale: 1.0,
            },
        });
        let steps: Vec<_> = steps.collect();
        match scale {
            None => sgd_steps(&steps),
            // Without its factor, which the directions have in them. It is not looked at where only numbers are collected.
            Some(scale) if only_collects_numbers() => sgd_steps_scaled(&steps, scale),
            Some(scale) => sgd_steps_scaled(&steps, &scale.when_applied()?),
        }
        .map(Some)
    }
}

/// Sets `place` to `values`, unless the scale says that the gradients must not be used.
fn set(place: &Var, values: &Tensor, scale: Option<&GradScale>) -> TensorResult<()> {
    scale.map_or_else(|| place.set(values), |scale| scale.set(place, values))
}

/// The matrix with its singular values `s` moved towards 1: the odd polynomial `a s + b s^3 + c s^5` of the coefficients
/// `[a, b, c]` is applied to them `steps` times, after the matrix was divided by its norm, or by `eps` if that is larger.
///
/// # Shapes
/// `[rows, columns]` to `[rows, columns]`
fn newton_schulz(
    matrix: &Tensor,
    [a, b, c]: [f64; 3],
    steps: usize,
    eps: f64,
) -> TensorResult<Tensor> {
    let (rows, columns) = matrix.dims2()?;
    // The products with the smaller side are the smaller ones.
    let is_tall = rows > columns;
    let x = if is_tall { transpose(matrix, 0, 1)? } else { matrix.contiguous()? };
    let mut x = over_norm(&x, 1.0, eps)?;
    for _ in 0..steps {
        let gram = matmul(&x, &transpose(&x, 0, 1)?)?;
        let polynomial = ((&gram * b)? + (matmul(&gram, &gram)? * c)?)?;
        x = ((&x * a)? + matmul(&polynomial, &x)?)?;
    }
    if is_tall { transpose(&x, 0, 1) } else { Ok(x) }
}

/// Scales a matrix of so many rows to the norm of a matrix whose rows have a norm of 1.
fn normalize(parameter: &Var, scale: Option<&GradScale>) -> TensorResult<()> {
    let values = parameter.as_detached_tensor();
    let rows = values.dims().first().copied().unwrap_or_default() as f64;
    // A kernel of zeros stays one.
    set(parameter, &over_norm(&values, rows.sqrt(), 1e-30)?, scale)
}

impl UpdateRule for Muon {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn state_names(&self) -> &[&str] {
        &["momentum"]
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
        self.step_all(updates, None)
    }

    fn update_all_scaled(
        &self,
        updates: &[Update<'_>],
        scale: &GradScale,
    ) -> TensorResult<Option<Finite>> {
        self.step_all(updates, Some(scale))
    }

    fn is_capturable(&self) -> bool {
        true
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn check_parameter(&self, parameter: &Parameter) -> Result<()> {
        if parameter.var().rank() > 1 {
            return Ok(());
        }
        let setting = format!("optimizer of `{}`", parameter.path());
        let expected = "an optimizer for vectors, such as `sgd`: give it to a group of parameters";
        Err(Error::setting(setting, "muon", expected))
    }

    fn validate(&self) -> Result<()> {
        let Self { momentum, eps, ns_steps, ns_coefficients, .. } = *self;
        require_rate("optimizer.lr", self.lr)?;
        require_decay("optimizer.weight_decay", self.weight_decay)?;
        let fraction = "in 0..1, 1 excluded";
        require((0.0..1.0).contains(&momentum), "optimizer.momentum", momentum, fraction)?;
        require(eps > 0.0 && eps.is_finite(), "optimizer.eps", eps, "a positive number")?;
        require((1..100).contains(&ns_steps), "optimizer.ns_steps", ns_steps, "in 1..100")?;
        let are_finite = ns_coefficients.iter().all(|number| number.is_finite());
        let found = format!("{ns_coefficients:?}");
        require(are_finite, "optimizer.ns_coefficients", found, "three finite numbers")
    }
}

impl From<Muon> for Description {
    fn from(rule: Muon) -> Self {
        described("muon", &rule)
    }
}

#[cfg(test)]
mod tests;
