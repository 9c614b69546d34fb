//! All settings of a training run.

mod tables;

use std::fmt;

use candle_vision_data::samplers::ClassWeights;
use candle_vision_models::Precision;
use candle_vision_registry::Description;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Result;
use crate::error::require;
use crate::loss::CrossEntropy;
use crate::loss_scale::LossScale;
use crate::monitor::{Measured, VAL_ACCURACY};
use crate::optim::require_rate;
use crate::parts::{Parts, undescribed};
use crate::schedule::Constant;

pub use tables::{
    Collectives, DistributedBatchNorm, DistributedConfig, EarlyStopConfig, EmaConfig, FreezeConfig,
    GradientType, OptimizerState, ParamGroupConfig,
};

/// All settings of a training run except data and network. It is the `[training]` table of a recipe.
///
/// Optimizer, schedule, loss and metrics are descriptions: names with settings. [`Parts`] builds the
/// objects from them. A setting that is not given has its default. [`TrainerConfig::with_defaults`] fills
/// the defaults in.
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
    /// Number of epochs. Each shows every training image once.
    pub epochs: usize,
    /// The optimizer.
    #[serde(deserialize_with = "optimizer")]
    pub optimizer: Description,
    /// The learning-rate schedule. Constant by default.
    #[serde(default = "constant", deserialize_with = "schedule")]
    pub schedule: Description,
    /// The training loss. Cross entropy by default.
    #[serde(default = "cross_entropy", deserialize_with = "loss")]
    pub loss: Description,
    /// Metrics of the validation that are recorded besides loss and accuracy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Description>,
    /// The metric that chooses the best epoch: `val_accuracy` (the default), `val_loss`, or a metric's
    /// name.
    #[serde(default = "val_accuracy")]
    pub monitor: String,
    /// Number type of feature maps and matrix products, in training and in validation. `f32` by default.
    /// With `f16` the loss is scaled as PyTorch's `GradScaler` does.
    #[serde(default)]
    pub precision: Precision,
    /// Only in recipes from before there was `loss`. It is moved there when the recipe is read.
    #[serde(default, skip_serializing)]
    label_smoothing: Option<f64>,
    /// Also from before there was `loss`, and moved there.
    #[serde(default, skip_serializing)]
    class_weights: Option<ClassWeights>,
    /// Parameters with their own learning rate or weight decay. The first group that matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub param_groups: Vec<ParamGroupConfig>,
    /// Whether weight decay also applies to biases and to the scales of norm layers, as in PyTorch.
    #[serde(default = "default_decay_vectors")]
    pub decay_vectors: bool,
    /// The first epochs, in which only the head learns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<FreezeConfig>,
    /// Early stopping before the last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStopConfig>,
    /// Validate a running average of the weights instead of the weights, and keep it as the best network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// Test-time augmentation in validation. Then loss, accuracy and metrics are those of the averaged logits.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "tta")]
    pub tta: Option<Description>,
    /// In how many of the last epochs validation has test-time augmentation. By default it has it in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tta_epochs: Option<usize>,
    /// Number of batches that make one training step, by the gradients of their mean loss. The last step of an epoch takes
    /// what is left. 1 by default.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// Largest norm of all gradients together. Gradients with a larger norm are scaled down to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_clip_norm: Option<f64>,
    /// First factor of the loss with the precision `f16`, a power of two, as `init_scale` of PyTorch's `GradScaler`. The
    /// run finds the best one by itself. Default 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Seed of the random numbers for dropout.
    #[serde(default)]
    pub seed: u64,
    /// Largest number of training and of validation batches per epoch, for a quick try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_batches: Option<usize>,
    /// Whether a run stops before its first step if a parameter that should learn gets no gradient, one of zero, or one that is
    /// not finite, in up to three passes on a few images. Default true.
    #[serde(default = "default_check_gradients", skip_serializing_if = "Clone::clone")]
    pub check_gradients: bool,
    /// Whether the norms of all gradients are recorded in the first step of each epoch, before clipping. A run's folder
    /// then has a `gradients.csv`. Default false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gradient_norms: bool,
    /// What processes that train the network together exchange. It means nothing to a run of one process.
    #[serde(default, skip_serializing_if = "is_default")]
    pub distributed: DistributedConfig,
}

