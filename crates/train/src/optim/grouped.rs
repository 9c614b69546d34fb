//! An optimizer some of whose groups of parameters have optimizers of their own.

use std::collections::BTreeMap;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_vision_models::Parameter;
use candle_vision_ops::GradScale;
use candle_vision_registry::Description;

use super::{Optimizer, Optimizers, ParamGroup, Updated, steps_key};
use crate::config::ParamGroupConfig;
use crate::{Error, Result};

/// Several optimizers that act as one: the main one, and one for each [`Kind`] of groups.
///
/// The learning rates of all follow that of the main optimizer in proportion, except those of groups that learn for some
/// epochs only ([`Optimizer::set_lr_of_epochs`]).
#[derive(Debug)]
pub(crate) struct Grouped {
    members: Vec<Member>,
    lr: f64,
}

/// The first one is the main optimizer.
#[derive(Debug)]
struct Member {
    kind: Kind,
    optimizer: Box<dyn Optimizer>,
    first_lr: f64,
    /// Each with whether it has taken a step.
    parameters: Vec<(Parameter, bool)>,
}

/// What the parameters of a member of [`Grouped`] share. The default is the kind of the main one.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Kind {
    /// Their optimizer. `None` for the main one.
    optimizer: Option<Description>,
    /// The number of epochs in which they learn. `None` for all.
    epochs: Option<usize>,
}

impl Kind {
    pub(crate) fn of_config(group: &ParamGroupConfig) -> Self {
        Self { optimizer: group.optimizer.clone(), epochs: group.epochs }
    }

    /// Whether it is not that of the main optimizer.
    pub(crate) fn is_own(&self) -> bool {
        *self != Self::default()
    }
}

impl Member {
    fn new(kind: Kind, optimizer: Box<dyn Optimizer>) -> Self {
        let first_lr = optimizer.lr();
        Self { kind, optimizer, first_lr, parameters: Vec::new() }
    }
}

impl Grouped {
    /// `main` with an optimizer for each of the kinds. It has no parameters yet.
    ///
    /// # Errors
    /// If an optimizer is not registered, or one of its settings is wrong.
    pub(crate) fn new(
        main: Box<dyn Optimizer>,
        others: impl IntoIterator<Item = Kind>,
        table: &Optimizers,
    ) -> Result<Self> {
        let lr = main.lr();
        let mut members = vec![Member::new(Kind::default(), main)];
        for kind in others {
            if members.iter().all(|member| member.kind != kind) {
                let optimizer = match &kind.optimizer {
                    Some(description) => table.build(description)?,
                    None => members[0].optimizer.fresh(),
                };
                members.push(Member::new(kind, optimizer));
            }
        }
        Ok(Self { members, lr })
    }

    /// The member whose state has a tensor called `name`, which ends in the parameter's path. A path may be the end of a
    /// longer one.
    fn owner(&self, name: &str) -> usize {
        let is_of =
            |path: &str| name.strip_suffix(path).is_some_and(|before| before.ends_with('.'));
        let paths = self.members.iter().enumerate().flat_map(|(at, member)| {
            member.parameters.iter().map(move |(parameter, _)| (parameter.path(), at))
        });
        let owner = paths.filter(|(path, _)| is_of(path)).max_by_key(|(path, _)| path.len());
        owner.map_or(0, |(_, at)| at)
    }
}

impl Grouped {
    /// Sets the rates of the members of this length.
    fn set_lr_of(&mut self, epochs: Option<usize>, lr: f64) {
        let main_lr = self.members[0].first_lr;
        let members = self.members.iter_mut().filter(|member| member.kind.epochs == epochs);
        for member in members {
            // The main optimizer's rate is the one that was asked for, to the last bit.
            let is_main = member.kind.optimizer.is_none();
            member.optimizer.set_lr(if is_main { lr } else { member.first_lr * (lr / main_lr) });
        }
    }

