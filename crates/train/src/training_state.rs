//! The state of a run: everything besides the network that a resumed run needs to be the same run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::callback::StopReason;
use crate::config::TrainerConfig;
use crate::loaders::{BATCH_TRANSFORMS, FILES_OF_RANKS, SAMPLER};
use crate::loss_scale::LossScale;
use crate::monitor::Measured;
use crate::parts::Parts;
use crate::record::{BatchRecord, EpochRecord, History};
use crate::recorded::are_same_transforms;
use crate::schedule::RatesState;
use crate::{Error, Result, optim};

/// Everything besides the network that a resumed run needs to be the same run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrainingState {
    pub(crate) position: Position,
    /// Whether the backbone is still frozen.
    pub(crate) frozen: bool,
    /// Paths of the parameters that learn, including those that learn after the frozen epochs. All others
    /// were frozen by hand or by [`Model::fit_images`](candle_vision_models::Model::fit_images). `None` in
    /// older checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) learning: Option<BTreeSet<String>>,
    /// Number of epochs that early stopping does not count as epochs without improvement.
    #[serde(default)]
    pub(crate) forgiven: usize,
    /// The loss scale of a run in `f16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss_scale: Option<LossScale>,
    /// Why the run ended, if it is complete.
    pub(crate) finished: Option<StopReason>,
    pub(crate) config: TrainerConfig,
    /// Other facts that must be the same: data sets, batch size and the like, by name.
    pub(crate) data: BTreeMap<String, String>,
    /// Parts that are not settings: hooks, a training step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parts: BTreeMap<String, Description>,
    /// Parts that cannot be compared, because they have no description.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) undescribed: Vec<String>,
    /// States of callbacks by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) callbacks: BTreeMap<String, Value>,
    #[serde(flatten)]
    pub(crate) rates: RatesState,
    pub(crate) epochs: Vec<EpochRecord>,
    /// A long run has too many batches for a header, so they are saved as tensors.
    #[serde(skip)]
    pub(crate) batches: Vec<BatchRecord>,
    #[serde(skip)]
    pub(crate) optimizer: BTreeMap<String, Tensor>,
    #[serde(skip)]
    pub(crate) averages: BTreeMap<String, Tensor>,
    #[serde(skip)]
    pub(crate) loss: BTreeMap<String, Tensor>,
    #[serde(skip)]
    pub(crate) train_step: BTreeMap<String, Tensor>,
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The current or next epoch, from 1.
    pub(crate) epoch: usize,
    /// Number of that epoch's batches that are done.
    pub(crate) batch: usize,
    /// Number of steps of the whole run.
    pub(crate) step: usize,
    /// Sum over the epoch so far of each batch's loss times its number of images.
    pub(crate) loss_sum: f64,
    /// Number of the epoch's images so far that were classified correctly.
    pub(crate) correct: usize,
    /// Number of the epoch's images so far.
    pub(crate) samples: usize,
    /// Number of these images without a known prediction.
    #[serde(default)]
    pub(crate) unanswered: usize,
    /// Seconds spent on training in the epoch so far.
    pub(crate) seconds: f64,
}

impl Position {
    /// The position before the first batch of an epoch.
    pub(crate) fn at_epoch(epoch: usize, step: usize) -> Self {
        let (loss_sum, seconds) = (0.0, 0.0);
        Self { epoch, batch: 0, step, loss_sum, correct: 0, samples: 0, unanswered: 0, seconds }
    }

    /// What makes no sense in a position that was read, and would be a subtraction below 0 in a run.
    fn fault(&self) -> Option<&'static str> {
        let answered = self.samples.checked_sub(self.unanswered);
        match answered {
            _ if self.epoch == 0 => Some("its epoch is 0, but epochs are counted from 1"),
            None => Some("it has fewer images than images without a prediction"),
            Some(answered) if self.correct > answered => Some("it has more correct than images"),
            Some(_) => None,
        }
    }

    /// Fraction of correctly classified images in the epoch so far, among those with a known prediction.
    pub(crate) fn accuracy(&self) -> f64 {
        self.correct as f64 / (self.samples - self.unanswered) as f64
    }
}

const OPTIMIZER: &str = "optimizer.";
/// Prefix of the averages of the weights.
pub(crate) const AVERAGES: &str = "ema.";
/// Prefix of the state of a loss and a training step.
const LOSS_STATE: &str = "state.loss.";
const STEP_STATE: &str = "state.train_step.";
const HISTORY: &str = "history.";
const EPOCH: &str = "history.epoch";
const LOSS: &str = "history.loss";
const LR: &str = "history.lr";

impl TrainingState {
    pub(crate) fn history(&self) -> History {
        History { epochs: self.epochs.clone(), batches: self.batches.clone() }
    }

