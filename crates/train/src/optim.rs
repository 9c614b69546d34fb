//! Optimizers with PyTorch's arithmetic, over groups of parameters.
//!
//! An [`UpdateRule`] says how one parameter changes by its gradient. [`PerParameter`] makes an
//! [`Optimizer`] from a rule. It handles groups of parameters, the rule's state for each parameter, saving
//! and loading. [`Optimizers`] lists the ones that recipes can name.

mod adam;
mod group;
mod grouped;
mod muon;
mod per_parameter;
mod rms_prop;
mod rule;
mod sgd;
mod sharded;
mod slot;

use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_vision_models::Parameter;
use candle_vision_ops::{GradScale, sums_of_squares};
use candle_vision_registry::Description;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use adam::{Adam, AdamW};
pub use group::ParamGroup;
pub(crate) use grouped::{Grouped, Kind};
pub use muon::{AdjustLr, Muon};
pub use per_parameter::PerParameter;
pub use rms_prop::RmsProp;
pub use rule::{Step, Update, UpdateRule, Updated};
pub use sgd::Sgd;
pub(crate) use sharded::Sharded;

use crate::Result;
use crate::parts::{PartEntry, PartTable, try_described};

/// Changes parameters in place by their gradients.
///
/// Most optimizers treat each parameter in the same way and independently of the others. Such an optimizer
/// is an [`UpdateRule`], which is shorter to write than this trait.
pub trait Optimizer: Debug + Send {
    /// An optimizer with the same settings but without parameters, before its first step.
    fn fresh(&self) -> Box<dyn Optimizer>;

    /// Name and settings. A run with an optimizer without a description cannot be resumed.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// Adds parameters. Those that were frozen at first may be added later. A group's learning rate is
    /// relative to the rate that the optimizer began with.
    ///
    /// # Errors
    /// If a setting is impossible, or a parameter has already been added.
    fn add(&mut self, groups: Vec<ParamGroup>) -> Result<()>;

    /// Number of tensors of a parameter's size that the optimizer keeps for each parameter. It says what the state
    /// takes in memory before there is any. The default is 2, as Adam has: rather too many than too few.
    fn state_tensors(&self) -> usize {
        2
    }

    /// The learning rate of parameters in groups without their own.
    fn lr(&self) -> f64;

    /// Changes the learning rate. The rates of groups keep their ratio to it.
    fn set_lr(&mut self, lr: f64);

    /// Changes the learning rate of the groups that learn for `epochs` epochs ([`ParamGroup::epochs`]), as
    /// [`Optimizer::set_lr`] changes that of the others. The default does nothing: only a
    /// [`Trainer`](crate::Trainer) makes optimizers with such groups.
    fn set_lr_of_epochs(&mut self, epochs: usize, lr: f64) {
        let _ = (epochs, lr);
    }

    /// Takes one step for every parameter that is trainable now. Every gradient is multiplied by
    /// `grad_scale`. The step does not wait for the device to find out whether the new values are finite,
    /// because a GPU that always gets its next work in time never stands still.
    ///
    /// # Errors
    /// [`Error::MissingGradient`](crate::Error::MissingGradient) if a trainable parameter has no gradient
    /// in its first step. No parameter has changed then. An update that fails counts no step.
    fn update(&mut self, grads: &GradStore, grad_scale: f64) -> Result<Updated>;

    /// As [`Optimizer::update`], by a scale that was found from the gradients. If it says that they must not be used, no
    /// parameter changes, and [`Optimizer::take_back_step`] is to be called.
    ///
    /// The default waits for the scale and counts no step if nothing changes. An optimizer that [is
    /// capturable](Optimizer::is_capturable) does not wait, so it has counted the step.
    ///
    /// # Errors
    /// As [`Optimizer::update`].
    fn update_scaled(&mut self, grads: &GradStore, scale: &GradScale) -> Result<Updated> {
        match scale.factor()? {
            Some(factor) => self.update(grads, factor),
            None => Updated::of(Vec::new()),
        }
    }

    /// Whether a captured step holds what [`Optimizer::update`] and [`Optimizer::update_scaled`] ask a CUDA device for, see
    /// [`UpdateRule::is_capturable`]. Only then can it be repeated with new numbers. The default is `false`.
    fn is_capturable(&self) -> bool {
        false
    }

    /// Whether the step of each parameter depends on nothing but its own gradient, values and state, and the scale of all
    /// gradients. Only then can [ranks share out the state](crate::OptimizerState::Sharded). The names of the state's
    /// tensors end in a dot and the parameter's path. The default is `false`.
    fn is_shardable(&self) -> bool {
        false
    }

    /// Makes all state that the next update needs. What is made while a step is captured would be made anew in each
    /// repetition. Only an optimizer that [is capturable](Optimizer::is_capturable) needs this.
    ///
    /// # Errors
    /// If memory runs out.
    fn make_state(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes back that the last update was counted as a step, because the device did not take it. Only an optimizer that
    /// [is capturable](Optimizer::is_capturable) needs this.
    fn take_back_step(&mut self) {}

    /// The state to save, by name. There is a `step.PATH` for each parameter that has taken a step. The
    /// tensors may share memory with the optimizer, so write them to a file before the next step.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Restores what [`Optimizer::state`] returned. A parameter that is not named there starts anew.
    ///
    /// # Errors
    /// If a tensor is missing, is left over or does not fit its parameter.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;

    /// Takes one step for every parameter that is trainable now.
    ///
    /// # Errors
    /// - [`Error::MissingGradient`](crate::Error::MissingGradient) as [`Optimizer::update`]
    /// - [`Error::NotFinite`](crate::Error::NotFinite) if a parameter has a NaN or an infinity after the step
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.update(grads, 1.0)?.check()
    }
}

