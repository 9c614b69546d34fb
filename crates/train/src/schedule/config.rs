//! Which schedule, with which settings.

use serde::{Deserialize, Serialize};

use super::EpochMetrics;
use crate::Result;
use crate::error::require;

/// A decay of the learning rate and, if wanted, a warm-up in front of it.
///
/// In a recipe: `schedule = { name = "step_lr", step_size = 7, gamma = 0.1 }`, and with a warm-up
/// `schedule = { name = "cosine_annealing_lr", warmup = { epochs = 5, start_factor = 0.01 } }`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(expecting = "a table such as { name = \"step_lr\", step_size = 7 }")]
pub struct ScheduleConfig {
    /// What happens to the rate after the warm-up.
    #[serde(flatten)]
    pub decay: ScheduleKind,
    /// A linear climb before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<WarmupConfig>,
}

/// What happens to the learning rate; names, defaults and values are PyTorch's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleKind {
    /// Nothing.
    Constant {},
    /// Times `gamma` every `step_size` epochs.
    StepLr {
        /// Epochs between two changes.
        step_size: usize,
        /// Factor of a change.
        #[serde(default = "default_gamma")]
        gamma: f64,
    },
    /// Down half a cosine to `eta_min` in `t_max` epochs, and up again after that, as in PyTorch.
    CosineAnnealingLr {
        /// Epochs from the highest to the lowest rate; without it, the run's epochs after the
        /// warm-up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        t_max: Option<usize>,
        /// Lowest rate.
        #[serde(default)]
        eta_min: f64,
    },
    /// Times `factor` when a metric has not improved for more than `patience` epochs.
    ReduceLrOnPlateau {
        /// Which metric, and which way is better.
        #[serde(default)]
        mode: PlateauMode,
        /// Factor of a change.
        #[serde(default = "default_gamma")]
        factor: f64,
        /// Epochs without improvement that are waited for.
        #[serde(default = "default_patience")]
        patience: usize,
        /// Share of the best value by which a better one must differ.
        #[serde(default = "default_threshold")]
        threshold: f64,
        /// Epochs after a change in which nothing is counted.
        #[serde(default)]
        cooldown: usize,
        /// Lowest rate.
        #[serde(default)]
        min_lr: f64,
    },
    /// Up from `lr / div_factor` to the optimizer's `lr`, and down to a `final_div_factor`-th of where
    /// it began: one cycle over the whole run, in which every training step has a rate of its own
    /// (Smith and Topin 2017, <https://arxiv.org/abs/1708.07120>). The momentum stays as it is:
    /// PyTorch's `OneCycleLR` with `max_lr = lr` and `cycle_momentum = False`.
    OneCycleLr {
        /// Share of the run in which the rate climbs.
        #[serde(default = "default_pct_start")]
        pct_start: f64,
        /// The form of climb and fall.
        #[serde(default)]
        anneal_strategy: Anneal,
        /// The highest rate over the first.
        #[serde(default = "default_div_factor")]
        div_factor: f64,
        /// The first rate over the last.
        #[serde(default = "default_final_div_factor")]
        final_div_factor: f64,
    },
}

/// How a rate goes from one value to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Along half a cosine.
    #[default]
    Cos,
    /// Straight.
    Linear,
}

/// Which metric a plateau is looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlateauMode {
    /// The validation loss; lower is better.
    #[default]
    Min,
    /// The validation accuracy; higher is better.
    Max,
}

impl PlateauMode {
    /// The value that is watched.
    pub fn metric(self, metrics: EpochMetrics) -> f64 {
        match self {
            Self::Min => metrics.val_loss,
            Self::Max => metrics.val_accuracy,
        }
    }
}

/// A climb from `start_factor` of the rate to all of it, as PyTorch's `LinearLR` in front of another
/// schedule in `SequentialLR`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmupConfig {
    /// Epochs of the climb.
    pub epochs: usize,
    /// Share of the rate at the first epoch, in `0.0..=1.0` without 0.
    #[serde(default = "default_start_factor")]
    pub start_factor: f64,
}

impl WarmupConfig {
    pub(super) fn lr(self, base_lr: f64, epoch: usize) -> f64 {
        let climbed = epoch as f64 / self.epochs as f64;
        base_lr * (self.start_factor + (1.0 - self.start_factor) * climbed)
    }
}

fn default_gamma() -> f64 {
    0.1
}

fn default_patience() -> usize {
    10
}

fn default_threshold() -> f64 {
    1e-4
}

fn default_pct_start() -> f64 {
    0.3
}

fn default_div_factor() -> f64 {
    25.0
}

fn default_final_div_factor() -> f64 {
    1e4
}

fn default_start_factor() -> f64 {
    1.0 / 3.0
}

impl Default for ScheduleKind {
    fn default() -> Self {
        Self::Constant {}
    }
}

impl From<ScheduleKind> for ScheduleConfig {
    fn from(decay: ScheduleKind) -> Self {
        Self { decay, warmup: None }
    }
}

impl ScheduleConfig {
    /// Whether the rates depend on the run's number of epochs: those of one cycle, and of a cosine
    /// without its own `t_max`. A run that is resumed with another number of epochs goes on with the
    /// rates that a run of that length has from there on, so that such a schedule is stretched.
    pub fn depends_on_length(&self) -> bool {
        match self.decay {
            ScheduleKind::CosineAnnealingLr { t_max, .. } => t_max.is_none(),
            ScheduleKind::OneCycleLr { .. } => true,
            _ => false,
        }
    }

