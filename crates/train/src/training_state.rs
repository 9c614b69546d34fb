//! Where a run stands: everything besides the network that makes a resumed run the same run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::callback::StopReason;
use crate::config::TrainerConfig;
use crate::loss_scale::LossScale;
use crate::monitor::Measured;
use crate::parts::Parts;
use crate::record::{BatchRecord, EpochRecord, History};
use crate::recorded::are_same_transforms;
use crate::schedule::ScheduleState;
use crate::{Error, Result, optim};

/// Everything besides the network that makes a resumed run the same run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrainingState {
    pub(crate) position: Position,
    /// Whether the backbone is still frozen.
    pub(crate) frozen: bool,
    /// Paths of the parameters that learn, after the frozen epochs too. All others were frozen by hand
    /// or by [`Model::fit_images`](candle_vision_models::Model::fit_images). Older checkpoints do
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) learning: Option<BTreeSet<String>>,
    /// Epochs whose lack of improvement an early stop does not count.
    #[serde(default)]
    pub(crate) forgiven: usize,
    /// Of a run in `f16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss_scale: Option<LossScale>,
    /// Why the run ended, if it is not to go on.
    pub(crate) finished: Option<StopReason>,
    pub(crate) config: TrainerConfig,
    /// What else must be as it was: data sets, batch size and the like, by name.
    pub(crate) data: BTreeMap<String, String>,
    /// Parts that are no settings: hooks, a training step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parts: BTreeMap<String, Description>,
    /// Parts that cannot be told again, because they have no description.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) undescribed: Vec<String>,
    /// States of callbacks by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) callbacks: BTreeMap<String, Value>,
    pub(crate) schedule: ScheduleState,
    pub(crate) epochs: Vec<EpochRecord>,
    /// A long run has too many for a header, so they travel as tensors.
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
    /// Epoch that runs or comes next, from 1.
    pub(crate) epoch: usize,
    /// Batches of that epoch that are done.
    pub(crate) batch: usize,
    /// Steps of the whole run.
    pub(crate) step: usize,
    /// Of the epoch so far: losses times images,
    pub(crate) loss_sum: f64,
    /// images that were classified right,
    pub(crate) correct: usize,
    /// images,
    pub(crate) samples: usize,
    /// of them those of which that is not known,
    #[serde(default)]
    pub(crate) unanswered: usize,
    /// and time spent on training.
    pub(crate) seconds: f64,
}

impl Position {
    /// Before the first batch of an epoch.
    pub(crate) fn at_epoch(epoch: usize, step: usize) -> Self {
        let (loss_sum, seconds) = (0.0, 0.0);
        Self { epoch, batch: 0, step, loss_sum, correct: 0, samples: 0, unanswered: 0, seconds }
    }

    /// Fraction of the epoch's images so far that were classified right, of those of which that is known.
    pub(crate) fn accuracy(&self) -> f64 {
        self.correct as f64 / (self.samples - self.unanswered) as f64
    }
}

const OPTIMIZER: &str = "optimizer.";
/// Of the averages of the weights.
pub(crate) const AVERAGES: &str = "ema.";
/// Of a loss and a training step.
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

    /// Fails and names the first difference if a run with these settings and data would not go on as
    /// this one began. The number of epochs and the early stop may differ: they decide when a run ends.
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
        // A setting that an earlier version did not know has its default. A part that is not registered has
        // recorded all of its settings.
        let recorded =
            self.config.with_defaults(now.registries).unwrap_or_else(|_| self.config.clone());
        let (recorded, found) = (settings(&recorded, &self.parts), settings(now.config, now.parts));
        for what in recorded.keys().chain(found.keys()) {
            let (recorded, found) = (recorded.get(what), found.get(what));
            if recorded != found {
                return Err(other(what, &text(found), &text(recorded)));
            }
        }
        for (what, expected) in &self.data {
            match data.get(what) {
                None => return Err(other(what, "not known", expected)),
                Some(found) if !is_same_fact(what, found, expected) => {
                    return Err(other(what, found, expected));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// How many epochs without improvement are forgiven when the run goes on with `config`.
    ///
    /// # Errors
    /// [`Error::Finished`] if it is at its end with these settings too.
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
            // Who asks for more epochs has seen the stop: the patience begins anew.
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

    /// What does not go into the header.
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

    /// Takes its own tensors out of those of a file; the others are the network's.
    pub(crate) fn with_tensors(
        mut self,
        tensors: &mut HashMap<String, Tensor>,
    ) -> Result<Self, String> {
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

/// Takes out what is called so.
fn taken(tensors: &mut HashMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let names: Vec<String> =
        tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
    names.into_iter().filter_map(|name| tensors.remove_entry(&name)).collect()
}

/// The same under the names that the part itself gave.
fn stripped(tensors: BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let own = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
    tensors.into_iter().map(|(name, tensor)| (own(name), tensor)).collect()
}

/// Leaves the network's tensors alone in those of a file.
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
    // Each image is measured by itself: how many are shown at once is a matter of memory.
    found == recorded || what == "batch_size of the validation data"
}

/// A trainer that is to go on with a run, as far as that must be the same.
pub(crate) struct Now<'a> {
    pub(crate) config: &'a TrainerConfig,
    pub(crate) registries: &'a Parts,
    pub(crate) data: &'a BTreeMap<String, String>,
    pub(crate) parts: &'a BTreeMap<String, Description>,
    pub(crate) undescribed: &'a [String],
    pub(crate) measured: &'a Measured,
}

/// The settings that decide the numbers of a run, by name. One that is not set may be missing.
fn settings(
    config: &TrainerConfig,
    parts: &BTreeMap<String, Description>,
) -> BTreeMap<String, Value> {
    let Value::Object(settings) = json(config) else { unreachable!("it is a struct") };
    // These decide when a run ends.
    let decides = |name: &str| name != "epochs" && name != "early_stop";
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
