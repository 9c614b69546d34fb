//! Arguments of `sweep`, and those that it has in common with `train`.

use std::path::PathBuf;

use candle_vision::models::Precision;
use candle_vision_recipe::{BatchSize, Recipe};
use clap::Args;

use super::{DataDir, Origins};
use crate::device::DeviceArgs;
use crate::machine_memory::Bytes;

/// Changes of a recipe.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Changes {
    /// Number of epochs
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<u32>,
    /// Images in a batch: a number, or `auto` for the largest power of two up to 256 that fits into 80 % of
    /// the memory and leaves 16 steps in an epoch. The run records the number [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<BatchSize>,
    /// Seed of initial weights, shuffling, augmentation and dropout
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u32>,
    /// Number type of feature maps and products: f32, bf16 or f16 [default: the recipe's, or f32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) precision: Option<Precision>,
    /// Set one value of the recipe, for instance `training.optimizer.lr=0.01`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Leave broken images out instead of stopping at the first
    #[arg(long)]
    pub(crate) skip_broken: bool,
}

impl Changes {
    /// The recipe with the changes.
    ///
    /// # Errors
    /// If the recipe has no such key, or a value has another type.
    pub(crate) fn of(&self, mut recipe: Recipe) -> candle_vision_recipe::Result<Recipe> {
        if let Some(epochs) = self.epochs {
            recipe.set_value("training.epochs", i64::from(epochs))?;
        }
        if let Some(seed) = self.seed {
            recipe.set_value("training.seed", i64::from(seed))?;
        }
        match self.batch_size {
            Some(BatchSize::Images(images)) => {
                recipe.set_value("data.batch_size", i64::try_from(images).unwrap_or(i64::MAX))?;
            }
            Some(auto) => recipe.set_value("data.batch_size", auto.to_string())?,
            None => {}
        }
        if let Some(precision) = self.precision {
            recipe.set_value("training.precision", precision.name())?;
        }
        if self.skip_broken {
            recipe.set_value("data.skip_broken", true)?;
        }
        for assignment in &self.set {
            recipe.set(assignment)?;
        }
        Ok(recipe)
    }
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// Recipe file (TOML), with [[variants]] or for --networks
    #[arg(long, value_name = "FILE")]
    pub(crate) recipe: PathBuf,
    /// Networks to train by the recipe, separated by commas; or some of its variants by name [default: all its
    /// variants]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) networks: Vec<String>,
    /// Train a network whose weights are not to be had from scratch, instead of stopping before the first run
    #[arg(long)]
    pub(crate) from_scratch: bool,
    /// Name of the sweep: its runs go to RUNS/NAME/VARIANT/NNN, and the comparison to RUNS/NAME [default: the recipe's
    /// name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) changes: Changes,
    /// Memory that a run may take, for instance 8GiB [default: what the machine or the card has left]
    #[arg(long, value_name = "SIZE", env = "CANDLE_VISION_MEMORY")]
    pub(crate) memory: Option<Bytes>,
    #[command(flatten)]
    pub(crate) origins: Origins,
    /// Folder for the runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}
