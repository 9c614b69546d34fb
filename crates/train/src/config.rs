//! All settings of a training run.

use std::fmt;

use candle_vision_models::{FrozenBatchNorm, Precision};
use candle_vision_registry::Description;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Result;
use crate::error::require;
use crate::loss::CrossEntropy;
use crate::monitor::{Measured, Mode, Monitor, VAL_ACCURACY, VAL_LOSS, of_old_mode};
use crate::optim::require_rate;
use crate::parts::{Parts, undescribed};
use crate::record::EpochRecord;
use crate::schedule::Constant;

/// All settings of a training run but data and network; the `[training]` table of a recipe.
///
/// Optimizer, schedule, loss and metrics are descriptions: names with settings, which [`Parts`] makes
/// objects of. A setting that is not given has its default; [`TrainerConfig::with_defaults`] fills it in.
///
/// # Example
/// ```
/// use candle_vision_train::TrainerConfig;
/// use candle_vision_train::optim::Sgd;
/// use candle_vision_train::schedule::StepLr;
///
/// let config = TrainerConfig::new(10, Sgd::new(1e-3).momentum(0.9)).schedule(StepLr::new(7, 0.1));
/// config.validate()?;
/// # Ok::<(), candle_vision_train::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[non_exhaustive]
pub struct TrainerConfig {
    /// Times every training image is seen.
    pub epochs: usize,
    /// How parameters follow their gradients.
    #[serde(deserialize_with = "optimizer")]
    pub optimizer: Description,
    /// How the learning rate changes; constant by default.
    #[serde(default = "constant", deserialize_with = "schedule")]
    pub schedule: Description,
    /// What is made small; cross entropy by default.
    #[serde(default = "cross_entropy", deserialize_with = "loss")]
    pub loss: Description,
    /// Numbers of the validation that are recorded besides loss and accuracy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Description>,
    /// The number by which an epoch is the best: `val_accuracy` by default, `val_loss`, or a metric's name.
    #[serde(default = "val_accuracy")]
    pub monitor: String,
    /// Number type of feature maps and products, in training and in validation; `f32` by default.
    /// With `f16` the loss is scaled as PyTorch's `GradScaler` does.
    #[serde(default)]
    pub precision: Precision,
    /// Of recipes from before there was `loss`; moved there when they are read.
    #[serde(default, skip_serializing)]
    label_smoothing: Option<f64>,
    /// The same.
    #[serde(default, skip_serializing)]
    class_weights: Option<Vec<f64>>,
    /// Parameters with a learning rate or weight decay of their own; the first that matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub param_groups: Vec<ParamGroupConfig>,
    /// Whether weight decay also pulls on biases and on scales of norm layers, as in PyTorch.
    #[serde(default = "default_decay_vectors")]
    pub decay_vectors: bool,
    /// First epochs in which only the head learns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeConfig>,
    /// An end before the last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStopConfig>,
    /// Validate, and keep as the best, not the weights but their running average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// Largest norm of all gradients together; a larger one is scaled down to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_clip_norm: Option<f64>,
    /// Decides what dropout drops.
    #[serde(default)]
    pub seed: u64,
    /// At most so many batches of training and of validation in an epoch: for a quick try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_batches: Option<usize>,
}

impl Serialize for TrainerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for TrainerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::deserialize(deserializer)?;
        // Earlier versions wrote the default, too.
        let smoothing = config.label_smoothing.take().filter(|fraction| *fraction != 0.0);
        let weights = config.class_weights.take();
        if smoothing.is_none() && weights.is_none() {
            return Ok(config);
        }
        if config.loss != cross_entropy() {
            return Err(D::Error::custom(
                "`label_smoothing` and `class_weights` are settings of the loss now; write them there: \
                 loss = { name = \"cross_entropy\", label_smoothing = 0.1 }",
            ));
        }
        let mut loss = CrossEntropy::new().label_smoothing(smoothing.unwrap_or_default());
        if let Some(weights) = weights {
            loss = loss.class_weights(weights);
        }
        config.loss = loss.into();
        Ok(config)
    }
}

