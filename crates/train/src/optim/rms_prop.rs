//! RMSprop.

use candle_core::{Result as TensorResult, Tensor, Var};
use candle_vision_ops::{
    Finite, GradScale, RmsPropStep, RmsPropUpdate, rms_prop_steps, rms_prop_steps_scaled,
};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{Step, Update, UpdateRule, require_decay, require_rate};
use crate::Result;
use crate::error::require;
use crate::parts::described;

/// Divides gradients by the root of a running mean of their squares, as PyTorch's `RMSprop`.
///
/// In a recipe: `optimizer = { name = "rmsprop", lr = 0.01 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsProp {
    lr: f64,
    #[serde(default = "default_alpha")]
    alpha: f64,
    #[serde(default = "default_eps")]
    eps: f64,
    #[serde(default)]
    weight_decay: f64,
    #[serde(default)]
    momentum: f64,
    #[serde(default)]
    centered: bool,
}

fn default_alpha() -> f64 {
    0.99
}

fn default_eps() -> f64 {
    1e-8
}

impl RmsProp {
    /// PyTorch's defaults with this learning rate, which must be positive.
    pub fn new(lr: f64) -> Self {
        let (alpha, eps) = (default_alpha(), default_eps());
        Self { lr, alpha, eps, weight_decay: 0.0, momentum: 0.0, centered: false }
    }

    /// Share of the running mean square that is kept in each step, in `0.0..=1.0`. 0.99 by default.
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha, ..self }
    }

    /// Term added to the divisor. 1e-8 by default.
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Factor of the parameter that is added to its gradient. 0 by default.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Share of the last direction that is kept. 0 by default.
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Whether to divide by the standard deviation instead of the root mean square.
    pub fn centered(self, centered: bool) -> Self {
        Self { centered, ..self }
    }
}

impl RmsProp {
    fn update_of<'a>(&self, update: &Update<'a>) -> RmsPropUpdate<'a> {
        let Update { parameter, grad, state, step } = *update;
        RmsPropUpdate {
            parameter,
            grad,
            square_avg: &state[0],
            grad_avg: self.centered.then(|| &state[1]),
            buffer: state.last().filter(|_| self.momentum > 0.0),
            step: RmsPropStep {
                lr: step.lr,
                alpha: self.alpha,
                eps: self.eps,
                weight_decay: step.weight_decay,
                momentum: self.momentum,
                grad_scale: step.grad_scale,
            },
        }
    }
}

impl UpdateRule for RmsProp {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    fn state_names(&self) -> &[&str] {
        match (self.momentum > 0.0, self.centered) {
            (false, false) => &["square_avg"],
            (true, false) => &["square_avg", "momentum_buffer"],
            (false, true) => &["square_avg", "grad_avg"],
            (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
        }
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
        let updates: Vec<_> = updates.iter().map(|update| self.update_of(update)).collect();
        rms_prop_steps(&updates).map(Some)
    }

    fn update_all_scaled(
        &self,
        updates: &[Update<'_>],
        scale: &GradScale,
    ) -> TensorResult<Option<Finite>> {
        let updates: Vec<_> = updates.iter().map(|update| self.update_of(update)).collect();
        rms_prop_steps_scaled(&updates, scale).map(Some)
    }

    fn is_capturable(&self) -> bool {
        true
    }

    fn describe(&self) -> Option<Description> {
        Some(self.clone().into())
    }

    fn validate(&self) -> Result<()> {
        let Self { alpha, eps, momentum, .. } = *self;
        require_rate("optimizer.lr", self.lr)?;
        require_decay("optimizer.weight_decay", self.weight_decay)?;
        require((0.0..=1.0).contains(&alpha), "optimizer.alpha", alpha, "in 0..=1")?;
        require(eps > 0.0 && eps.is_finite(), "optimizer.eps", eps, "a positive number")?;
        let valid = momentum >= 0.0 && momentum.is_finite();
        require(valid, "optimizer.momentum", momentum, "0 or a positive number")
    }
}

impl From<RmsProp> for Description {
    fn from(rule: RmsProp) -> Self {
        described("rmsprop", &rule)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_vision_models::{Init, Parameters};

    use super::*;
    use crate::optim::Optimizer;

    // for kw in [dict(), dict(momentum=0.9, weight_decay=0.1), dict(alpha=0.9, centered=True),
    //            dict(eps=0.1, momentum=0.5, centered=True)]:
    //     x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    //     opt = torch.optim.RMSprop([x], lr=0.01, **kw)
    //     for step in range(5):
    //         opt.zero_grad()
    //         (x ** 3 + x * (step + 1)).sum().backward()
    //         opt.step()
    //     print([f"{v:.12f}" for v in x.tolist()])
    #[test]
    fn five_steps_are_pytorchs() {
        let rule = RmsProp::new(0.01);
        check(&rule, [0.645290420649, -2.354963073097, 0.111591530519]);
        let heavy = rule.clone().momentum(0.9).weight_decay(0.1);
        check(&heavy, [0.016175309220, -3.040155524636, -0.578307491055]);
        let centered = rule.clone().alpha(0.9).centered(true);
        check(&centered, [0.863566046266, -2.130825555852, 0.354901623991]);
        let all = rule.eps(0.1).momentum(0.5).centered(true);
        check(&all, [0.491519284039, -2.579584769757, 0.005068911091]);
    }

    #[track_caller]
    fn check(rule: &RmsProp, expected: [f64; 3]) {
        let parameters = Parameters::new();
        let vb = parameters.builder(0, DType::F64, &Device::Cpu);
        let x = vb.weight("x", &[3], Init::Constant(0.0)).unwrap();
        x.set(&Tensor::new(&[1f64, -2.0, 0.5], &Device::Cpu).unwrap()).unwrap();
        let mut optimizer = rule.clone().optimizer(parameters.trainable()).unwrap();
        for step in 0..5 {
            let x = x.var().as_tensor();
            let cube = (x * x).and_then(|square| square * x).unwrap();
            let loss = (cube + (x * f64::from(step + 1)).unwrap()).and_then(|sum| sum.sum_all());
            optimizer.step(&loss.unwrap().backward().unwrap()).unwrap();
        }
        let found = x.detached().to_vec1::<f64>().unwrap();
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-11, "{rule:?}: {found}, expected {expected}");
        }
    }
}
