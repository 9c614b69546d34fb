//! All settings of a training run.

use candle_vision_models::{FrozenBatchNorm, Precision};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::require;
use crate::optim::OptimizerConfig;
use crate::record::EpochRecord;
use crate::schedule::{EpochMetrics, PlateauMode, ScheduleConfig};

/// All settings of a training run but data and network; the `[training]` table of a recipe.
///
/// # Example
/// ```
/// use candle_vision_train::TrainerConfig;
/// use candle_vision_train::optim::OptimizerConfig;
///
/// let config = TrainerConfig::new(10, OptimizerConfig::sgd(1e-3, 0.9));
/// config.validate()?;
/// # Ok::<(), candle_vision_train::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerConfig {
    /// Times every training image is seen.
    pub epochs: usize,
    /// How parameters follow their gradients.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes; constant by default.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Number type of feature maps and products, in training and in validation; `f32` by default.
    /// With `f16` the loss is scaled as PyTorch's `GradScaler` does.
    #[serde(default)]
    pub precision: Precision,
    /// Fraction of each target that is spread over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Factor of each class in the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<Vec<f64>>,
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

/// Parameters with a learning rate or weight decay of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
pub struct EmaConfig {
    /// What is kept of the average each time, below 1.
    pub decay: f64,
    /// Steps between two times.
    #[serde(default = "default_every")]
    pub every: usize,
}

/// An end before the last epoch, when a validation metric no longer improves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { patience = 5 }")]
pub struct EarlyStopConfig {
    /// Epochs in a row without improvement after which the run ends.
    pub patience: usize,
    /// By how much the best value must be beaten.
    #[serde(default)]
    pub min_delta: f64,
    /// `min`: the validation loss; `max`: the validation accuracy.
    #[serde(default)]
    pub mode: PlateauMode,
}

fn default_every() -> usize {
    1
}

fn default_decay_vectors() -> bool {
    true
}

