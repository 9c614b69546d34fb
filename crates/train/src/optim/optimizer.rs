//! An optimizer over named parameters.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_vision_models::Parameter;
use candle_vision_ops::{AdamStep, SgdStep, adam_step, sgd_step, sum_of_squares};

use super::config::{require_decay, require_rate};
use super::{OptimizerConfig, ParamGroup};
use crate::{Error, Result};

/// Updates parameters by their gradients, in place, with PyTorch's arithmetic.
///
/// Differs from candle's optimizers in that a trainable parameter without a gradient is an error
/// instead of a parameter that silently never learns, that what it remembers has names and can be
/// saved, and that a value that stops being finite is noticed in the same step.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    lr: f64,
    slots: Vec<Slot>,
}

/// A parameter with what the optimizer knows of it.
#[derive(Debug)]
struct Slot {
    parameter: Parameter,
    /// Its learning rate over the optimizer's.
    lr_ratio: f64,
    weight_decay: f64,
    /// Steps taken: Adam's corrections count from a parameter's own first step.
    steps: u64,
    /// One tensor for each of the optimizer's state names; none before the first step.
    state: Vec<Var>,
}

impl Optimizer {
    /// An optimizer that has taken no step yet.
    ///
    /// # Errors
    /// If a setting is impossible, or a parameter is in two groups.
    pub fn new(config: &OptimizerConfig, groups: Vec<ParamGroup>) -> Result<Self> {
        config.validate()?;
        let mut optimizer = Self { config: config.clone(), lr: config.lr(), slots: Vec::new() };
        optimizer.add(groups)?;
        Ok(optimizer)
    }

    /// Takes in more parameters, for instance those that were frozen until now. The groups' rates
    /// are relative to the rate the optimizer began with, as in [`Optimizer::new`].
    ///
    /// # Errors
    /// If a setting is impossible, or a parameter is there already.
    pub fn add(&mut self, groups: Vec<ParamGroup>) -> Result<()> {
        let slots = self.slots.iter();
        let mut known: BTreeSet<String> =
            slots.map(|slot| slot.parameter.path().to_owned()).collect();
        for group in groups {
            require_rate("lr of a parameter group", group.lr)?;
            require_decay("weight_decay of a parameter group", group.weight_decay)?;
            for parameter in group.parameters {
                let path = parameter.path().to_owned();
                if known.contains(&path) {
                    let expected = "one to which each parameter belongs once";
                    return Err(Error::setting(
                        "parameter groups",
                        format!("`{path}` twice"),
                        expected,
                    ));
                }
                known.insert(path);
                self.slots.push(Slot {
                    parameter,
                    lr_ratio: group.lr / self.config.lr(),
                    weight_decay: group.weight_decay,
                    steps: 0,
                    state: Vec::new(),
                });
            }
        }
        Ok(())
    }

    /// The learning rate of parameters in no special group.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Changes the learning rate; groups keep their ratio to it.
    pub fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    /// One step for every parameter that is trainable now.
    ///
    /// # Errors
    /// - [`Error::MissingGradient`] if a trainable parameter has no gradient in its first step; no
    ///   parameter has changed then
    /// - [`Error::NotFinite`] if a parameter has a NaN or an infinity after the step
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.step_scaled(grads, 1.0)
    }

    /// As [`Optimizer::step`] with every gradient multiplied by `grad_scale`, as clipping asks.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step_scaled(&mut self, grads: &GradStore, grad_scale: f64) -> Result<()> {
        let untrained = self.slots.iter().find(|slot| slot.is_cut_off(grads));
        if let Some(slot) = untrained {
            return Err(Error::MissingGradient { parameter: slot.parameter.path().to_owned() });
        }
        let mut not_finite = None;
        for slot in self.slots.iter_mut().filter(|slot| slot.parameter.is_trainable()) {
            let Some(grad) = grads.get(slot.parameter.var()) else {
                continue;
            };
            let finite = slot.step(&self.config, self.lr * slot.lr_ratio, grad, grad_scale)?;
            if !finite && not_finite.is_none() {
                not_finite = Some(slot.parameter.path().to_owned());
            }
        }
        not_finite.map_or(Ok(()), |parameter| Err(Error::NotFinite { parameter }))
    }

    /// What it remembers, by name: `optimizer.step.PATH` (how many steps a parameter has taken),
    /// `optimizer.momentum.PATH`, `optimizer.exp_avg.PATH`, `optimizer.exp_avg_sq.PATH`. The tensors
    /// share memory with the optimizer: write them to a file before the next step.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for slot in self.slots.iter().filter(|slot| slot.steps > 0) {
            let path = slot.parameter.path();
            let steps = Tensor::new(slot.steps as i64, &Device::Cpu)?;
            tensors.insert(key("step", path), steps);
            for (name, var) in self.config.state_names().iter().zip(&slot.state) {
                tensors.insert(key(name, path), var.as_detached_tensor());
            }
        }
        Ok(tensors)
    }

    /// Takes back what [`Optimizer::state`] gave. A parameter it does not name begins anew.
    ///
    /// # Errors
    /// If a tensor is missing, is left over or does not fit its parameter.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut used = 0;
        for slot in &mut self.slots {
            used += slot.load(self.config.state_names(), state)?;
        }
        if used == state.len() {
            return Ok(());
        }
        let known: BTreeSet<String> = self.state()?.into_keys().collect();
        let name = state.keys().find(|name| !known.contains(*name)).cloned().unwrap_or_default();
        Err(Error::OptimizerState { name, problem: "belongs to no parameter".to_owned() })
    }
}

