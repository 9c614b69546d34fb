//! An optimizer that treats each parameter in the same way and independently of the others.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use candle_vision_ops::{Finite, GradScale};
use candle_vision_registry::Description;

use super::slot::{Slot, key, saved_state};
use super::{
    Optimizer, ParamGroup, Step, Update, UpdateRule, Updated, require_decay, require_rate,
    steps_key,
};
use crate::{Error, Result};

/// An [`Optimizer`] over named parameters, made from a rule for one parameter.
///
/// It differs from candle's optimizers in three points. A trainable parameter without a gradient is an
/// error, while candle's would silently never train it. The state has names and can be saved. A value that
/// stops being finite is noticed in the same step.
///
/// # Example
/// A backbone that learns ten times slower than the head, without weight decay of biases and norms:
/// ```
/// use candle_vision_models::{ModelSpec, build};
/// use candle_vision_train::optim::{AdamW, Optimizer, ParamGroup, PerParameter};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("mlp", 10), 0, &candle_core::Device::Cpu)?;
/// let mut optimizer = PerParameter::new(AdamW::new(1e-3))?;
/// let [head, backbone] =
///     ParamGroup::new(model.parameters().trainable()).split_by_prefix(&model.head());
/// let groups = [head, backbone.lr(1e-4)];
/// optimizer.add(groups.into_iter().flat_map(ParamGroup::without_decay_of_vectors).collect())?;
/// assert_eq!(optimizer.lr(), 1e-3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PerParameter<R> {
    rule: R,
    lr: f64,
    slots: Vec<Slot>,
    /// The description, if it does not come from the rule.
    description: Option<Description>,
}

impl<R: UpdateRule> PerParameter<R> {
    /// An optimizer without parameters.
    ///
    /// # Errors
    /// If a setting of the rule is impossible.
    pub fn new(rule: R) -> Result<Self> {
        rule.validate()?;
        let lr = rule.lr();
        Ok(Self { rule, lr, slots: Vec::new(), description: None })
    }

    /// Sets name and settings, for a rule that does not describe itself.
    pub fn described(self, description: Description) -> Self {
        Self { description: Some(description), ..self }
    }

