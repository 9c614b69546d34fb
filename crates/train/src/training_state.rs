//! Where a run stands: everything besides the network that makes a resumed run the same run.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::callback::StopReason;
use crate::config::TrainerConfig;
use crate::loss_scale::LossScale;
use crate::record::{BatchRecord, EpochRecord, History};
use crate::schedule::ScheduleState;
use crate::{Error, Result};

/// Everything besides the network that makes a resumed run the same run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TrainingState {
    pub(crate) position: Position,
    /// Whether the backbone is still frozen.
    pub(crate) frozen: bool,
    /// Of a run in `f16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss_scale: Option<LossScale>,
    /// Why the run ended, if it is not to go on.
    pub(crate) finished: Option<StopReason>,
    pub(crate) config: TrainerConfig,
    /// What else must be as it was: data sets, batch size and the like, by name.
    pub(crate) data: BTreeMap<String, String>,
    pub(crate) schedule: ScheduleState,
    pub(crate) epochs: Vec<EpochRecord>,
    /// A long run has too many for a header, so they travel as tensors.
    #[serde(skip)]
    pub(crate) batches: Vec<BatchRecord>,
    #[serde(skip)]
    pub(crate) optimizer: BTreeMap<String, Tensor>,
    #[serde(skip)]
    pub(crate) averages: BTreeMap<String, Tensor>,
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
    /// Of the epoch so far: losses times pictures,
    pub(crate) loss_sum: f64,
    /// pictures that were classified right,
    pub(crate) correct: usize,
    /// pictures,
    pub(crate) samples: usize,
    /// and time spent on training.
    pub(crate) seconds: f64,
}

impl Position {
    /// Before the first batch of an epoch.
    pub(crate) fn at_epoch(epoch: usize, step: usize) -> Self {
        Self { epoch, batch: 0, step, loss_sum: 0.0, correct: 0, samples: 0, seconds: 0.0 }
    }
}

const OPTIMIZER: &str = "optimizer.";
/// Of the averages of the weights.
pub(crate) const AVERAGES: &str = "ema.";
const EPOCH: &str = "history.epoch";
const LOSS: &str = "history.loss";
const LR: &str = "history.lr";

impl TrainingState {
    pub(crate) fn history(&self) -> History {
        History { epochs: self.epochs.clone(), batches: self.batches.clone() }
    }

    /// Fails and names the first difference if a run with these settings and data would not go on as
    /// this one began.
    pub(crate) fn check_same_run(
        &self,
        config: &TrainerConfig,
        data: &BTreeMap<String, String>,
        path: &Path,
    ) -> Result<()> {
        let (ours, theirs) = (settings(config), settings(&self.config));
        for (what, found) in ours.iter().chain(data) {
            let expected = theirs.get(what).or_else(|| self.data.get(what));
            if expected != Some(found) {
                return Err(Error::OtherRun {
                    path: path.to_path_buf(),
                    what: format!("`{what}`"),
                    found: found.clone(),
                    expected: expected.cloned().unwrap_or_else(|| "not set".to_owned()),
                });
            }
        }
        Ok(())
    }

    /// What does not go into the header.
    pub(crate) fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let column = |value: fn(&BatchRecord) -> f64| {
            let values: Vec<f64> = self.batches.iter().map(value).collect();
            Tensor::new(values, &Device::Cpu)
        };
        let mut tensors = self.optimizer.clone();
        tensors.extend(self.averages.clone());
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
        self.optimizer = taken(tensors, OPTIMIZER);
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

/// The settings by name; those that are not set are there too.
fn settings(config: &TrainerConfig) -> BTreeMap<String, String> {
    let TrainerConfig {
        epochs,
        optimizer,
        schedule,
        precision,
        label_smoothing,
        class_weights,
        param_groups,
        decay_vectors,
        freeze,
        early_stop,
        ema,
        grad_clip_norm,
        seed,
        limit_batches,
    } = config;
    [
        ("epochs", format!("{epochs}")),
        ("optimizer", format!("{optimizer:?}")),
        ("schedule", format!("{schedule:?}")),
        ("precision", format!("{precision}")),
        ("label_smoothing", format!("{label_smoothing}")),
        ("class_weights", format!("{class_weights:?}")),
        ("param_groups", format!("{param_groups:?}")),
        ("decay_vectors", format!("{decay_vectors}")),
        ("freeze", format!("{freeze:?}")),
        ("early_stop", format!("{early_stop:?}")),
        ("ema", format!("{ema:?}")),
        ("grad_clip_norm", format!("{grad_clip_norm:?}")),
        ("seed", format!("{seed}")),
        ("limit_batches", format!("{limit_batches:?}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