fn is_default<T: Default + PartialEq>(setting: &T) -> bool {
    *setting == T::default()
}

fn one() -> usize {
    1
}

fn is_one(setting: &usize) -> bool {
    *setting == 1
}

fn is_false(setting: &bool) -> bool {
    !setting
}

fn default_check_gradients() -> bool {
    true
}

impl Serialize for TrainerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for TrainerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut config = Self::deserialize(deserializer)?;
        // Earlier versions also wrote the default.
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
            loss = loss.weighted(weights);
        }
        config.loss = loss.into();
        Ok(config)
    }
}

/// Reads a description. For anything but a table, the error shows an example.
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

fn tta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Description>, D::Error> {
    deserializer.deserialize_any(Table("{ name = \"mirror\" }")).map(Some)
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

fn default_decay_vectors() -> bool {
    true
}

impl TrainerConfig {
    /// The defaults: a constant learning rate, cross entropy, `f32`, and all optional settings off.
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
            tta: None,
            tta_epochs: None,
            accumulate: 1,
            grad_clip_norm: None,
            loss_scale: None,
            seed: 0,
            limit_batches: None,
            check_gradients: true,
            gradient_norms: false,
            distributed: DistributedConfig::default(),
        }
    }

    /// Sets the number of epochs.
    pub fn epochs(self, epochs: usize) -> Self {
        Self { epochs, ..self }
    }

    /// Sets the learning-rate schedule.
    pub fn schedule(self, schedule: impl Into<Description>) -> Self {
        Self { schedule: schedule.into(), ..self }
    }

    /// Sets the training loss.
    pub fn loss(self, loss: impl Into<Description>) -> Self {
        Self { loss: loss.into(), ..self }
    }

    /// Adds a metric of the validation to record.
    pub fn metric(mut self, metric: impl Into<Description>) -> Self {
        self.metrics.push(metric.into());
        self
    }

    /// Sets the metric that chooses the best epoch.
    pub fn monitor(self, metric: impl Into<String>) -> Self {
        Self { monitor: metric.into(), ..self }
    }

    /// Number type of feature maps and matrix products.
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Adds a group of parameters with their own settings. The first group that matches counts.
    pub fn param_group(mut self, group: ParamGroupConfig) -> Self {
        self.param_groups.push(group);
        self
    }

    /// Whether weight decay also applies to biases and to the scales of norm layers.
    pub fn decay_vectors(self, decay_vectors: bool) -> Self {
        Self { decay_vectors, ..self }
    }

    /// Whether a run stops if a parameter that should learn gets no gradient.
    pub fn check_gradients(self, check_gradients: bool) -> Self {
        Self { check_gradients, ..self }
    }

    /// Whether the norms of all gradients are recorded in the first step of each epoch.
    pub fn gradient_norms(self, gradient_norms: bool) -> Self {
        Self { gradient_norms, ..self }
    }

    /// Sets what processes that train the network together exchange.
    pub fn distributed(self, distributed: DistributedConfig) -> Self {
        Self { distributed, ..self }
    }

    /// The first epochs, in which only a part learns.
    pub fn freeze(self, freeze: FreezeConfig) -> Self {
        Self { freeze: Some(freeze), ..self }
    }

    /// Early stopping before the last epoch.
    pub fn early_stop(self, early_stop: EarlyStopConfig) -> Self {
        Self { early_stop: Some(early_stop), ..self }
    }

    /// Validates a running average of the weights and keeps it as the best network.
    pub fn ema(self, ema: EmaConfig) -> Self {
        Self { ema: Some(ema), ..self }
    }

    /// Sets the test-time augmentation of the validation.
    pub fn tta(self, tta: impl Into<Description>) -> Self {
        Self { tta: Some(tta.into()), ..self }
    }

    /// In how many of the last epochs validation has test-time augmentation.
    pub fn tta_epochs(self, epochs: usize) -> Self {
        Self { tta_epochs: Some(epochs), ..self }
    }

    /// Number of batches that make one training step.
    pub fn accumulate(self, batches: usize) -> Self {
        Self { accumulate: batches, ..self }
    }

    /// Largest norm of all gradients together.
    pub fn grad_clip_norm(self, norm: f64) -> Self {
        Self { grad_clip_norm: Some(norm), ..self }
    }

    /// First factor of the loss with the precision `f16`, a power of two.
    pub fn loss_scale(self, scale: f64) -> Self {
        Self { loss_scale: Some(scale), ..self }
    }

    /// Seed of the random numbers for dropout.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Largest number of training and of validation batches per epoch.
    pub fn limit_batches(self, batches: usize) -> Self {
        Self { limit_batches: Some(batches), ..self }
    }

    /// Checks every value that can be checked without a network. Names are looked up among the built-in
    /// parts.
    ///
    /// # Errors
    /// If a value is impossible. The error names the setting.
    pub fn validate(&self) -> Result<()> {
        self.with_defaults(&Parts::standard()).map(|_| ())
    }

    /// The same settings with the defaults of all parts filled in. Two runs have the same settings exactly
    /// if these are equal.
    ///
    /// # Errors
    /// If a part is not registered, or a value is impossible. The error names it.
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
        let param_groups = self.param_groups.iter().map(|group| {
            let own =
                group.optimizer.as_ref().map(|own| parts.optimizers.build(own)).transpose()?;
            let described = own.and_then(|own| own.describe());
            let optimizer = described.or_else(|| group.optimizer.clone());
            Ok(ParamGroupConfig { optimizer, ..group.clone() })
        });
        let tta = self.tta.as_ref().map(|tta| parts.tta.build(tta)).transpose()?;
        Ok(Self {
            param_groups: param_groups.collect::<Result<_>>()?,
            optimizer: or_not(optimizer.describe()),
            schedule: or_not(schedule.describe()),
            loss: or_not(loss.describe()),
            metrics: metrics.iter().map(|metric| or_not(metric.describe())).collect(),
            tta: tta.map(|tta| or_not(tta.describe())),
            ..self.clone()
        })
    }

    /// Checks that the monitored metrics are measured.
    pub(crate) fn check_monitors(&self, measured: &Measured) -> Result<()> {
        measured.monitor("monitor", &self.monitor, None)?;
        self.early_stop.as_ref().map_or(Ok(()), |early| early.monitored(measured).map(|_| ()))
    }

    /// Checks the settings that belong to no part.
    pub(crate) fn validate_own(&self) -> Result<()> {
        require(self.epochs > 0, "epochs", self.epochs, "at least 1")?;
        require(self.accumulate > 0, "accumulate", self.accumulate, "at least 1")?;
        positive("grad_clip_norm", self.grad_clip_norm)?;
        let counts = self.tta.is_some() || self.tta_epochs.is_none();
        let expected = "not given unless there is a `tta`";
        require(counts, "tta_epochs", self.tta_epochs.unwrap_or_default(), expected)?;
        require(self.tta_epochs != Some(0), "tta_epochs", 0, "at least 1")?;
        if let Some(scale) = self.loss_scale {
            require(LossScale::is_possible(scale), "loss_scale", scale, LossScale::POSSIBLE)?;
        }
        require(self.limit_batches != Some(0), "limit_batches", 0, "at least 1")?;
        for group in &self.param_groups {
            group.lr.map_or(Ok(()), |lr| require_rate("lr of a parameter group", lr))?;
            require(group.epochs != Some(0), "epochs of a parameter group", 0, "at least 1")?;
            let is_given = !group.prefix.is_empty() || group.pattern.is_some();
            let expected = "the path of a part of the network, or there is a `pattern`";
            require(is_given, "prefix of a parameter group", "not given", expected)?;
        }
        if let Some(freeze) = &self.freeze {
            positive("freeze.unfreeze_lr", freeze.unfreeze_lr)?;
        }
        if let Some(EmaConfig { decay, every, power, .. }) = self.ema {
            require((0.0..1.0).contains(&decay), "ema.decay", decay, "in 0..1, 1 excluded")?;
            require(every > 0, "ema.every", every, "at least 1")?;
            positive("ema.power", power)?;
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

#[cfg(test)]
mod tests;
