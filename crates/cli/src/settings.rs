//! The settings of a run.

use std::path::PathBuf;

use candle_vision::data::transforms::Compose;
use candle_vision::ops::{set_convolution_benchmark, set_exact_convolution, set_tf32};
use candle_vision::train::TrainerConfig;
use serde::{Deserialize, Serialize};

/// All settings of a run, as written to `config.toml` in its folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// One line for people.
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) data: DataSettings,
    pub(crate) model: ModelSettings,
    pub(crate) training: TrainerConfig,
    #[serde(default)]
    pub(crate) conv: ConvSettings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) score: Option<ScoreSettings>,
}

/// What is to be measured when the training is done: every way to explain the network.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScoreSettings {
    /// How many validation images.
    #[serde(alias = "pictures")]
    pub(crate) images: usize,
}

/// How convolutions are computed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConvSettings {
    /// Plain sums alone, without the faster 3x3 kernels that round a little differently.
    pub(crate) exact: bool,
    /// Whether a CUDA card may round the factors of f32 convolutions to TF32.
    pub(crate) tf32: bool,
    /// Whether a CUDA card takes the fastest deterministic algorithm for each shape, as it is timed at
    /// the first call, instead of the one that cuDNN recommends.
    pub(crate) benchmark: bool,
}

impl Default for ConvSettings {
    fn default() -> Self {
        Self { exact: false, tf32: true, benchmark: false }
    }
}

impl ConvSettings {
    /// Has all convolutions of this process computed so, from now on.
    pub(crate) fn apply(self) {
        set_exact_convolution(self.exact);
        set_tf32(self.tf32);
        set_convolution_benchmark(self.benchmark);
    }
}

/// Where the images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    Mnist,
    Cifar10,
    Hymenoptera,
    Insects,
    Folder,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataSettings {
    pub(crate) source: Source,
    /// The folder of data sets and weights, as `--data`; a run records the one it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    /// The image folder of `source = "folder"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathBuf>,
    pub(crate) batch_size: usize,
    /// Whether the last training batch of an epoch is left out where it would be smaller.
    #[serde(default)]
    pub(crate) drop_last: bool,
    #[serde(default = "default_workers")]
    pub(crate) workers: usize,
    #[serde(default)]
    pub(crate) skip_broken: bool,
    /// Whether images of a folder are turned upright as their EXIF data says. Recipes and runs from
    /// before there was this setting leave them as they are stored, and go on doing so.
    #[serde(default)]
    pub(crate) exif_orientation: bool,
    /// How many pixels an image of a folder may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_pixels: Option<u64>,
    /// Share of an image folder without one to validate on that is kept for validation.
    #[serde(default = "default_val_fraction")]
    pub(crate) val_fraction: f64,
    pub(crate) train: Compose,
    pub(crate) eval: Compose,
    /// How many drawings `source = "insects"` makes, and how large.
    #[serde(default = "default_train_images", alias = "train_pictures")]
    pub(crate) train_images: usize,
    #[serde(default = "default_val_images", alias = "val_pictures")]
    pub(crate) val_images: usize,
    #[serde(default = "default_image_size", alias = "picture_size")]
    pub(crate) image_size: usize,
}

fn default_workers() -> usize {
    2
}

fn default_val_fraction() -> f64 {
    0.2
}

fn default_train_images() -> usize {
    800
}

fn default_val_images() -> usize {
    200
}

fn default_image_size() -> usize {
    128
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelSettings {
    pub(crate) architecture: String,
    /// A name under `DATA/weights`, or a path; empty for a start from scratch.
    #[serde(default)]
    pub(crate) weights: String,
    #[serde(default = "default_channels")]
    pub(crate) channels: usize,
    pub(crate) image_size: usize,
}

fn default_channels() -> usize {
    3
}
