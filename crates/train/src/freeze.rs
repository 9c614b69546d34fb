//! The part of a network that does not learn in the first epochs.

use candle_vision_models::{Model, Parameter};

use crate::config::{FreezeConfig, TrainerConfig};
use crate::optim::{ParamGroup, is_under};
use crate::{Error, Result};

/// Freezes every trainable parameter that is not kept and returns them.
pub(crate) fn freeze(model: &dyn Model, config: &FreezeConfig) -> Result<Vec<Parameter>> {
    let kept = config.prefix_kept.as_deref().unwrap_or_else(|| model.head());
    let trainable = model.parameters().trainable();
    let (learning, frozen): (Vec<_>, Vec<_>) =
        trainable.into_iter().partition(|parameter| is_under(parameter.path(), kept));
    if learning.is_empty() {
        let expected = "the path of a part of the network that has trainable parameters";
        return Err(Error::setting("freeze.prefix_kept", kept, expected));
    }
    for parameter in &frozen {
        model.parameters().freeze(parameter.path())?;
    }
    Ok(frozen)
}

/// Makes parameters learn again.
pub(crate) fn release(model: &dyn Model, frozen: &[Parameter]) -> Result<()> {
    for parameter in frozen {
        model.parameters().unfreeze(parameter.path())?;
    }
    Ok(())
}

/// The parameters in the groups that the settings ask for; the first group that matches counts.
pub(crate) fn groups(parameters: Vec<Parameter>, config: &TrainerConfig) -> Vec<ParamGroup> {
    let mut rest = ParamGroup::new(parameters, &config.optimizer);
    let mut groups = Vec::new();
    for settings in &config.param_groups {
        let [mut under, others] = rest.split_by_prefix(&settings.prefix);
        under.lr = settings.lr.unwrap_or(under.lr);
        under.weight_decay = settings.weight_decay.unwrap_or(under.weight_decay);
        groups.push(under);
        rest = others;
    }
    groups.push(rest);
    if config.decay_vectors {
        return groups;
    }
    groups.into_iter().flat_map(ParamGroup::without_decay_of_vectors).collect()
}

/// Fails if a group's prefix names no part of the network: a typing error would go unseen.
pub(crate) fn check_groups(model: &dyn Model, config: &TrainerConfig) -> Result<()> {
    let weights = model.parameters().weights();
    for group in &config.param_groups {
        if !weights.iter().any(|parameter| is_under(parameter.path(), &group.prefix)) {
            let expected = "the path of a part of the network";
            return Err(Error::setting("prefix of a parameter group", &group.prefix, expected));
        }
    }
    Ok(())
}
