//! An optimizer whose state is shared out among ranks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use candle_vision_distributed::Communicator;
use candle_vision_models::Parameter;
use candle_vision_ops::GradScale;
use candle_vision_registry::Description;

use super::{Optimizer, ParamGroup, Updated, steps_key};
use crate::ranks::{from_bytes, to_bytes};
use crate::{Error, Result};

/// Parameters of at most so many bytes go to other ranks in one call, because MPI counts 2 GiB in a call. Their state may
/// be a few times as large.
const MOST_BYTES: usize = 256 << 20;

/// An optimizer of which each rank has a part: ZeRO stage 1 (Rajbhandari et al. 2020, <https://arxiv.org/abs/1910.02054>).
///
/// A parameter belongs to one rank, which alone keeps the optimizer's state for it and takes its steps. Then the other
/// ranks get its new values. The gradients are those of all ranks already, so every parameter gets the bits that it would
/// have with the whole state on every rank.
///
/// Updates and [`Optimizer::state`] are collective: all ranks call them, in the same order.
#[derive(Debug)]
pub(crate) struct Sharded {
    /// The optimizer of this rank's parameters.
    own: Box<dyn Optimizer>,
    /// The same with all parameters and never a step, so without state. It refuses on every rank what one would refuse.
    all: Box<dyn Optimizer>,
    parameters: Vec<Owned>,
    /// Bytes of the parameters of each rank.
    loads: Vec<usize>,
    communicator: Arc<dyn Communicator>,
}

/// A parameter and the rank to which it belongs.
#[derive(Debug)]
struct Owned {
    parameter: Parameter,
    rank: usize,
    /// Whether it has taken a step.
    has_moved: bool,
}

impl Owned {
    fn bytes(&self) -> usize {
        bytes_of(&self.parameter)
    }
}

impl Sharded {
    /// `optimizer`, which has no parameters yet, for the ranks of a communicator.
    ///
    /// # Errors
    /// If the optimizer does not treat each parameter by itself.
    pub(crate) fn new(
        optimizer: Box<dyn Optimizer>,
        communicator: Arc<dyn Communicator>,
    ) -> Result<Self> {
        if !optimizer.is_shardable() {
            let setting = "distributed.optimizer_state";
            let expected = "\"replicated\", because this optimizer does not say that it treats each parameter by \
                            itself (`Optimizer::is_shardable`)";
            return Err(Error::setting(setting, "sharded", expected));
        }
        let (all, loads) = (optimizer.fresh(), vec![0; communicator.size()]);
        Ok(Self { own: optimizer, all, parameters: Vec::new(), loads, communicator })
    }

    /// The place of the parameter to whose state a tensor called `name` belongs. The name ends in the parameter's path,
    /// and a path may be the end of a longer one.
    fn place(&self, name: &str) -> Option<usize> {
        let is_of =
            |path: &str| name.strip_suffix(path).is_some_and(|before| before.ends_with('.'));
        let paths = self.parameters.iter().map(|owned| owned.parameter.path()).enumerate();
        let place = paths.filter(|(_, path)| is_of(path)).max_by_key(|(_, path)| path.len());
        place.map(|(at, _)| at)
    }

    /// Lets this rank's part take its step, and exchanges the new values.
    fn update_by(
        &mut self,
        grads: &GradStore,
        update: impl FnOnce(&mut dyn Optimizer) -> Result<Updated>,
    ) -> Result<Updated> {
        let has_gradient = |owned: &Owned| grads.get(owned.parameter.var()).is_some();
        let mut learning: Vec<usize> = (0..self.parameters.len()).collect();
        learning.retain(|&at| self.parameters[at].parameter.is_trainable());
        // On every rank, and before a part has changed anything.
        let mut of_all = learning.iter().map(|&at| &self.parameters[at]);
        if let Some(owned) = of_all.find(|owned| !owned.has_moved && !has_gradient(owned)) {
            let parameter = owned.parameter.path().to_owned();
            return Err(Error::MissingGradient { parameter });
        }
        let updated = update(self.own.as_mut())?;
        learning.retain(|&at| has_gradient(&self.parameters[at]));
        for &at in &learning {
            self.parameters[at].has_moved = true;
        }
        let moved: Vec<&Owned> = learning.iter().map(|&at| &self.parameters[at]).collect();
        let first = self.exchange(&moved, updated.first_not_finite()?)?;
        let parameters = moved.into_iter().map(|owned| owned.parameter.clone()).collect();
        Ok(Updated::known(first, parameters))
    }