    /// Fails if a run with these settings and data would not go on as this one began. The error names the
    /// first difference. The number of epochs and the early stop may differ, because they only decide when
    /// a run ends.
    pub(crate) fn check_same_run(&self, now: &Now<'_>, path: &Path) -> Result<()> {
        let data = now.data;
        if let Some(part) = self.undescribed.iter().chain(now.undescribed).next() {
            return Err(Error::NotDescribed { path: path.to_path_buf(), part: part.clone() });
        }
        let other = |what: &str, found: &str, expected: &str| Error::OtherRun {
            path: path.to_path_buf(),
            what: format!("`{what}`"),
            found: found.to_owned(),
            expected: expected.to_owned(),
        };
        // A setting that an earlier version did not know has its default. For a part that is not
        // registered, all settings were recorded.
        let recorded =
            self.config.with_defaults(now.registries).unwrap_or_else(|_| self.config.clone());
        let (recorded, found) = (settings(&recorded, &self.parts), settings(now.config, now.parts));
        for what in recorded.keys().chain(found.keys()) {
            let (recorded, found) = (recorded.get(what), found.get(what));
            if recorded != found {
                return Err(other(what, &text(found), &text(recorded)));
            }
        }
        // At the end of an epoch it does not matter who read which samples of it.
        if self.position.batch > 0 {
            let ranks = |facts: &BTreeMap<String, String>| {
                let fact = facts.iter().find(|(what, _)| what.starts_with(FILES_OF_RANKS));
                fact.map_or("1", |(_, ranks)| ranks).to_owned()
            };
            let (found, expected) = (ranks(data), ranks(&self.data));
            if found != expected {
                let (path, epoch) = (path.to_path_buf(), self.position.epoch);
                return Err(Error::RanksWithinEpoch { path, epoch, found, expected });
            }
        }
        let is_of_ranks = |what: &str| what.starts_with(FILES_OF_RANKS);
        for (what, expected) in self.data.iter().filter(|(what, _)| !is_of_ranks(what)) {
            match data.get(what) {
                None => return Err(other(what, "not known", expected)),
                Some(found) if !is_same_fact(what, found, expected) => {
                    return Err(other(what, found, expected));
                }
                Some(_) => {}
            }
        }
        let unknown = |what: &&String| {
            let is_optional = [SAMPLER, BATCH_TRANSFORMS].iter().any(|fact| what.starts_with(fact));
            is_optional && !self.data.contains_key(*what)
        };
        match data.keys().find(unknown) {
            Some(what) => Err(other(what, &data[what], "not given")),
            None => Ok(()),
        }
    }

    /// Number of epochs that early stopping must not count when the run goes on with the settings in `now`.
    ///
    /// # Errors
    /// [`Error::Finished`] if the run is complete with these settings too.
    pub(crate) fn forgiven_when_resumed(&self, now: &Now<'_>, path: &Path) -> Result<usize> {
        let config = now.config;
        let epochs = self.epochs.len();
        let finished = |reason| Error::Finished { path: path.to_path_buf(), epochs, reason };
        match self.finished {
            None if config.epochs < self.position.epoch => {
                let expected = format!("at least {}: so far has the run come", self.position.epoch);
                Err(Error::setting("epochs", config.epochs, expected))
            }
            None => Ok(self.forgiven),
            Some(reason) if config.epochs <= epochs => Err(finished(reason)),
            // Whoever asks for more epochs has seen the stop, so the patience begins anew.
            Some(StopReason::EarlyStopped) if config.epochs > self.config.epochs => Ok(epochs),
            Some(StopReason::EarlyStopped) => match &config.early_stop {
                Some(early)
                    if early.is_reached(
                        &early.monitored(now.measured)?,
                        &self.epochs,
                        self.forgiven,
                    ) =>
                {
                    Err(finished(StopReason::EarlyStopped))
                }
                _ => Ok(self.forgiven),
            },
            Some(_) => Ok(self.forgiven),
        }
    }

    /// Whether the optimizer has taken a step with the parameter at `path`.
    pub(crate) fn has_moved(&self, path: &str) -> bool {
        self.optimizer.contains_key(&optim::steps_key(path))
    }