    /// Lets every member take its step by `update`.
    fn update_each(
        &mut self,
        grads: &GradStore,
        update: impl Fn(&mut dyn Optimizer) -> Result<Updated>,
    ) -> Result<Updated> {
        let mut parameters = self.members.iter().flat_map(|member| &member.parameters);
        // Before a member has changed anything.
        let cut_off = parameters.find(|(parameter, has_moved)| {
            !has_moved && parameter.is_trainable() && grads.get(parameter.var()).is_none()
        });
        if let Some((parameter, _)) = cut_off {
            return Err(Error::MissingGradient { parameter: parameter.path().to_owned() });
        }
        let mut updates = Vec::with_capacity(self.members.len());
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            for (parameter, has_moved) in &mut member.parameters {
                *has_moved |= parameter.is_trainable();
            }
            match update(member.optimizer.as_mut()) {
                Ok(updated) => updates.push(updated),
                Err(error) => {
                    let counted = self.members[..at].iter_mut();
                    counted.for_each(|member| member.optimizer.take_back_step());
                    return Err(error);
                }
            }
        }
        Ok(Updated::together(updates))
    }
}

impl Optimizer for Grouped {
    fn fresh(&self) -> Box<dyn Optimizer> {
        let members = self.members.iter();
        let members: Vec<Member> = members
            .map(|member| Member::new(member.kind.clone(), member.optimizer.fresh()))
            .collect();
        Box::new(Self { lr: members[0].first_lr, members })
    }

    fn describe(&self) -> Option<Description> {
        self.members[0].optimizer.describe()
    }

    fn add(&mut self, groups: Vec<ParamGroup>) -> Result<()> {
        let mut shares: Vec<Vec<ParamGroup>> = self.members.iter().map(|_| Vec::new()).collect();
        for mut group in groups {
            let wanted = Kind { optimizer: group.optimizer.take(), epochs: group.epochs.take() };
            let at = self.members.iter().position(|member| member.kind == wanted);
            let at = at.ok_or_else(|| unknown(&wanted))?;
            shares[at].push(group);
        }
        for (member, share) in self.members.iter_mut().zip(shares) {
            let parameters = share.iter().flat_map(|group| group.parameters.clone());
            let parameters: Vec<_> = parameters.map(|parameter| (parameter, false)).collect();
            member.optimizer.add(share)?;
            member.parameters.extend(parameters);
        }
        Ok(())
    }

    fn state_tensors(&self) -> usize {
        let counts = self.members.iter().map(|member| member.optimizer.state_tensors());
        counts.max().unwrap_or_default()
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
        self.set_lr_of(None, lr);
    }

    fn set_lr_of_epochs(&mut self, epochs: usize, lr: f64) {
        self.set_lr_of(Some(epochs), lr);
    }

    fn update(&mut self, grads: &GradStore, grad_scale: f64) -> Result<Updated> {
        self.update_each(grads, |optimizer| optimizer.update(grads, grad_scale))
    }

    fn update_scaled(&mut self, grads: &GradStore, scale: &GradScale) -> Result<Updated> {
        self.update_each(grads, |optimizer| optimizer.update_scaled(grads, scale))
    }

    fn make_state(&mut self) -> Result<()> {
        self.members.iter_mut().try_for_each(|member| member.optimizer.make_state())
    }

    fn is_capturable(&self) -> bool {
        self.members.iter().all(|member| member.optimizer.is_capturable())
    }

    fn is_shardable(&self) -> bool {
        self.members.iter().all(|member| member.optimizer.is_shardable())
    }

    fn take_back_step(&mut self) {
        self.members.iter_mut().for_each(|member| member.optimizer.take_back_step());
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for member in &self.members {
            state.extend(member.optimizer.state()?);
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut shares: Vec<BTreeMap<String, Tensor>> =
            self.members.iter().map(|_| BTreeMap::new()).collect();
        for (name, tensor) in state {
            shares[self.owner(name)].insert(name.clone(), tensor.clone());
        }
        for (member, share) in self.members.iter_mut().zip(&shares) {
            member.optimizer.load_state(share)?;
            for (parameter, has_moved) in &mut member.parameters {
                *has_moved = share.contains_key(&steps_key(parameter.path()));
            }
        }
        Ok(())
    }
}

fn unknown(kind: &Kind) -> Error {
    let expected = "one of those that the run began with";
    match (&kind.optimizer, kind.epochs) {
        (None, Some(epochs)) => Error::setting("epochs of a parameter group", epochs, expected),
        (optimizer, _) => {
            let name = optimizer.as_ref().map_or("", |optimizer| &optimizer.name);
            Error::setting("optimizer of a parameter group", name, expected)
        }
    }
}

#[cfg(test)]
mod tests;