impl TrainerConfig {
    /// A constant learning rate and nothing special.
    pub fn new(epochs: usize, optimizer: OptimizerConfig) -> Self {
        Self {
            epochs,
            optimizer,
            schedule: ScheduleConfig::default(),
            precision: Precision::F32,
            label_smoothing: 0.0,
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

    /// Checks every value that can be checked without a network.
    ///
    /// # Errors
    /// If one is impossible; the error names it.
    pub fn validate(&self) -> Result<()> {
        require(self.epochs > 0, "epochs", self.epochs, "at least 1")?;
        self.optimizer.validate()?;
        self.schedule.validate(self.optimizer.lr())?;
        let fraction = (0.0..1.0).contains(&self.label_smoothing);
        require(fraction, "label_smoothing", self.label_smoothing, "in 0..1, 1 excluded")?;
        positive("grad_clip_norm", self.grad_clip_norm)?;
        require(self.limit_batches != Some(0), "limit_batches", 0, "at least 1")?;
        for group in &self.param_groups {
            positive("lr of a parameter group", group.lr)?;
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
    /// Whether a run ends after these epochs. It looks at all of them, so that a resumed run needs
    /// no memory of its own.
    pub fn is_reached(&self, epochs: &[EpochRecord]) -> bool {
        self.is_reached_after(epochs, 0)
    }

    /// The same where the first `forgiven` epochs without improvement do not count: those of a run that
    /// went on after it had been stopped early. What they reached is still to be beaten.
    pub(crate) fn is_reached_after(&self, epochs: &[EpochRecord], forgiven: usize) -> bool {
        let mut best = None;
        let mut waited = 0;
        for record in epochs {
            let metrics =
                EpochMetrics { val_loss: record.val_loss, val_accuracy: record.val_accuracy };
            let value = match self.mode {
                PlateauMode::Min => -self.mode.metric(metrics),
                PlateauMode::Max => self.mode.metric(metrics),
            };
            if best.is_none_or(|best| value > best + self.min_delta) {
                best = Some(value);
                waited = 0;
            } else if record.epoch > forgiven {
                waited += 1;
            }
        }
        waited >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
        epochs = 40
        optimizer = { name = "adam", lr = 0.001, weight_decay = 0.0001 }
        schedule = { name = "reduce_lr_on_plateau", mode = "min", factor = 0.5, patience = 2 }
        freeze = { epochs = 5, unfreeze_lr = 0.0001, batch_norm = "keep_statistics" }
        early_stop = { patience = 4 }
        ema = { decay = 0.99, every = 5 }
        precision = "bf16"
        param_groups = [{ prefix = "layer4", lr = 0.0005 }]
    "#;

    fn parse(text: &str) -> Result<TrainerConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_recipe_is_read_and_written_unchanged() {
        let config = parse(RECIPE).unwrap();
        config.validate().unwrap();
        assert_eq!(config.freeze.as_ref().unwrap().batch_norm, FrozenBatchNorm::KeepStatistics);
        assert_eq!(config.precision, Precision::Bf16);
        assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainerConfig>(&json).unwrap(), config);
        let least = parse("epochs = 1\noptimizer = { name = 'sgd', lr = 0.1 }").unwrap();
        assert_eq!(least, TrainerConfig::new(1, OptimizerConfig::sgd(0.1, 0.0)));
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        for (old, new) in [
            ("epochs = 40", "epochs = 40\nepohcs = 3"),
            ("unfreeze_lr", "unfreze_lr"),
            ("patience = 4", "patience = 4, patince = 3"),
            ("factor = 0.5", "factr = 0.5"),
            ("every = 5", "evry = 5"),
            ("prefix =", "prefx ="),
        ] {
            let error = parse(&RECIPE.replace(old, new)).unwrap_err();
            assert!(error.message().contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn a_table_is_asked_for_by_example() {
        for (setting, example) in [
            ("freeze = 5", "{ epochs = 5 }"),
            ("early_stop = 5", "{ patience = 5 }"),
            ("ema = 0.99", "{ decay = 0.99 }"),
            ("schedule = 'cosine'", "{ name = \"step_lr\", step_size = 7 }"),
        ] {
            let text = format!("epochs = 1\noptimizer = {{ name = 'sgd', lr = 0.1 }}\n{setting}");
            let error = parse(&text).unwrap_err();
            assert!(error.message().contains(&format!("a table such as {example}")), "{error}");
        }
    }

    #[test]
    fn impossible_values_are_named() {
        for (old, new, named) in [
            ("epochs = 40", "epochs = 0", "`epochs` is 0"),
            ("lr = 0.001", "lr = 0.0", "`optimizer.lr` is 0"),
            ("unfreeze_lr = 0.0001", "unfreeze_lr = 0.0", "`freeze.unfreeze_lr` is 0"),
            ("patience = 4", "patience = 0", "`early_stop.patience` is 0"),
            ("decay = 0.99", "decay = 1.0", "`ema.decay` is 1"),
            ("every = 5", "every = 0", "`ema.every` is 0"),
            ("factor = 0.5", "factor = 2.0", "`schedule.factor` is 2"),
            ("lr = 0.0005", "lr = nan", "`lr of a parameter group` is NaN"),
            ("epochs = 40", "epochs = 40\ngrad_clip_norm = -1.0", "`grad_clip_norm` is -1"),
            ("epochs = 40", "epochs = 40\nlimit_batches = 0", "`limit_batches` is 0"),
        ] {
            let error = parse(&RECIPE.replace(old, new)).unwrap().validate().unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
        }
    }

    fn epochs(losses: &[f64]) -> Vec<EpochRecord> {
        let record = |(i, &val_loss): (usize, &f64)| EpochRecord {
            epoch: i + 1,
            train_loss: 1.0,
            train_accuracy: 0.5,
            val_loss,
            val_accuracy: 0.5,
            lr: 0.1,
            seconds: 1.0,
            images_per_second: 1.0,
        };
        losses.iter().enumerate().map(record).collect()
    }

    #[test]
    fn patience_counts_epochs_without_improvement() {
        let stop = EarlyStopConfig { patience: 2, min_delta: 0.1, mode: PlateauMode::Min };
        assert!(!stop.is_reached(&epochs(&[1.0, 1.0])));
        assert!(stop.is_reached(&epochs(&[1.0, 1.0, 0.95])));
        assert!(!stop.is_reached(&epochs(&[1.0, 1.0, 0.85])));
        assert!(!stop.is_reached(&epochs(&[1.0, 1.0, 0.85, 0.85])));
        let stopped = epochs(&[1.0, 1.0, 0.95, 0.95]);
        assert!(!stop.is_reached_after(&stopped, 3) && stop.is_reached_after(&stopped, 2));
        let accuracy = EarlyStopConfig { mode: PlateauMode::Max, ..stop };
        assert!(accuracy.is_reached(&epochs(&[3.0, 2.0, 1.0])));
    }
}