    /// The part of the state that does not go into the header.
    pub(crate) fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let column = |value: fn(&BatchRecord) -> f64| {
            let values: Vec<f64> = self.batches.iter().map(value).collect();
            Tensor::new(values, &Device::Cpu)
        };
        let mut tensors = self.averages.clone();
        for (prefix, state) in
            [(OPTIMIZER, &self.optimizer), (LOSS_STATE, &self.loss), (STEP_STATE, &self.train_step)]
        {
            let named =
                state.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()));
            tensors.extend(named);
        }
        tensors.insert(EPOCH.to_owned(), column(|batch| batch.epoch as f64)?);
        tensors.insert(LOSS.to_owned(), column(|batch| batch.loss)?);
        tensors.insert(LR.to_owned(), column(|batch| batch.lr)?);
        Ok(tensors)
    }

    /// Takes the state's tensors out of those of a file. The others belong to the network.
    pub(crate) fn with_tensors(
        mut self,
        tensors: &mut HashMap<String, Tensor>,
    ) -> Result<Self, String> {
        if let Some(fault) = self.position.fault() {
            return Err(format!("its position is impossible: {fault}"));
        }
        let mut column = |name: &str| {
            let tensor = tensors.remove(name).ok_or_else(|| format!("`{name}` is missing"))?;
            tensor.to_vec1::<f64>().map_err(|error| format!("`{name}`: {error}"))
        };
        let (epochs, losses, rates) = (column(EPOCH)?, column(LOSS)?, column(LR)?);
        let rows = epochs.iter().zip(&losses).zip(&rates).enumerate();
        let record = |(i, ((&epoch, &loss), &lr))| BatchRecord {
            step: i + 1,
            epoch: epoch as usize,
            loss,
            lr,
        };
        self.batches = rows.map(record).collect();
        if self.batches.len() != self.position.step {
            let (found, expected) = (self.batches.len(), self.position.step);
            return Err(format!("it has the losses of {found} batches, expected {expected}"));
        }
        self.optimizer = stripped(taken(tensors, OPTIMIZER), OPTIMIZER);
        self.loss = stripped(taken(tensors, LOSS_STATE), LOSS_STATE);
        self.train_step = stripped(taken(tensors, STEP_STATE), STEP_STATE);
        self.averages = taken(tensors, AVERAGES);
        Ok(self)
    }
}

/// Takes out the tensors whose names have the prefix.
fn taken(tensors: &mut HashMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let names: Vec<String> =
        tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
    names.into_iter().filter_map(|name| tensors.remove_entry(&name)).collect()
}

/// The same tensors under the names that the part itself gave them.
fn stripped(tensors: BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let own = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
    tensors.into_iter().map(|(name, tensor)| (own(name), tensor)).collect()
}

/// Removes all tensors that are not the network's.
pub(crate) fn without_state(tensors: &mut HashMap<String, Tensor>) {
    for prefix in [OPTIMIZER, AVERAGES, LOSS_STATE, STEP_STATE, HISTORY] {
        taken(tensors, prefix);
    }
}

/// Whether a fact about the data is as it was recorded.
fn is_same_fact(what: &str, found: &str, recorded: &str) -> bool {
    if what.starts_with("transforms") {
        return are_same_transforms(found, recorded);
    }
    // Each image is evaluated by itself. The batch size only affects memory.
    found == recorded || what == "batch_size of the validation data"
}

/// The trainer that is about to resume a run, as far as it must match the run.
pub(crate) struct Now<'a> {
    pub(crate) config: &'a TrainerConfig,
    pub(crate) registries: &'a Parts,
    pub(crate) data: &'a BTreeMap<String, String>,
    pub(crate) parts: &'a BTreeMap<String, Description>,
    pub(crate) undescribed: &'a [String],
    pub(crate) measured: &'a Measured,
}

/// The settings that affect the numbers of a run, by name. A setting that is not set may be missing.
fn settings(
    config: &TrainerConfig,
    parts: &BTreeMap<String, Description>,
) -> BTreeMap<String, Value> {
    let config = config.clone().distributed(config.distributed.of_run());
    let Value::Object(settings) = json(&config) else { unreachable!("it is a struct") };
    // The first two only decide when a run ends, the others what is looked at.
    let other = ["epochs", "early_stop", "check_gradients", "gradient_norms"];
    let decides = |name: &str| !other.contains(&name);
    let settings = settings.into_iter().filter(|(name, _)| decides(name));
    settings.chain(parts.iter().map(|(name, part)| (name.clone(), json(part)))).collect()
}

fn json(settings: &impl Serialize) -> Value {
    serde_json::to_value(settings).expect("they are numbers and texts under names")
}

fn text(setting: Option<&Value>) -> String {
    match setting {
        None => "not set".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_that_makes_no_sense_is_told() {
        let begun = Position { samples: 8, correct: 3, ..Position::at_epoch(2, 5) };
        assert_eq!(begun.fault(), None);
        for (wrong, expected) in [
            (Position { epoch: 0, ..begun.clone() }, "epoch is 0"),
            (Position { unanswered: 9, ..begun.clone() }, "fewer images"),
            (Position { unanswered: 6, ..begun.clone() }, "more correct"),
        ] {
            let fault = wrong.fault().unwrap();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
