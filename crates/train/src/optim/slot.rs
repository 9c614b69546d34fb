//! What an optimizer remembers of one parameter.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use candle_vision_models::Parameter;
use candle_vision_ops::{AdamStep, AdamUpdate, SgdStep, SgdUpdate};

use super::OptimizerConfig;
use crate::{Error, Result};

/// A parameter with what the optimizer knows of it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) parameter: Parameter,
    /// Its learning rate over the optimizer's.
    pub(super) lr_ratio: f64,
    pub(super) weight_decay: f64,
    /// Steps taken: Adam's corrections count from a parameter's own first step.
    pub(super) steps: u64,
    /// One tensor for each of the optimizer's state names; none before the first step.
    pub(super) state: Vec<Var>,
}

impl Slot {
    pub(super) fn new(parameter: Parameter, lr_ratio: f64, weight_decay: f64) -> Self {
        Self { parameter, lr_ratio, weight_decay, steps: 0, state: Vec::new() }
    }

    /// Whether it should learn but cannot.
    pub(super) fn is_cut_off(&self, grads: &GradStore) -> bool {
        let parameter = &self.parameter;
        self.steps == 0 && parameter.is_trainable() && grads.get(parameter.var()).is_none()
    }

    /// Its gradient, if it is to learn.
    pub(super) fn gradient<'g>(&self, grads: &'g GradStore) -> Option<&'g Tensor> {
        grads.get(self.parameter.var()).filter(|_| self.parameter.is_trainable())
    }

    /// Another step begins; in front of the first the state is made.
    pub(super) fn count_step(&mut self, config: &OptimizerConfig) -> Result<()> {
        if self.steps == 0 {
            let var = self.parameter.var();
            let zeros = |_| Var::zeros(var.shape(), var.dtype(), var.device());
            let state = config.state_names().iter().map(zeros);
            self.state = state.collect::<candle_core::Result<_>>()?;
        }
        self.steps += 1;
        Ok(())
    }

    /// `step`, which is the same for all parameters, with what is this one's own.
    pub(super) fn sgd<'a>(&'a self, grad: &'a Tensor, step: SgdStep) -> SgdUpdate<'a> {
        let step = SgdStep {
            lr: step.lr * self.lr_ratio,
            // PyTorch begins the momentum with the whole gradient.
            dampening: if self.steps == 1 { 0.0 } else { step.dampening },
            weight_decay: self.weight_decay,
            ..step
        };
        SgdUpdate { parameter: self.parameter.var(), grad, buffer: self.state.first(), step }
    }

    /// `step`, which is the same for all parameters, with what is this one's own.
    pub(super) fn adam<'a>(&'a self, grad: &'a Tensor, step: AdamStep) -> AdamUpdate<'a> {
        let [first_moment, second_moment] = &self.state[..] else {
            unreachable!("the first step made both moments")
        };
        let (lr, weight_decay) = (step.lr * self.lr_ratio, self.weight_decay);
        let step = AdamStep { lr, weight_decay, step: self.steps, ..step };
        AdamUpdate { parameter: self.parameter.var(), grad, first_moment, second_moment, step }
    }

    /// Returns how many tensors it took.
    pub(super) fn load(
        &mut self,
        names: &[&str],
        state: &BTreeMap<String, Tensor>,
    ) -> Result<usize> {
        let path = self.parameter.path();
        let Some(steps) = state.get(&key("step", path)) else {
            (self.steps, self.state) = (0, Vec::new());
            return Ok(0);
        };
        let vars = names.iter().map(|name| self.read(&key(name, path), state));
        let vars = vars.collect::<Result<_>>()?;
        self.steps = read_steps(steps).ok_or_else(|| Error::SavedState {
            name: key("step", path),
            problem: "is not a positive whole number".to_owned(),
        })?;
        self.state = vars;
        Ok(1 + names.len())
    }

    fn read(&self, name: &str, state: &BTreeMap<String, Tensor>) -> Result<Var> {
        let problem = |problem: String| Error::SavedState { name: name.to_owned(), problem };
        let Some(tensor) = state.get(name) else {
            return Err(problem("is missing".to_owned()));
        };
        let var = self.parameter.var();
        if tensor.dims() != var.dims() || tensor.dtype() != var.dtype() {
            let (found, expected) = (tensor.dims(), var.dims());
            let (found_type, expected_type) = (tensor.dtype(), var.dtype());
            return Err(problem(format!(
                "is {found:?} of {found_type:?}, expected {expected:?} of {expected_type:?}"
            )));
        }
        Ok(Var::from_tensor(&tensor.to_device(var.device())?)?)
    }
}

/// The name of a part of a parameter's state in a file.
pub(super) fn key(name: &str, path: &str) -> String {
    format!("optimizer.{name}.{path}")
}

/// The name under which the number of a parameter's steps is saved: it is there once one was taken.
pub(crate) fn steps_key(path: &str) -> String {
    key("step", path)
}

fn read_steps(tensor: &Tensor) -> Option<u64> {
    let steps = tensor.to_dtype(DType::I64).and_then(|tensor| tensor.to_scalar::<i64>()).ok()?;
    u64::try_from(steps).ok().filter(|&steps| steps > 0)
}