fn key(name: &str, path: &str) -> String {
    format!("optimizer.{name}.{path}")
}

impl Slot {
    /// Whether it should learn but cannot.
    fn is_cut_off(&self, grads: &GradStore) -> bool {
        let parameter = &self.parameter;
        self.steps == 0 && parameter.is_trainable() && grads.get(parameter.var()).is_none()
    }

    /// Returns whether all values are finite afterwards.
    fn step(
        &mut self,
        config: &OptimizerConfig,
        lr: f64,
        grad: &Tensor,
        grad_scale: f64,
    ) -> Result<bool> {
        let var = self.parameter.var();
        if self.steps == 0 {
            let names = config.state_names();
            let zeros = || Var::zeros(var.shape(), var.dtype(), var.device());
            self.state = names.iter().map(|_| zeros()).collect::<candle_core::Result<_>>()?;
        }
        self.steps += 1;
        let finite = match *config {
            OptimizerConfig::Sgd { momentum, nesterov, dampening, .. } => {
                // PyTorch begins the momentum with the whole gradient.
                let dampening = if self.steps == 1 { 0.0 } else { dampening };
                let weight_decay = self.weight_decay;
                let step = SgdStep { lr, momentum, dampening, weight_decay, nesterov, grad_scale };
                sgd_step(var, grad, self.state.first(), &step)?
            }
            OptimizerConfig::Adam { betas, eps, .. }
            | OptimizerConfig::AdamW { betas, eps, .. } => {
                let [first_moment, second_moment] = &self.state[..] else {
                    unreachable!("the first step made both moments")
                };
                let step = AdamStep {
                    lr,
                    beta1: betas[0],
                    beta2: betas[1],
                    eps,
                    weight_decay: self.weight_decay,
                    decoupled_weight_decay: matches!(config, OptimizerConfig::AdamW { .. }),
                    step: self.steps,
                    grad_scale,
                };
                adam_step(var, grad, first_moment, second_moment, &step)?
            }
        };
        Ok(finite)
    }

    /// Returns how many tensors it took.
    fn load(&mut self, names: &[&str], state: &BTreeMap<String, Tensor>) -> Result<usize> {
        let path = self.parameter.path();
        let Some(steps) = state.get(&key("step", path)) else {
            (self.steps, self.state) = (0, Vec::new());
            return Ok(0);
        };
        let vars = names.iter().map(|name| self.read(&key(name, path), state));
        let vars = vars.collect::<Result<_>>()?;
        self.steps = read_steps(steps).ok_or_else(|| Error::OptimizerState {
            name: key("step", path),
            problem: "is not a positive whole number".to_owned(),
        })?;
        self.state = vars;
        Ok(1 + names.len())
    }

    fn read(&self, name: &str, state: &BTreeMap<String, Tensor>) -> Result<Var> {
        let problem = |problem: String| Error::OptimizerState { name: name.to_owned(), problem };
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

fn read_steps(tensor: &Tensor) -> Option<u64> {
    let steps = tensor.to_dtype(DType::I64).and_then(|tensor| tensor.to_scalar::<i64>()).ok()?;
    u64::try_from(steps).ok().filter(|&steps| steps > 0)
}

/// The Euclidean norm of the gradients of `parameters` taken together, as clipping measures it.
///
/// # Errors
/// If a gradient is no float.
pub fn grad_norm(parameters: &[Parameter], grads: &GradStore) -> Result<f64> {
    let grads = parameters.iter().filter_map(|parameter| grads.get(parameter.var()));
    let squares = grads.map(sum_of_squares).sum::<candle_core::Result<f64>>()?;
    Ok(squares.sqrt())
}

#[cfg(test)]
mod tests;
