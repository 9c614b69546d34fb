//! Arguments of the commands about networks and their weights.

use std::path::PathBuf;

use candle_vision::models::Precision;
use candle_vision::registry::Description;
use clap::{Args, ValueEnum};

use super::{DataDir, NetworkArgs, Origins, at_least_one};
use crate::device::{DeviceArgs, Place};
use crate::machine_memory::Bytes;

#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    /// Only networks with this in their name, for instance `resnet` [default: all]
    #[arg(value_name = "PART")]
    pub(crate) part: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SummaryArgs {
    /// Network, for instance resnet18 [default: list what there is]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Checkpoint instead of a bare network
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Number of classes of the bare network
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    pub(crate) classes: usize,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// Size of the images, for instance 3x64x64; with a fourth number in front, the batch [default: the
    /// network's own]
    #[arg(long, value_name = "CxHxW", conflicts_with = "checkpoint", value_parser = image_shape)]
    pub(crate) input: Option<ImageShape>,
    /// Only layers with at most so many parts in their path, with what lies in them added up
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) depth: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `[channels, height, width]`, and the batch where it was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImageShape {
    pub(crate) batch: Option<usize>,
    pub(crate) image: [usize; 3],
}

fn image_shape(text: &str) -> Result<ImageShape, String> {
    let numbers: Result<Vec<usize>, _> = text.split(['x', ',']).map(str::parse).collect();
    let numbers = numbers.unwrap_or_default();
    let (batch, image) = match *numbers.as_slice() {
        [channels, height, width] => (None, [channels, height, width]),
        [batch, channels, height, width] => (Some(batch), [channels, height, width]),
        _ => return Err("a shape such as 3x64x64, or 1x3x64x64 with the batch".to_owned()),
    };
    if numbers.contains(&0) {
        return Err("every number of a shape is at least 1".to_owned());
    }
    Ok(ImageShape { batch, image })
}

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Network, for instance resnet18; `candle-vision models` lists them
    #[arg(value_name = "NETWORK", required_unless_present = "checkpoint")]
    pub(crate) model: Option<String>,
    /// Checkpoint instead of a bare network
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Number of classes of the bare network
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    pub(crate) classes: usize,
    /// Size of the images, for instance 3x64x64 [default: the network's own]
    #[arg(long, value_name = "CxHxW", conflicts_with = "checkpoint", value_parser = image_shape)]
    pub(crate) input: Option<ImageShape>,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// Number of batches that make one training step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) accumulate: usize,
    /// Optimizer, with settings if they matter: adam, or sgd,momentum=0.9
    #[arg(long, value_name = "NAME", default_value = "adam", value_parser = optimizer)]
    pub(crate) optimizer: Description,
    /// Number type of feature maps and products: f32, bf16 or f16
    #[arg(long, value_name = "TYPE", default_value_t)]
    pub(crate) precision: Precision,
    /// auto, cpu, cuda or cuda:N. The card need not be in this machine
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Memory to fit into, for instance 8GiB [default: what the machine or the card has left]
    #[arg(long, value_name = "SIZE", env = "CANDLE_VISION_MEMORY")]
    pub(crate) memory: Option<Bytes>,
    /// Take real training steps in a process of their own, and say what they took
    #[arg(long)]
    pub(crate) confirm: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Take the steps of --confirm in this process
    #[arg(long, hide = true)]
    pub(crate) measure_here: bool,
}

impl MemoryArgs {
    /// Where the network is to be trained. Nothing is opened there.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        Place::named(&self.device)
    }
}

/// An optimizer by name, with settings after commas. Its learning rate does not matter for the memory.
fn optimizer(text: &str) -> Result<Description, String> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let mut description = Description::named(name).with("lr", 1e-3);
    for part in parts {
        let (setting, value) =
            part.split_once('=').ok_or_else(|| format!("`{part}` is no SETTING=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::from(value));
        description = description.with(setting, value);
    }
    Ok(description)
}

/// Whose names the parameters get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Names {
    /// torchvision's, or timm's for networks that only timm has
    #[default]
    Torchvision,
    /// timm's
    Timm,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Weights: a safetensors or PyTorch file, or the index of several (model.safetensors.index.json)
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Where to write; the name ends in .safetensors, or in .pth for a file that `torch.load` reads
    #[arg(value_name = "OUTPUT")]
    pub(crate) output: PathBuf,
    /// Check that they are weights of this network, and write them under its names
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Whose names to write, with --model: this project's, which are torchvision's where it has the network, or timm's
    #[arg(long, value_enum, value_name = "WHOSE", requires = "model", default_value_t)]
    pub(crate) names: Names,
    /// Number of classes, with --model [default: that of its published weights]
    #[arg(long, value_name = "N", requires = "model", value_parser = at_least_one)]
    pub(crate) classes: Option<usize>,
    /// Number type to write: f32, bf16 or f16 [default: as in the file]
    #[arg(long, value_name = "TYPE")]
    pub(crate) precision: Option<Precision>,
}

#[derive(Debug, Args)]
pub(crate) struct ParityArgs {
    /// Network, for instance resnet50
    #[arg(value_name = "MODEL")]
    pub(crate) network: String,
    /// safetensors file with `input`, `logits`, and outputs of layers by their paths [default: outputs of torchvision and
    /// timm that come with the program]
    #[arg(long, value_name = "FILE")]
    pub(crate) reference: Option<PathBuf>,
    /// Weights: `imagenet`, a version such as IMAGENET1K_V2, or a file [default: with --reference the best published
    /// ones, otherwise numbers that follow from the parameters' names]
    #[arg(long, value_name = "NAME")]
    pub(crate) weights: Option<String>,
    /// Largest relative difference, ||ours - theirs|| / ||theirs||, with which the exit code is 0
    #[arg(long, value_name = "X", default_value_t = 1e-4)]
    pub(crate) tolerance: f64,
    #[command(flatten)]
    pub(crate) origins: Origins,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Image folder: one folder for each class, or `train` and `val` with such folders in each
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// How many nearest neighbours vote
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = at_least_one)]
    pub(crate) k: usize,
    /// Epochs of the linear probe
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    pub(crate) epochs: usize,
    /// Learning rate of the linear probe
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    pub(crate) lr: f64,
    /// Seed of the order in which the linear probe sees the features
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Share of the images to validate on, where the folder has no `val`
    #[arg(long, value_name = "X", default_value_t = 0.2)]
    pub(crate) val_fraction: f64,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub(crate) batch_size: usize,
    /// Leave broken images out instead of stopping at the first
    #[arg(long)]
    pub(crate) skip_broken: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}