    /// Gives the other ranks the new values of this rank's parameters among `moved`, and takes theirs. Returns the place
    /// in `moved` of the first parameter that is not finite on its rank.
    fn exchange(&self, moved: &[&Owned], not_finite: Option<&Parameter>) -> Result<Option<usize>> {
        let own_rank = self.communicator.rank();
        let not_finite = not_finite
            .and_then(|found| moved.iter().position(|o| o.parameter.path() == found.path()));
        let mut first = not_finite.map_or(u64::MAX, |at| at as u64);
        for round in rounds(moved, |owned| owned.bytes()) {
            let of = |rank| round.iter().filter(move |owned| owned.rank == rank);
            let own = of(own_rank).map(|o| (o.parameter.path(), o.parameter.detached()));
            let mut bytes = first.to_le_bytes().to_vec();
            bytes.extend(to_bytes(own)?);
            for (rank, bytes) in self.communicator.all_gather(&bytes)?.iter().enumerate() {
                let (found, tensors) = bytes.split_first_chunk().ok_or_else(|| lacks(rank))?;
                first = first.min(u64::from_le_bytes(*found));
                if rank == own_rank {
                    continue;
                }
                let mut tensors = from_bytes(tensors, &Device::Cpu)?;
                for Owned { parameter, .. } in of(rank) {
                    let values = tensors.remove(parameter.path()).ok_or_else(|| lacks(rank))?;
                    parameter.set(&values.to_device(parameter.var().device())?)?;
                }
            }
        }
        Ok(usize::try_from(first).ok().filter(|&first| first < moved.len()))
    }
}

impl Optimizer for Sharded {
    fn fresh(&self) -> Box<dyn Optimizer> {
        let (own, all) = (self.own.fresh(), self.all.fresh());
        let (loads, communicator) = (vec![0; self.loads.len()], Arc::clone(&self.communicator));
        Box::new(Self { own, all, parameters: Vec::new(), loads, communicator })
    }

    fn describe(&self) -> Option<Description> {
        self.own.describe()
    }

    fn add(&mut self, groups: Vec<ParamGroup>) -> Result<()> {
        self.all.add(groups.clone())?;
        let parameters = groups.iter().flat_map(|group| &group.parameters);
        let sizes: Vec<usize> = parameters.map(bytes_of).collect();
        let owners = shared_out(&sizes, &mut self.loads);
        let (own_rank, mut owners) = (self.communicator.rank(), owners.into_iter());
        let mut own = Vec::new();
        for mut group in groups {
            let all = std::mem::take(&mut group.parameters);
            for (parameter, rank) in all.into_iter().zip(owners.by_ref()) {
                if rank == own_rank {
                    group.parameters.push(parameter.clone());
                }
                self.parameters.push(Owned { parameter, rank, has_moved: false });
            }
            own.push(group);
        }
        self.own.add(own)
    }

    fn state_tensors(&self) -> usize {
        self.own.state_tensors()
    }

    fn lr(&self) -> f64 {
        self.own.lr()
    }

    fn set_lr(&mut self, lr: f64) {
        self.own.set_lr(lr);
    }

    fn set_lr_of_epochs(&mut self, epochs: usize, lr: f64) {
        self.own.set_lr_of_epochs(epochs, lr);
    }

    fn update(&mut self, grads: &GradStore, grad_scale: f64) -> Result<Updated> {
        self.update_by(grads, |own| own.update(grads, grad_scale))
    }

    fn update_scaled(&mut self, grads: &GradStore, scale: &GradScale) -> Result<Updated> {
        self.update_by(grads, |own| own.update_scaled(grads, scale))
    }

    fn make_state(&mut self) -> Result<()> {
        self.own.make_state()
    }