/// The optimizers that recipes can name.
pub type Optimizers = PartTable<dyn Optimizer>;

/// A row of [`Optimizers`].
pub type OptimizerEntry = PartEntry<dyn Optimizer>;

impl PartTable<dyn Optimizer> {
    /// The built-in optimizers.
    pub fn standard() -> Self {
        Self::of(
            "optimizer",
            [
                OptimizerEntry::of::<Sgd>(
                    "sgd",
                    "stochastic gradient descent, with momentum if wanted",
                ),
                OptimizerEntry::of::<Adam>("adam", "Adam; weight decay is added to the gradient"),
                OptimizerEntry::of::<AdamW>("adamw", "Adam with decoupled weight decay"),
                OptimizerEntry::of::<Muon>(
                    "muon",
                    "orthogonalised momentum, for matrices and kernels",
                ),
                OptimizerEntry::of::<RmsProp>(
                    "rmsprop",
                    "gradients over their running root mean square",
                ),
            ],
        )
    }
}

impl PartEntry<dyn Optimizer> {
    /// The entry of a rule. The fields of its struct are its settings.
    pub fn of<R>(name: &'static str, summary: &str) -> Self
    where
        R: UpdateRule + Serialize + DeserializeOwned,
    {
        Self::new(name, summary, move |description| {
            let rule: R = description.settings()?;
            let description = try_described(name, &rule)?;
            Ok(Box::new(PerParameter::new(rule)?.described(description)))
        })
    }
}

/// The Euclidean norm of the gradients of `parameters` taken together, as clipping measures it.
///
/// # Errors
/// If a gradient is not floating-point.
pub fn grad_norm(parameters: &[Parameter], grads: &GradStore) -> Result<f64> {
    let grads = parameters.iter().filter_map(|parameter| grads.get(parameter.var()));
    Ok(sums_of_squares(&grads.collect::<Vec<_>>())?.sqrt())
}

/// The name under which a parameter's number of steps is saved. It exists once a step was taken.
pub(crate) fn steps_key(path: &str) -> String {
    format!("step.{path}")
}

pub(crate) fn require_rate(setting: &str, lr: f64) -> Result<()> {
    let valid = lr > 0.0 && lr.is_finite();
    crate::error::require(valid, setting, lr, "a positive number, such as 0.001")
}

pub(crate) fn require_decay(setting: &str, decay: f64) -> Result<()> {
    let valid = decay >= 0.0 && decay.is_finite();
    crate::error::require(valid, setting, decay, "0 or a positive number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Box<dyn Optimizer>> {
        let description: Description = toml::from_str(text).expect("it is a table");
        Optimizers::standard().build(&description)
    }

    fn settings(text: &str) -> Description {
        read(text).unwrap().describe().unwrap()
    }

    #[test]
    fn defaults_are_pytorchs() {
        assert_eq!(settings("name = 'sgd'\nlr = 0.1"), Sgd::new(0.1).into());
        assert_eq!(settings("name = 'adam'\nlr = 1"), Adam::new(1.0).into());
        let adamw = settings("name = 'adamw'\nlr = 0.1");
        assert_eq!(adamw, AdamW::new(0.1).into());
        assert_eq!(adamw.settings["weight_decay"], 0.01);
    }

    #[test]
    fn state_is_counted_before_there_is_any() {
        let of = |text| read(text).unwrap().state_tensors();
        assert_eq!(of("name = 'sgd'\nlr = 0.1"), 0);
        assert_eq!(of("name = 'sgd'\nlr = 0.1\nmomentum = 0.9"), 1);
        assert_eq!(of("name = 'adamw'\nlr = 0.1"), 2);
        assert_eq!(of("name = 'rmsprop'\nlr = 0.1\nmomentum = 0.9\ncentered = true"), 3);
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &str) {
        assert_eq!(read(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn unknown_names_and_settings_are_answered_with_near_ones() {
        check_refused(
            "name = 'sgdd'\nlr = 0.1",
            "no optimizer is called `sgdd`; did you mean `sgd`?",
        );
        check_refused(
            "name = 'sgd'\nlr = 0.1\nmomentun = 0.9",
            "the settings of `sgd` are wrong: unknown field `momentun`; did you mean `momentum`?",
        );
        check_refused("name = 'adam'", "the settings of `adam` are wrong: missing field `lr`");
        assert!(read("name = 'adam'\nlr = 0.1\nmomentum = 0.9").is_err());
    }

    #[test]
    fn impossible_values_are_named() {
        let rate = "it must be a positive number, such as 0.001";
        check_refused("name = 'sgd'\nlr = 0.0", &format!("`optimizer.lr` is 0; {rate}"));
        check_refused("name = 'adam'\nlr = -1.0", &format!("`optimizer.lr` is -1; {rate}"));
        check_refused(
            "name = 'adam'\nlr = nan",
            "`optimizer.lr` is NaN or infinite; it must be a finite number",
        );
        check_refused(
            "name = 'sgd'\nlr = 0.1\nmomentum = 1.0",
            "`optimizer.momentum` is 1; it must be in 0..1, 1 excluded",
        );
        check_refused(
            "name = 'sgd'\nlr = 0.1\nnesterov = true",
            "`optimizer.nesterov` is true; it must be false unless there is momentum and no dampening",
        );
        check_refused(
            "name = 'adamw'\nlr = 0.1\nbetas = [0.9, 1.0]",
            "`optimizer.betas` is [0.9, 1.0]; it must be two numbers in 0..1, 1 excluded",
        );
        check_refused(
            "name = 'sgd'\nlr = 0.1\nweight_decay = -0.1",
            "`optimizer.weight_decay` is -0.1; it must be 0 or a positive number",
        );
    }
}