/// Reads a description; anything but a table is answered with an example.
struct Table(&'static str);

impl<'de> Visitor<'de> for Table {
    type Value = Description;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table such as {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Description, A::Error> {
        Description::deserialize(MapAccessDeserializer::new(map))
    }
}

fn optimizer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Description, D::Error> {
    deserializer.deserialize_any(Table("{ name = \"sgd\", lr = 0.001 }"))
}

fn schedule<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Description, D::Error> {
    deserializer.deserialize_any(Table("{ name = \"step_lr\", step_size = 7 }"))
}

fn loss<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Description, D::Error> {
    deserializer.deserialize_any(Table("{ name = \"cross_entropy\", label_smoothing = 0.1 }"))
}

fn constant() -> Description {
    Constant::new().into()
}

fn cross_entropy() -> Description {
    CrossEntropy::new().into()
}

fn val_accuracy() -> String {
    VAL_ACCURACY.to_owned()
}

/// Parameters with a learning rate or weight decay of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ParamGroupConfig {
    /// Path that they lie at or under, such as `layer4`.
    pub prefix: String,
    /// Learning rate instead of the optimizer's; the schedule changes both by the same factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Weight decay instead of the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// First epochs in which only a part of the network learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { epochs = 5 }")]
#[non_exhaustive]
pub struct FreezeConfig {
    /// How many; 0 freezes nothing.
    pub epochs: usize,
    /// Path of the part that learns; the network's head by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_kept: Option<String>,
    /// Learning rate from which the schedule goes on when the rest begins to learn.
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

/// An exponential moving average of all weights and of batch norm's statistics (Polyak and Juditsky
/// 1992): where the weights of a high learning rate still swing, it is in the middle.
///
/// After every `every` steps it goes the share `1 - d` of the way to the weights, where `d` is `decay`
/// but at most `(1 + n) / (10 + n)` at the `n`-th time, so that a short run does not remember its
/// start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { decay = 0.99 }")]
#[non_exhaustive]
pub struct EmaConfig {
    /// What is kept of the average each time, below 1.
    pub decay: f64,
    /// Steps between two times.
    #[serde(default = "default_every")]
    pub every: usize,
}

/// An end before the last epoch, when a metric no longer improves.
///
/// Recipes from before there was `monitor` have `mode = "min"` for the validation loss and `mode = "max"` for
/// the validation accuracy; they are still read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "ReadEarlyStop")]
#[non_exhaustive]
pub struct EarlyStopConfig {
    /// Epochs in a row without improvement after which the run ends.
    pub patience: usize,
    /// By how much the best value must be beaten.
    pub min_delta: f64,
    /// The number that is watched; `val_loss` by default.
    pub monitor: String,
    /// Which way it is better; by default as the metric itself says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// As it stands in recipes.
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
    /// The parameters at or under a path, with the optimizer's own settings.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), lr: None, weight_decay: None }
    }

    /// A learning rate of their own.
    pub fn lr(self, lr: f64) -> Self {
        Self { lr: Some(lr), ..self }
    }

    /// A weight decay of their own.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay: Some(weight_decay), ..self }
    }
}

impl FreezeConfig {
    /// Only the head learns in so many epochs.
    pub fn new(epochs: usize) -> Self {
        let batch_norm = FrozenBatchNorm::default();
        Self { epochs, prefix_kept: None, unfreeze_lr: None, batch_norm }
    }

    /// The part at this path learns instead of the head.
    pub fn prefix_kept(self, path: impl Into<String>) -> Self {
        Self { prefix_kept: Some(path.into()), ..self }
    }

    /// The learning rate from which the schedule goes on when the rest begins to learn.
    pub fn unfreeze_lr(self, lr: f64) -> Self {
        Self { unfreeze_lr: Some(lr), ..self }
    }

    /// What batch norm does while its parameters are frozen.
    pub fn batch_norm(self, batch_norm: FrozenBatchNorm) -> Self {
        Self { batch_norm, ..self }
    }
}

impl EmaConfig {
    /// Keeps the share `decay`, below 1, of the average after each step.
    pub fn new(decay: f64) -> Self {
        Self { decay, every: 1 }
    }

    /// Steps between two times.
    pub fn every(self, every: usize) -> Self {
        Self { every, ..self }
    }
}

fn default_every() -> usize {
    1
}

fn default_decay_vectors() -> bool {
    true
}

impl TrainerConfig {
    /// A constant learning rate, cross entropy, and nothing special.
    pub fn new(epochs: usize, optimizer: impl Into<Description>) -> Self {
        Self {
            epochs,
            optimizer: optimizer.into(),
            schedule: constant(),
            loss: cross_entropy(),
            metrics: Vec::new(),
            monitor: val_accuracy(),
            precision: Precision::F32,
            label_smoothing: None,
            class_weights: None,
            param_groups: Vec::new(),
            decay_vectors: true,
            freeze: None,
            early_stop: None,
            ema: None,
            grad_clip_norm: None,
            seed: 0,
            limit_batches: None,
        }
    }

    /// Another number of epochs.
    pub fn epochs(self, epochs: usize) -> Self {
        Self { epochs, ..self }
    }

    /// How the learning rate changes.
    pub fn schedule(self, schedule: impl Into<Description>) -> Self {
        Self { schedule: schedule.into(), ..self }
    }

    /// What is made small.
    pub fn loss(self, loss: impl Into<Description>) -> Self {
        Self { loss: loss.into(), ..self }
    }

    /// One more number of the validation that is recorded.
    pub fn metric(mut self, metric: impl Into<Description>) -> Self {
        self.metrics.push(metric.into());
        self
    }

    /// The number by which an epoch is the best.
    pub fn monitor(self, metric: impl Into<String>) -> Self {
        Self { monitor: metric.into(), ..self }
    }

    /// Number type of feature maps and products.
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// One more group of parameters with settings of their own; the first that matches counts.
    pub fn param_group(mut self, group: ParamGroupConfig) -> Self {
        self.param_groups.push(group);
        self
    }

    /// Whether weight decay also pulls on biases and on scales of norm layers.
    pub fn decay_vectors(self, decay_vectors: bool) -> Self {
        Self { decay_vectors, ..self }
    }

    /// First epochs in which only a part learns.
    pub fn freeze(self, freeze: FreezeConfig) -> Self {
        Self { freeze: Some(freeze), ..self }
    }

    /// An end before the last epoch.
    pub fn early_stop(self, early_stop: EarlyStopConfig) -> Self {
        Self { early_stop: Some(early_stop), ..self }
    }

    /// Validates, and keeps as the best, a running average of the weights.
    pub fn ema(self, ema: EmaConfig) -> Self {
        Self { ema: Some(ema), ..self }
    }

    /// Largest norm of all gradients together.
    pub fn grad_clip_norm(self, norm: f64) -> Self {
        Self { grad_clip_norm: Some(norm), ..self }
    }

    /// Decides what dropout drops.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// At most so many batches of training and of validation in an epoch.
    pub fn limit_batches(self, batches: usize) -> Self {
        Self { limit_batches: Some(batches), ..self }
    }

    /// Checks every value that can be checked without a network, with the built-in parts.
    ///
    /// # Errors
    /// If one is impossible; the error names it.
    pub fn validate(&self) -> Result<()> {
        self.with_defaults(&Parts::standard()).map(|_| ())
    }

    /// The same settings with those of the parts that were left out filled in. Two runs are the same exactly
    /// if these are equal.
    ///
    /// # Errors
    /// If a part is not registered, or a value is impossible; the error names it.
    pub fn with_defaults(&self, parts: &Parts) -> Result<Self> {
        self.validate_own()?;
        let optimizer = parts.optimizers.build(&self.optimizer)?;
        let schedule = parts.schedules.build(&self.schedule)?;
        schedule.validate(optimizer.lr())?;
        let loss = parts.losses.build(&self.loss)?;
        let metrics: Vec<_> = self
            .metrics
            .iter()
            .map(|description| parts.metrics.build(description))
            .collect::<Result<_>>()?;
        let measured = Measured::with(&metrics)?;
        schedule.monitor(&measured)?;
        self.check_monitors(&measured)?;
        let or_not = |description: Option<Description>| description.unwrap_or_else(undescribed);
        Ok(Self {
            optimizer: or_not(optimizer.describe()),
            schedule: or_not(schedule.describe()),
            loss: or_not(loss.describe()),
            metrics: metrics.iter().map(|metric| or_not(metric.describe())).collect(),
            ..self.clone()
        })
    }

    /// Checks that what is watched is measured.
    pub(crate) fn check_monitors(&self, measured: &Measured) -> Result<()> {
        measured.monitor("monitor", &self.monitor, None)?;
        self.early_stop.as_ref().map_or(Ok(()), |early| early.monitored(measured).map(|_| ()))
    }

    /// Checks what is no matter of a part.
    pub(crate) fn validate_own(&self) -> Result<()> {
        require(self.epochs > 0, "epochs", self.epochs, "at least 1")?;
        positive("grad_clip_norm", self.grad_clip_norm)?;
        require(self.limit_batches != Some(0), "limit_batches", 0, "at least 1")?;
        for group in &self.param_groups {
            group.lr.map_or(Ok(()), |lr| require_rate("lr of a parameter group", lr))?;
        }
        if let Some(freeze) = &self.freeze {
            positive("freeze.unfreeze_lr", freeze.unfreeze_lr)?;
        }
        if let Some(EmaConfig { decay, every }) = self.ema {
            require((0.0..1.0).contains(&decay), "ema.decay", decay, "in 0..1, 1 excluded")?;
            require(every > 0, "ema.every", every, "at least 1")?;
        }
        if let Some(EarlyStopConfig { patience, min_delta, .. }) = self.early_stop {
            require(patience > 0, "early_stop.patience", patience, "at least 1")?;
            let valid = min_delta >= 0.0 && min_delta.is_finite();
            require(valid, "early_stop.min_delta", min_delta, "0 or a positive number")?;
        }
        Ok(())
    }
}

fn positive(setting: &str, value: Option<f64>) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    require(value > 0.0 && value.is_finite(), setting, value, "a positive number")
}

impl EarlyStopConfig {
    /// An end after so many epochs in a row in which the validation loss does not fall.
    pub fn new(patience: usize) -> Self {
        Self { patience, min_delta: 0.0, monitor: VAL_LOSS.to_owned(), mode: None }
    }

    /// Another number is watched.
    pub fn monitor(self, metric: impl Into<String>) -> Self {
        Self { monitor: metric.into(), ..self }
    }

    /// Which way the number is better.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// By how much the best value must be beaten.
    pub fn min_delta(self, min_delta: f64) -> Self {
        Self { min_delta, ..self }
    }

    /// What is watched.
    pub(crate) fn monitored(&self, measured: &Measured) -> Result<Monitor> {
        measured.monitor("early_stop.monitor", &self.monitor, self.mode)
    }

    /// Whether a run ends after these epochs. It looks at all of them, so that a resumed run needs
    /// no memory of its own. The first `forgiven` epochs without improvement do not count: those of a run
    /// that went on after it had been stopped early. What they reached is still to be beaten.
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

#[cfg(test)]
mod tests;