    /// The state of all parameters on rank 0, and of this rank's on the others.
    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = self.own.state()?;
        let mut places: BTreeMap<usize, Vec<(&str, &Tensor)>> = BTreeMap::new();
        for (name, tensor) in &state {
            // What belongs to no parameter is the same on every rank.
            places.entry(self.place(name).unwrap_or(0)).or_default().push((name, tensor));
        }
        let (rank, ranks) = (self.communicator.rank(), self.communicator.size());
        let mut of_others = Vec::new();
        let all: Vec<usize> = (0..self.parameters.len()).collect();
        for round in rounds(&all, |&at| self.parameters[at].bytes()) {
            let mut pieces = vec![Vec::new(); ranks];
            if rank > 0 {
                let own = round.iter().filter_map(|at| places.get(at)).flatten();
                pieces[0] = to_bytes(own.map(|&(name, tensor)| (name, tensor.clone())))?;
            }
            let given = self.communicator.all_to_all(&pieces)?;
            for bytes in given.iter().filter(|bytes| !bytes.is_empty()) {
                of_others.extend(from_bytes(bytes, &Device::Cpu)?);
            }
        }
        for (name, tensor) in of_others {
            state.entry(name).or_insert(tensor);
        }
        Ok(state)
    }

    /// Takes this rank's part of the state of all parameters.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let own_rank = self.communicator.rank();
        let is_own = |name: &str| {
            self.place(name).is_none_or(|place| self.parameters[place].rank == own_rank)
        };
        let own = state.iter().filter(|(name, _)| is_own(name));
        let own = own.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        self.own.load_state(&own)?;
        for owned in &mut self.parameters {
            owned.has_moved = state.contains_key(&steps_key(owned.parameter.path()));
        }
        Ok(())
    }
}

fn bytes_of(parameter: &Parameter) -> usize {
    parameter.elem_count() * parameter.var().dtype().size_in_bytes()
}

/// The rank of each of several things of these sizes, where the ranks have `loads` already. The largest thing goes first,
/// and each to the rank that has least; ties go to the lower rank.
///
/// No rank gets more than 4/3 of what the best way would give to the fullest one (Graham 1969).
fn shared_out(sizes: &[usize], loads: &mut [usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&at| Reverse(sizes[at]));
    let mut ranks = vec![0; sizes.len()];
    for at in order {
        let least = loads.iter_mut().enumerate().min_by_key(|(_, load)| **load);
        let (rank, load) = least.expect("a job has at least one rank");
        *load += sizes[at];
        ranks[at] = rank;
    }
    ranks
}

/// Things in a row, in pieces of at most [`MOST_BYTES`] each, or of one thing that is larger.
fn rounds<T>(things: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut rounds, mut start, mut sum) = (Vec::new(), 0, 0);
    for (at, thing) in things.iter().enumerate() {
        let bytes = bytes(thing);
        if at > start && sum + bytes > MOST_BYTES {
            rounds.push(&things[start..at]);
            (start, sum) = (at, 0);
        }
        sum += bytes;
    }
    if start < things.len() {
        rounds.push(&things[start..]);
    }
    rounds
}

fn lacks(rank: usize) -> Error {
    candle_core::Error::msg(format!("rank {rank} did not send the new values of its parameters"))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_shared_out_by_their_bytes() {
        let mut loads = [0; 3];
        let ranks = shared_out(&[10, 50, 20, 40, 30, 10], &mut loads);
        assert_eq!(ranks, [1, 0, 2, 1, 2, 0]);
        assert_eq!(loads, [60, 50, 50]);
        // Those that come later go to where there is least.
        assert_eq!(shared_out(&[5, 15], &mut loads), [2, 1]);
        // Fewer parameters than ranks.
        assert_eq!(shared_out(&[1], &mut [0; 4]), [0]);
    }

    #[test]
    fn no_call_has_too_many_bytes() {
        let sizes = [1, MOST_BYTES - 1, 1, MOST_BYTES + 5, 2, 3];
        let found = rounds(&sizes, |&size| size);
        assert_eq!(found.concat(), sizes);
        let lens: Vec<usize> = found.iter().map(|round| round.len()).collect();
        assert_eq!(lens, [2, 1, 1, 2]);
        assert!(rounds(&[0usize; 0], |&size| size).is_empty());
    }
}