    /// Checks every value for a run that begins with `base_lr`.
    ///
    /// # Errors
    /// If one is impossible; the error names it.
    pub fn validate(&self, base_lr: f64) -> Result<()> {
        if let Some(WarmupConfig { epochs, start_factor }) = self.warmup {
            require(epochs > 0, "schedule.warmup.epochs", epochs, "at least 1")?;
            let share = start_factor > 0.0 && start_factor <= 1.0;
            let expected = "above 0 and at most 1";
            require(share, "schedule.warmup.start_factor", start_factor, expected)?;
            let climbs = matches!(self.decay, ScheduleKind::OneCycleLr { .. });
            let expected = "left out: one cycle has a climb of its own";
            require(!climbs, "schedule.warmup.epochs", epochs, expected)?;
        }
        self.decay.validate(base_lr)
    }
}

impl ScheduleKind {
    fn validate(&self, base_lr: f64) -> Result<()> {
        let below_base = format!("at least 0 and at most the learning rate {base_lr}");
        match *self {
            Self::Constant {} => Ok(()),
            Self::StepLr { step_size, gamma } => {
                require(step_size > 0, "schedule.step_size", step_size, "at least 1")?;
                let positive = gamma > 0.0 && gamma.is_finite();
                require(positive, "schedule.gamma", gamma, "a positive number")
            }
            Self::CosineAnnealingLr { t_max, eta_min } => {
                require(t_max != Some(0), "schedule.t_max", 0, "at least 1")?;
                let in_range = (0.0..=base_lr).contains(&eta_min);
                require(in_range, "schedule.eta_min", eta_min, &below_base)
            }
            Self::ReduceLrOnPlateau { factor, threshold, min_lr, .. } => {
                let falls = factor > 0.0 && factor < 1.0;
                require(falls, "schedule.factor", factor, "above 0 and below 1")?;
                let positive = threshold >= 0.0 && threshold.is_finite();
                require(positive, "schedule.threshold", threshold, "0 or a positive number")?;
                let in_range = (0.0..=base_lr).contains(&min_lr);
                require(in_range, "schedule.min_lr", min_lr, &below_base)
            }
            Self::OneCycleLr { pct_start, div_factor, final_div_factor, .. } => {
                let share = (0.0..=1.0).contains(&pct_start);
                require(share, "schedule.pct_start", pct_start, "in 0..=1")?;
                for (name, factor) in [
                    ("schedule.div_factor", div_factor),
                    ("schedule.final_div_factor", final_div_factor),
                ] {
                    let divides = factor >= 1.0 && factor.is_finite();
                    require(divides, name, factor, "at least 1")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ScheduleConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_recipe_is_read_and_written_unchanged() {
        for text in [
            "name = 'constant'",
            "name = 'step_lr'\nstep_size = 7\ngamma = 0.1",
            "name = 'cosine_annealing_lr'\n[warmup]\nepochs = 5\nstart_factor = 0.01",
            "name = 'reduce_lr_on_plateau'\nmode = 'max'\nfactor = 0.5\npatience = 3",
            "name = 'one_cycle_lr'\npct_start = 0.2\nanneal_strategy = 'linear'",
        ] {
            let config = parse(text).unwrap();
            config.validate(0.1).unwrap();
            assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config, "{text}");
        }
        assert_eq!(parse("name = 'constant'").unwrap(), ScheduleConfig::default());
    }

    #[test]
    fn unknown_names_and_keys_are_refused() {
        for (text, named) in [
            ("name = 'step'\nstep_size = 7", "step"),
            ("name = 'step_lr'\nstep_size = 7\ngama = 0.1", "gama"),
            ("name = 'constant'\ngamma = 0.1", "gamma"),
            ("name = 'constant'\n[warmup]\nepochs = 5\nstart = 0.1", "start"),
            ("step_size = 7", "name"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message().contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn impossible_values_are_named() {
        for (text, named) in [
            ("name = 'step_lr'\nstep_size = 0", "`schedule.step_size` is 0"),
            ("name = 'step_lr'\nstep_size = 1\ngamma = nan", "`schedule.gamma` is NaN"),
            ("name = 'cosine_annealing_lr'\nt_max = 0", "`schedule.t_max` is 0"),
            ("name = 'cosine_annealing_lr'\neta_min = 1.0", "`schedule.eta_min` is 1"),
            ("name = 'reduce_lr_on_plateau'\nfactor = 1.0", "`schedule.factor` is 1"),
            ("name = 'constant'\n[warmup]\nepochs = 0", "`schedule.warmup.epochs` is 0"),
            ("name = 'one_cycle_lr'\npct_start = 1.5", "`schedule.pct_start` is 1.5"),
            ("name = 'one_cycle_lr'\ndiv_factor = 0.5", "`schedule.div_factor` is 0.5"),
            ("name = 'one_cycle_lr'\n[warmup]\nepochs = 5", "`schedule.warmup.epochs` is 5"),
        ] {
            let error = parse(text).unwrap().validate(0.1).unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
