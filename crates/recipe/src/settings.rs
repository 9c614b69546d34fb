//! The settings of a run.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use candle_vision::data::batch_transforms::describe_all;
use candle_vision::data::transforms::ComposeDescription;
use candle_vision::ops::{
    set_convolution_benchmark, set_cuda_graphs, set_exact_convolution, set_tf32,
};
use candle_vision::registry::Description;
use candle_vision::train::TrainerConfig;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{BatchSize, Error, Registry, Result};

/// All settings of a run, as written to `config.toml` in its folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Where the images come from, and what is done to them.
    pub data: DataSettings,
    /// The network.
    pub model: ModelSettings,
    /// How it is trained.
    pub training: TrainerConfig,
    /// How convolutions are computed.
    #[serde(default)]
    pub conv: ConvSettings,
    /// How a CUDA card is used.
    #[serde(default, skip_serializing_if = "CudaSettings::is_default")]
    pub cuda: CudaSettings,
    /// What is measured of the explanations when the training is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<ScoreSettings>,
}

impl Settings {
    /// The settings as a recipe.
    ///
    /// # Errors
    /// If a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self)
            .map_err(|error| Error::invalid(format!("the settings cannot be written: {error}")))
    }

    /// Looks every named part up, checks its settings and fills in its defaults. So two recipes mean the same
    /// run exactly if their checked settings are equal.
    ///
    /// # Errors
    /// If a part is not registered, or one of its settings is wrong.
    pub fn check(&mut self, registry: &Registry) -> Result<()> {
        registry.check()?;
        registry.data_sets.get(&self.data.source)?;
        registry.networks.get(&self.model.architecture)?;
        for transforms in [&mut self.data.train, &mut self.data.eval] {
            *transforms = transforms.build(&registry.transforms)?.describe();
        }
        let mixed = registry.batch_transforms.build_all(&self.data.batch_transforms)?;
        if !mixed.is_empty() && self.data.batch_size == BatchSize::Images(1) {
            return Err(Error::invalid(
                "`data.batch_transforms` mix the images of a batch, and `data.batch_size` is 1; make it at least 2",
            ));
        }
        self.data.batch_transforms = describe_all(&mixed);
        if let Some(sampler) = &mut self.data.sampler {
            *sampler = registry.samplers.build(sampler)?.describe();
        }
        self.training = self.training.with_defaults(&registry.training)?;
        Ok(())
    }
}

/// What is to be measured when the training is done: every way to explain the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ScoreSettings {
    /// How many validation images.
    pub images: usize,
}

/// How convolutions are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConvSettings {
    /// Plain sums alone, without the faster 3x3 kernels that round a little differently.
    pub exact: bool,
    /// Whether a CUDA card may round the factors of f32 convolutions to TF32.
    pub tf32: bool,
    /// Whether a CUDA card takes the fastest deterministic algorithm for each shape, as it is timed at
    /// the first call, instead of the one that cuDNN recommends.
    pub benchmark: bool,
}

impl Default for ConvSettings {
    fn default() -> Self {
        Self { exact: false, tf32: true, benchmark: false }
    }
}

impl ConvSettings {
    /// Has all convolutions of this process computed so, from now on.
    pub fn apply(self) {
        set_exact_convolution(self.exact);
        set_tf32(self.tf32);
        set_convolution_benchmark(self.benchmark);
    }
}

/// How a CUDA card is used. None of it changes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CudaSettings {
    /// Whether training steps are captured as a CUDA graph and repeated from it.
    pub graphs: bool,
}

impl Default for CudaSettings {
    fn default() -> Self {
        Self { graphs: true }
    }
}

impl CudaSettings {
    /// Has this process use its card so, from now on.
    pub fn apply(self) {
        set_cuda_graphs(self.graphs);
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the images come from, and what is done to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DataSettings {
    /// The name of a data set that is registered.
    pub source: String,
    /// The folder of data sets and weights, as `--data`; a run records the one it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The image folder of `source = "folder"`, or the file or folder of a data set of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The list that names the classes of the validation images of `source = "folder"`, if these lie in no class
    /// folders, as ImageNet's do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_list: Option<PathBuf>,
    /// Images in a batch, or `auto` for as many as fit.
    pub batch_size: BatchSize,
    /// Whether the last training batch of an epoch is left out where it would be smaller.
    #[serde(default)]
    pub drop_last: bool,
    /// Which training images an epoch shows, by the name of a registered sampler or as a table with its settings. Without
    /// it, each image comes once, in a new order in each epoch.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "sampler")]
    pub sampler: Option<Description>,
    /// What is done to whole batches in training, after the transforms of their images: mixing images and labels.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub batch_transforms: ComposeDescription,
    /// Threads that read and transform images.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// Whether the images of a data set that fits are kept in the memory of a CUDA card, which then makes the batches.
    /// They are the same batches.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub on_device: bool,
    /// Whether images that cannot be read are left out.
    #[serde(default)]
    pub skip_broken: bool,
    /// Whether images of a folder are turned upright as their EXIF data says. Recipes and runs from
    /// before there was this setting leave them as they are stored, and go on doing so.
    #[serde(default)]
    pub exif_orientation: bool,
    /// How many pixels an image of a folder may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
    /// Reads an image file at a half, a quarter or an eighth of its size, as long as its shorter side keeps so
    /// many pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce_to: Option<NonZeroUsize>,
    /// The folder in which decoded images for training and validation are kept from run to run. It is made if needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoded: Option<PathBuf>,
    /// Share of an image folder without one to validate on that is kept for validation.
    #[serde(default = "default_val_fraction")]
    pub val_fraction: f64,
    /// What is done to an image in training.
    pub train: ComposeDescription,
    /// What is done to an image in validation and afterwards.
    pub eval: ComposeDescription,
    /// How many training images a data set makes that draws its own, such as `source = "insects"`.
    #[serde(default = "default_train_images")]
    pub train_images: usize,
    /// How many validation images it makes.
    #[serde(default = "default_val_images")]
    pub val_images: usize,
    /// How large it makes them: their height and width.
    #[serde(default = "default_image_size")]
    pub image_size: usize,
    /// Settings of a data set of one's own: the table `[data.options]`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// A name, or a table with a name and settings.
fn sampler<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Description>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "a sampler is a name, such as \"balanced\", or a table, such as { name = \"weighted\" }"
    )]
    enum Written {
        Name(String),
        Table(Description),
    }
    Ok(Some(match Written::deserialize(deserializer)? {
        Written::Name(name) => Description::named(name),
        Written::Table(description) => description,
    }))
}

fn is_empty(transforms: &ComposeDescription) -> bool {
    transforms.steps().is_empty()
}

fn yes() -> bool {
    true
}

fn is_yes(setting: &bool) -> bool {
    *setting
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

/// The network of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelSettings {
    /// The name of a network that is registered.
    pub architecture: String,
    /// A name under `DATA/weights`, or a path; empty for a start from scratch.
    #[serde(default)]
    pub weights: String,
    /// Channels of an image.
    #[serde(default = "default_channels")]
    pub channels: usize,
    /// Height and width of an image as the network takes it.
    pub image_size: usize,
}

fn default_channels() -> usize {
    3
}
