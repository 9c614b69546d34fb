//! The tables inside `[training]`: groups of parameters, frozen epochs, averages of the weights, early stopping.

use candle_vision_models::{FrozenBatchNorm, is_under, layer_matches};
use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::is_default;
use crate::Result;
use crate::monitor::{Measured, Mode, Monitor, VAL_LOSS, of_old_mode};
use crate::record::EpochRecord;

/// Parameters with their own learning rate or weight decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ParamGroupConfig {
    /// A path such as `layer4`. The group holds the parameters at or under it. Without it, all paths count.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// A pattern of parameters' paths such as `**.bias`, by the rules of
    /// [`layer_matches`](candle_vision_models::layer_matches). The group holds only parameters that it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Learning rate instead of the optimizer's. The schedule changes both by the same factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Weight decay instead of the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// An optimizer instead of that of the run. The schedule changes its learning rate by the same factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Description>,
    /// Number of the run's first epochs in which the group learns. The schedule gives it the rates of a run of this
    /// length, and its rate is 0 afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
}

/// The first epochs, in which only a part of the network learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { epochs = 5 }")]
#[non_exhaustive]
pub struct FreezeConfig {
    /// Number of these epochs. 0 freezes nothing.
    pub epochs: usize,
    /// Path of the part that learns. By default it is the network's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_kept: Option<String>,
    /// Learning rate that the schedule continues from when the rest begins to learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfreeze_lr: Option<f64>,
    /// What batch norm does while its parameters are frozen.
    #[serde(default, with = "FrozenBatchNormName")]
    pub batch_norm: FrozenBatchNorm,
}

/// [`FrozenBatchNorm`] by name.
#[derive(Serialize, Deserialize)]
#[serde(remote = "FrozenBatchNorm", rename_all = "snake_case")]
enum FrozenBatchNormName {
    UpdateStatistics,
    KeepStatistics,
}

/// What processes that train one network together exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { batch_norm = \"synchronised\" }"
)]
#[non_exhaustive]
pub struct DistributedConfig {
    /// Over which batches batch norm normalises. By default these are the batches of each process for itself, as in
    /// PyTorch.
    #[serde(skip_serializing_if = "is_default")]
    pub batch_norm: DistributedBatchNorm,
    /// The number type in which gradients go to other processes. `f32` by default; `bf16` halves the bytes and rounds.
    #[serde(skip_serializing_if = "is_default")]
    pub gradients: GradientType,
    /// Gradients of so many MiB are sent together, while more are computed. 25 by default, as in PyTorch. On CPUs, a gradient of
    /// 1 MiB or more for each process goes alone, without a copy.
    #[serde(skip_serializing_if = "is_usual")]
    pub bucket_mib: usize,
    /// Which processes keep the optimizer's state. It changes no number, and a resumed run may have another.
    #[serde(skip_serializing_if = "is_default")]
    pub optimizer_state: OptimizerState,
    /// By what gradients travel between cards. A resumed run may have another, which sums in another order.
    #[serde(skip_serializing_if = "is_default")]
    pub collectives: Collectives,
}

/// MiB of a bucket unless a recipe says otherwise.
const USUAL_MIB: usize = 25;

fn is_usual(bucket_mib: &usize) -> bool {
    *bucket_mib == USUAL_MIB
}

/// Over which batches batch norm normalises in a run of several processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistributedBatchNorm {
    /// The batch of each process for itself. Evaluation has the running statistics of the first process.
    #[default]
    Own,
    /// The batches of all processes, as PyTorch's `SyncBatchNorm`.
    Synchronised,
}

/// In which number type gradients go to other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GradientType {
    /// As they are.
    #[default]
    F32,
    /// In half of the bytes.
    Bf16,
}

/// Which processes keep the optimizer's state in a run of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerState {
    /// Each has the state of all parameters.
    #[default]
    Replicated,
    /// Each has the state of its share of the parameters, takes their steps and gives the others their new values: stage 1
    /// of ZeRO (Rajbhandari et al. 2020, <https://arxiv.org/abs/1910.02054>). The weights have the same bits.
    Sharded,
}

/// By what gradients travel between the cards of several processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collectives {
    /// By NCCL if each process has a card of its own and NCCL is installed, otherwise through the memory of the hosts.
    #[default]
    Auto,
    /// By NCCL. A run that cannot have it is refused.
    Nccl,
    /// Through the memory of the hosts.
    Host,
}

