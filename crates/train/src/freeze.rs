//! Which parameters of a network learn, and from which epoch on.

use std::collections::BTreeSet;

use candle_vision_models::{Model, Parameter, is_under};

use crate::config::{FreezeConfig, TrainerConfig};
use crate::optim::{Optimizer, ParamGroup};
use crate::{Error, Result};

/// The parameters that a run trains.
pub(crate) struct Learners {
    /// From the first step on.
    pub(crate) now: Vec<Parameter>,
    /// After the frozen epochs; `None` if there are no such epochs.
    pub(crate) later: Option<Vec<Parameter>>,
}

impl Learners {
    /// Splits the parameters as the settings ask. Nothing is frozen yet.
    pub(crate) fn new(
        model: &dyn Model,
        parameters: Vec<Parameter>,
        config: &TrainerConfig,
    ) -> Result<Self> {
        if parameters.is_empty() {
            return Err(Error::NothingToTrain);
        }
        match &config.freeze {
            Some(freeze) if freeze.epochs > 0 => Self::divide(model, parameters, freeze),
            _ => Ok(Self { now: parameters, later: None }),
        }
    }

    fn divide(
        model: &dyn Model,
        parameters: Vec<Parameter>,
        config: &FreezeConfig,
    ) -> Result<Self> {
        let kept = config.prefix_kept.as_deref().unwrap_or_else(|| model.head());
        if kept.is_empty() {
            let expected = "a path: the network names no head (`Model::head`) that could be kept";
            return Err(Error::setting("freeze.prefix_kept", "not set", expected));
        }
        let is_kept = |parameter: &Parameter| is_under(parameter.path(), kept);
        let (now, later): (Vec<_>, Vec<_>) = parameters.into_iter().partition(is_kept);
        if now.is_empty() {
            let expected = "the path of a part of the network that has trainable parameters";
            return Err(Error::setting("freeze.prefix_kept", kept, expected));
        }
        Ok(Self { now, later: Some(later) })
    }

    /// Adds the parameters to `optimizer`, which has none yet. If `frozen`, only those that learn in the
    /// frozen epochs are added, otherwise all. They have the same order as in a run that was not resumed.
    pub(crate) fn optimizer(
        &self,
        mut optimizer: Box<dyn Optimizer>,
        config: &TrainerConfig,
        frozen: bool,
    ) -> Result<Box<dyn Optimizer>> {
        optimizer.add(groups(self.now.clone(), config))?;
        if let (Some(later), false) = (&self.later, frozen) {
            optimizer.add(groups(later.clone(), config))?;
        }
        Ok(optimizer)
    }
}

/// Freezes parameters.
pub(crate) fn freeze(model: &dyn Model, parameters: &[Parameter]) -> Result<()> {
    for parameter in parameters {
        model.parameters().freeze(parameter.path())?;
    }
    Ok(())
}

/// Makes frozen parameters learn again.
pub(crate) fn release(model: &dyn Model, frozen: &[Parameter]) -> Result<()> {
    for parameter in frozen {
        model.parameters().unfreeze(parameter.path())?;
    }
    Ok(())
}

/// Lets the parameters at these paths learn and freezes all others.
pub(crate) fn train_only(model: &dyn Model, paths: &BTreeSet<String>) -> Result<()> {
    let weights = model.parameters().weights();
    let is_meant = |parameter: &Parameter| paths.contains(parameter.path());
    let (learning, frozen): (Vec<_>, Vec<_>) = weights.into_iter().partition(is_meant);
    release(model, &learning)?;
    freeze(model, &frozen)
}

/// Splits the parameters into the groups of the settings. The first group that matches counts.
pub(crate) fn groups(parameters: Vec<Parameter>, config: &TrainerConfig) -> Vec<ParamGroup> {
    let mut rest = ParamGroup::new(parameters);
    let mut groups = Vec::new();
    for settings in &config.param_groups {
        let [mut under, others] = rest.split(|parameter| settings.holds(parameter.path()));
        (under.lr, under.weight_decay) = (settings.lr, settings.weight_decay);
        under.epochs = settings.epochs;
        under.optimizer.clone_from(&settings.optimizer);
        groups.push(under);
        rest = others;
    }
    groups.push(rest);
    if config.decay_vectors {
        return groups;
    }
    groups.into_iter().flat_map(ParamGroup::without_decay_of_vectors).collect()
}

/// Fails if a group's prefix or pattern stands for no part of the network. Otherwise a typing error would go unnoticed.
pub(crate) fn check_groups(model: &dyn Model, config: &TrainerConfig) -> Result<()> {
    let weights = model.parameters().weights();
    for group in &config.param_groups {
        let is_empty = !weights.iter().any(|parameter| group.holds(parameter.path()));
        match &group.pattern {
            Some(pattern) if is_empty => {
                let expected = "a pattern of paths of parameters of the network, such as `**.bias`";
                return Err(Error::setting("pattern of a parameter group", pattern, expected));
            }
            None if is_empty => {
                let expected = "the path of a part of the network";
                return Err(Error::setting("prefix of a parameter group", &group.prefix, expected));
            }
            _ => {}
        }
    }
    Ok(())
}
