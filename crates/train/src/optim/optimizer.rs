//! An optimizer over named parameters.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use candle_vision_models::Parameter;
use candle_vision_ops::{AdamStep, Finite, SgdStep, adam_steps, sgd_steps, sums_of_squares};

use super::config::{require_decay, require_rate};
use super::slot::{Slot, key};
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
                let lr_ratio = group.lr / self.config.lr();
                self.slots.push(Slot::new(parameter, lr_ratio, group.weight_decay));
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
        let updated = self.update(grads, grad_scale)?;
        updated.first_not_finite()?.map_or(Ok(()), |parameter| {
            Err(Error::NotFinite { parameter: parameter.path().to_owned() })
        })
    }

    /// As [`Optimizer::step_scaled`], but without waiting for the device to find out whether the new
    /// values are finite: a GPU that is always given its next work in time never stands still.
    ///
    /// # Errors
    /// [`Error::MissingGradient`] as [`Optimizer::step`].
    pub fn update(&mut self, grads: &GradStore, grad_scale: f64) -> Result<Updated> {
        let untrained = self.slots.iter().find(|slot| slot.is_cut_off(grads));
        if let Some(slot) = untrained {
            return Err(Error::MissingGradient { parameter: slot.parameter.path().to_owned() });
        }
        for slot in &mut self.slots {
            if slot.gradient(grads).is_some() {
                slot.count_step(&self.config)?;
            }
        }
        let slots = self.slots.iter();
        let moving: Vec<(&Slot, &Tensor)> =
            slots.filter_map(|slot| Some((slot, slot.gradient(grads)?))).collect();
        let (lr, weight_decay) = (self.lr, self.config.weight_decay());
        let finite = match self.config {
            OptimizerConfig::Sgd { momentum, nesterov, dampening, .. } => {
                let step = SgdStep { lr, momentum, dampening, weight_decay, nesterov, grad_scale };
                let updates = moving.iter().map(|(slot, grad)| slot.sgd(grad, step));
                sgd_steps(&updates.collect::<Vec<_>>())?
            }
            OptimizerConfig::Adam { betas: [beta1, beta2], eps, .. }
            | OptimizerConfig::AdamW { betas: [beta1, beta2], eps, .. } => {
                let step = AdamStep {
                    lr,
                    beta1,
                    beta2,
                    eps,
                    weight_decay,
                    decoupled_weight_decay: matches!(self.config, OptimizerConfig::AdamW { .. }),
                    step: 0,
                    grad_scale,
                };
                let updates = moving.iter().map(|(slot, grad)| slot.adam(grad, step));
                adam_steps(&updates.collect::<Vec<_>>())?
            }
        };
        let parameters = moving.iter().map(|(slot, _)| slot.parameter.clone()).collect();
        Ok(Updated { finite, parameters })
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
        Err(Error::SavedState { name, problem: "belongs to no parameter".to_owned() })
    }
}

/// A step that was taken, or on a GPU is on its way.
#[derive(Debug)]
#[must_use = "only this knows whether the new values are finite"]
pub struct Updated {
    finite: Finite,
    parameters: Vec<Parameter>,
}

impl Updated {
    /// The first parameter with a NaN or an infinity after the step; waits for the step.
    ///
    /// # Errors
    /// If the device fails.
    pub fn first_not_finite(&self) -> Result<Option<&Parameter>> {
        let first = self.finite.first_not_finite()?;
        Ok(first.and_then(|first| self.parameters.get(first)))
    }
}

/// The Euclidean norm of the gradients of `parameters` taken together, as clipping measures it.
///
/// # Errors
/// If a gradient is no float.
pub fn grad_norm(parameters: &[Parameter], grads: &GradStore) -> Result<f64> {
    let grads = parameters.iter().filter_map(|parameter| grads.get(parameter.var()));
    Ok(sums_of_squares(&grads.collect::<Vec<_>>())?.sqrt())
}

#[cfg(test)]
mod tests;