impl Default for DistributedConfig {
    fn default() -> Self {
        let (batch_norm, gradients) = (DistributedBatchNorm::default(), GradientType::default());
        let (optimizer_state, collectives) = (OptimizerState::default(), Collectives::default());
        Self { batch_norm, gradients, bucket_mib: USUAL_MIB, optimizer_state, collectives }
    }
}

impl DistributedConfig {
    /// Lets batch norm normalise over the batches of all processes.
    pub fn synchronised_batch_norm(self) -> Self {
        Self { batch_norm: DistributedBatchNorm::Synchronised, ..self }
    }

    /// Sets the number type in which gradients go to other processes.
    pub fn gradients(self, gradients: GradientType) -> Self {
        Self { gradients, ..self }
    }

    /// Sets which processes keep the optimizer's state.
    pub fn optimizer_state(self, optimizer_state: OptimizerState) -> Self {
        Self { optimizer_state, ..self }
    }

    /// Sets by what gradients travel between cards.
    pub fn collectives(self, collectives: Collectives) -> Self {
        Self { collectives, ..self }
    }

    /// The same without what a resumed run may have otherwise.
    pub(crate) fn of_run(&self) -> Self {
        let (optimizer_state, collectives) = (OptimizerState::default(), Collectives::default());
        Self { optimizer_state, collectives, ..self.clone() }
    }

    /// Number of values from which a bucket of gradients is full.
    pub(crate) fn values_of_bucket(&self) -> usize {
        self.bucket_mib.saturating_mul(1 << 20) / size_of::<f32>()
    }

    pub(crate) fn shards_optimizer_state(&self) -> bool {
        self.optimizer_state == OptimizerState::Sharded
    }

    pub(crate) fn synchronises_batch_norm(&self) -> bool {
        self.batch_norm == DistributedBatchNorm::Synchronised
    }
}

/// An exponential moving average of all weights and of batch norm's statistics (Polyak and Juditsky 1992).
/// At a high learning rate the weights still swing, and the average lies in the middle.
///
/// The average is updated after every `every` steps. It moves the share `1 - d` of the way to the weights.
/// At the `n`-th update, `d` is the smaller of `decay` and `(1 + n) / (10 + n)`, so that a short run does
/// not remember its start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { decay = 0.99 }")]
#[non_exhaustive]
pub struct EmaConfig {
    /// Share of the average that is kept at each update, below 1.
    pub decay: f64,
    /// Number of steps between two updates.
    #[serde(default = "default_every")]
    pub every: usize,
    /// With an exponent here, `d` is `decay` times the share of the run that is done, raised to this power. So the average
    /// follows the weights at first and settles towards the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
    /// Whether the weights go on from the average after each update (Zhang et al. 2019, "Lookahead Optimizer",
    /// <https://arxiv.org/abs/1907.08610>). Default `false`.
    #[serde(default, skip_serializing_if = "is_off")]
    pub lookahead: bool,
}

fn is_off(setting: &bool) -> bool {
    !setting
}

/// Early stopping: the run ends before the last epoch when a metric no longer improves.
///
/// Recipes from before there was `monitor` have `mode = "min"` for the validation loss and `mode = "max"`
/// for the validation accuracy. These recipes can still be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "ReadEarlyStop")]
#[non_exhaustive]
pub struct EarlyStopConfig {
    /// Number of epochs in a row without improvement after which the run ends.
    pub patience: usize,
    /// Smallest difference from the best value that counts as an improvement.
    pub min_delta: f64,
    /// The metric monitored. `val_loss` by default.
    pub monitor: String,
    /// Whether lower or higher is better. By default the metric itself decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// The form in recipes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { patience = 5 }")]
struct ReadEarlyStop {
    patience: usize,
    #[serde(default)]
    min_delta: f64,
    monitor: Option<String>,
    mode: Option<Mode>,
}

impl From<ReadEarlyStop> for EarlyStopConfig {
    fn from(read: ReadEarlyStop) -> Self {
        let ReadEarlyStop { patience, min_delta, monitor, mode } = read;
        let (monitor, mode) = of_old_mode(monitor, mode);
        Self { patience, min_delta, monitor, mode }
    }
}

impl ParamGroupConfig {
    /// The parameters at or under a path, with the optimizer's settings.
    pub fn new(prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        Self { prefix, pattern: None, lr: None, weight_decay: None, optimizer: None, epochs: None }
    }