    /// The slots that take a step, and the step of each.
    fn moving<'a>(
        &'a self,
        grads: &'a GradStore,
        grad_scale: f64,
    ) -> impl Iterator<Item = (&'a Slot, Update<'a>)> {
        self.slots.iter().filter_map(move |slot| {
            let step = Step {
                lr: self.lr * slot.lr_ratio,
                weight_decay: slot.weight_decay,
                number: slot.steps,
                grad_scale,
            };
            let (parameter, grad) = (slot.parameter.var(), slot.gradient(grads)?);
            Some((slot, Update { parameter, grad, state: &slot.state, step }))
        })
    }

    /// Counts a step of all parameters with gradients, and lets the rule take it.
    fn step_by(
        &mut self,
        grads: &GradStore,
        grad_scale: f64,
        update_all: impl FnOnce(&R, &[Update<'_>]) -> candle_core::Result<Option<Finite>>,
    ) -> Result<Updated> {
        let untrained = self.slots.iter().find(|slot| slot.is_cut_off(grads));
        if let Some(slot) = untrained {
            return Err(Error::MissingGradient { parameter: slot.parameter.path().to_owned() });
        }
        let count = self.rule.state_names().len();
        for slot in &mut self.slots {
            if slot.gradient(grads).is_some() {
                slot.count_step(count)?;
            }
        }
        let (slots, updates): (Vec<&Slot>, Vec<Update<'_>>) =
            self.moving(grads, grad_scale).unzip();
        let finite = update_all(&self.rule, &updates);
        let parameters = slots.into_iter().map(|slot| slot.parameter.clone()).collect();
        match finite {
            Ok(Some(finite)) => Ok(Updated::seen(finite, parameters)),
            Ok(None) => Updated::of(parameters),
            Err(error) => {
                self.take_back_step();
                Err(error.into())
            }
        }
    }
}

impl<R: UpdateRule> Optimizer for PerParameter<R> {
    fn fresh(&self) -> Box<dyn Optimizer> {
        let (rule, description) = (self.rule.clone(), self.description.clone());
        let lr = rule.lr();
        Box::new(Self { rule, lr, slots: Vec::new(), description })
    }

    fn describe(&self) -> Option<Description> {
        self.description.clone().or_else(|| self.rule.describe())
    }

    fn add(&mut self, groups: Vec<ParamGroup>) -> Result<()> {
        let slots = self.slots.iter();
        let mut known: BTreeSet<String> =
            slots.map(|slot| slot.parameter.path().to_owned()).collect();
        for group in groups {
            let weight_decay = group.weight_decay.unwrap_or_else(|| self.rule.weight_decay());
            let lr = group.lr.unwrap_or_else(|| self.rule.lr());
            if let Some(optimizer) = &group.optimizer {
                let expected = "none, because this optimizer has one rule for all its parameters";
                let setting = "optimizer of a parameter group";
                return Err(Error::setting(setting, &optimizer.name, expected));
            }
            if let Some(epochs) = group.epochs {
                let expected = "not given, because no trainer sets the rates of this optimizer";
                return Err(Error::setting("epochs of a parameter group", epochs, expected));
            }
            require_rate("lr of a parameter group", lr)?;
            require_decay("weight_decay of a parameter group", weight_decay)?;
            for parameter in group.parameters {
                self.rule.check_parameter(&parameter)?;
                let path = parameter.path().to_owned();
                if !known.insert(path.clone()) {
                    let expected = "one to which each parameter belongs once";
                    let twice = format!("`{path}` twice");
                    return Err(Error::setting("parameter groups", twice, expected));
                }
                self.slots.push(Slot::new(parameter, lr / self.rule.lr(), weight_decay));
            }
        }
        Ok(())
    }

    fn state_tensors(&self) -> usize {
        self.rule.state_names().len()
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn update(&mut self, grads: &GradStore, grad_scale: f64) -> Result<Updated> {
        self.step_by(grads, grad_scale, R::update_all)
    }

    fn update_scaled(&mut self, grads: &GradStore, scale: &GradScale) -> Result<Updated> {
        self.step_by(grads, 1.0, |rule, updates| rule.update_all_scaled(updates, scale))
    }

    fn is_capturable(&self) -> bool {
        self.rule.is_capturable()
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn make_state(&mut self) -> Result<()> {
        let count = self.rule.state_names().len();
        let mut moving = self.slots.iter_mut().filter(|slot| slot.parameter.is_trainable());
        moving.try_for_each(|slot| slot.make_state(count))
    }

    fn take_back_step(&mut self) {
        for slot in &mut self.slots {
            if slot.parameter.is_trainable() {
                slot.steps = slot.steps.saturating_sub(1);
            }
        }
    }

    /// `step.PATH` is the number of steps that a parameter has taken. There is also a `NAME.PATH` for each
    /// of the rule's state names.
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for slot in self.slots.iter().filter(|slot| slot.steps > 0) {
            let path = slot.parameter.path();
            let steps = Tensor::new(slot.steps as i64, &Device::Cpu)?;
            tensors.insert(steps_key(path), steps);
            for (name, var) in self.rule.state_names().iter().zip(&slot.state) {
                tensors.insert(key(name, path), var.as_detached_tensor());
            }
        }
        Ok(tensors)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut used = 0;
        for slot in &mut self.slots {
            used += slot.load(self.rule.state_names(), state)?;
        }
        if used == state.len() {
            return Ok(());
        }
        let known: BTreeSet<String> = self.state()?.into_keys().collect();
        let name = state.keys().find(|name| !known.contains(*name)).cloned().unwrap_or_default();
        Err(saved_state(&name, "belongs to no parameter".to_owned()))
    }
}

#[cfg(test)]
mod tests;
