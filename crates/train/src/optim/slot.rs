//! The optimizer's state for one parameter.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use candle_vision_models::Parameter;

use super::steps_key;
use crate::{Error, Result};

/// A parameter and the optimizer's state for it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) parameter: Parameter,
    /// The ratio of its learning rate to the optimizer's.
    pub(super) lr_ratio: f64,
    pub(super) weight_decay: f64,
    /// Steps taken. Adam's corrections count from a parameter's own first step.
    pub(super) steps: u64,
    /// One tensor for each of the rule's state names. It is empty until it is needed.
    pub(super) state: Vec<Var>,
}

impl Slot {
    pub(super) fn new(parameter: Parameter, lr_ratio: f64, weight_decay: f64) -> Self {
        Self { parameter, lr_ratio, weight_decay, steps: 0, state: Vec::new() }
    }

    /// Whether the parameter should learn but has no gradient.
    pub(super) fn is_cut_off(&self, grads: &GradStore) -> bool {
        let parameter = &self.parameter;
        self.steps == 0 && parameter.is_trainable() && grads.get(parameter.var()).is_none()
    }

    /// Its gradient, if the parameter is trainable.
    pub(super) fn gradient<'g>(&self, grads: &'g GradStore) -> Option<&'g Tensor> {
        grads.get(self.parameter.var()).filter(|_| self.parameter.is_trainable())
    }

    /// Counts a step. Before the first one, makes the `count` state tensors.
    pub(super) fn count_step(&mut self, count: usize) -> Result<()> {
        self.make_state(count)?;
        self.steps += 1;
        Ok(())
    }

    /// Makes the `count` state tensors, unless they are there.
    pub(super) fn make_state(&mut self, count: usize) -> Result<()> {
        if self.state.len() != count {
            let var = self.parameter.var();
            let zeros = |_| Var::zeros(var.shape(), var.dtype(), var.device());
            self.state = (0..count).map(zeros).collect::<candle_core::Result<_>>()?;
        }
        Ok(())
    }

    /// Restores the state. Returns the number of tensors that it took.
    pub(super) fn load(
        &mut self,
        names: &[&str],
        state: &BTreeMap<String, Tensor>,
    ) -> Result<usize> {
        let path = self.parameter.path();
        let Some(steps) = state.get(&steps_key(path)) else {
            (self.steps, self.state) = (0, Vec::new());
            return Ok(0);
        };
        let vars = names.iter().map(|name| self.read(&key(name, path), state));
        let vars = vars.collect::<Result<_>>()?;
        self.steps = read_steps(steps).ok_or_else(|| {
            saved_state(&steps_key(path), "is not a positive whole number".to_owned())
        })?;
        self.state = vars;
        Ok(1 + names.len())
    }

    fn read(&self, name: &str, state: &BTreeMap<String, Tensor>) -> Result<Var> {
        let problem = |problem: String| saved_state(name, problem);
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

/// The name of a state tensor of a parameter.
pub(super) fn key(name: &str, path: &str) -> String {
    format!("{name}.{path}")
}

/// The error gives the tensor the name that it has in a checkpoint.
pub(super) fn saved_state(name: &str, problem: String) -> Error {
    Error::SavedState { name: format!("optimizer.{name}"), problem }
}

fn read_steps(tensor: &Tensor) -> Option<u64> {
    let steps = tensor.to_dtype(DType::I64).and_then(|tensor| tensor.to_scalar::<i64>()).ok()?;
    u64::try_from(steps).ok().filter(|&steps| steps > 0)
}