    /// The parameters whose paths match a pattern, with the optimizer's settings.
    pub fn matching(pattern: impl Into<String>) -> Self {
        Self { pattern: Some(pattern.into()), ..Self::new("") }
    }

    /// Sets an optimizer of their own.
    pub fn optimizer(self, optimizer: impl Into<Description>) -> Self {
        Self { optimizer: Some(optimizer.into()), ..self }
    }

    /// Lets them learn in the first `epochs` epochs alone.
    pub fn epochs(self, epochs: usize) -> Self {
        Self { epochs: Some(epochs), ..self }
    }

    /// Whether the group holds the parameter at this path.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let matches = |pattern: &String| layer_matches(pattern, path);
        is_under(path, &self.prefix) && self.pattern.as_ref().is_none_or(matches)
    }

    /// Sets their own learning rate.
    pub fn lr(self, lr: f64) -> Self {
        Self { lr: Some(lr), ..self }
    }

    /// Sets their own weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay: Some(weight_decay), ..self }
    }
}

impl FreezeConfig {
    /// Lets only the head learn in the first `epochs` epochs.
    pub fn new(epochs: usize) -> Self {
        let batch_norm = FrozenBatchNorm::default();
        Self { epochs, prefix_kept: None, unfreeze_lr: None, batch_norm }
    }

    /// Path of the part that learns instead of the head.
    pub fn prefix_kept(self, path: impl Into<String>) -> Self {
        Self { prefix_kept: Some(path.into()), ..self }
    }

    /// The learning rate that the schedule continues from when the rest begins to learn.
    pub fn unfreeze_lr(self, lr: f64) -> Self {
        Self { unfreeze_lr: Some(lr), ..self }
    }

    /// What batch norm does while its parameters are frozen.
    pub fn batch_norm(self, batch_norm: FrozenBatchNorm) -> Self {
        Self { batch_norm, ..self }
    }
}

impl EmaConfig {
    /// Keeps the share `decay`, below 1, of the average at each update.
    pub fn new(decay: f64) -> Self {
        Self { decay, every: 1, power: None, lookahead: false }
    }

    /// Number of steps between two updates.
    pub fn every(self, every: usize) -> Self {
        Self { every, ..self }
    }

    /// Lets the decay grow with this power of the share of the run that is done.
    pub fn power(self, power: f64) -> Self {
        Self { power: Some(power), ..self }
    }

    /// Whether the weights go on from the average after each update.
    pub fn lookahead(self, lookahead: bool) -> Self {
        Self { lookahead, ..self }
    }
}

fn default_every() -> usize {
    1
}

impl EarlyStopConfig {
    /// Ends the run after `patience` epochs in a row in which the validation loss does not fall.
    pub fn new(patience: usize) -> Self {
        Self { patience, min_delta: 0.0, monitor: VAL_LOSS.to_owned(), mode: None }
    }

    /// Monitors another metric.
    pub fn monitor(self, metric: impl Into<String>) -> Self {
        Self { monitor: metric.into(), ..self }
    }

    /// Whether lower or higher is better.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// Smallest difference from the best value that counts as an improvement.
    pub fn min_delta(self, min_delta: f64) -> Self {
        Self { min_delta, ..self }
    }

    /// The metric monitored.
    pub(crate) fn monitored(&self, measured: &Measured) -> Result<Monitor> {
        measured.monitor("early_stop.monitor", &self.monitor, self.mode)
    }

    /// Whether a run ends after these epochs. It looks at all of them, so that a resumed run needs no
    /// further state. The first `forgiven` epochs do not count as epochs without improvement. They belong
    /// to a run that went on after it had been stopped early. The best value they reached still has to be
    /// beaten.
    pub(crate) fn is_reached(
        &self,
        monitor: &Monitor,
        epochs: &[EpochRecord],
        forgiven: usize,
    ) -> bool {
        let mut best = None;
        let mut waited = 0;
        for record in epochs {
            let value = monitor.value(record);
            let better = value.filter(|&value| {
                best.is_none_or(|best| monitor.is_better(value, best, self.min_delta))
            });
            if better.is_some() {
                best = better;
                waited = 0;
            } else if record.epoch > forgiven {
                waited += 1;
            }
        }
        waited >= self.patience
    }
}
