//! Arguments of `candle-vision inspect`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DataDir, NetworkArgs, at_least_one};
use crate::device::DeviceArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// What ReLU, sigmoid, max pooling and a convolution make of an image; with a checkpoint also the
    /// feature maps of a layer and the kernels of the first
    Activations(ActivationsArgs),
    /// What each residual block adds: |F(x)| against |x|, their angle, and the accuracy without it
    Residual(ResidualArgs),
    /// One sample of a data set, and what augmentation makes of it
    Sample(SampleArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ActivationsArgs {
    /// Image (JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or ICO)
    #[arg(value_name = "IMAGE")]
    pub(crate) image: PathBuf,
    /// Kernel of the convolution: edges, sobel-x, sobel-y, blur, sharpen, or the numbers of a square
    /// with an odd side, row by row: 0,-1,0,-1,4,-1,0,-1,0
    #[arg(long, value_name = "KERNEL", default_value = "edges", allow_hyphen_values = true)]
    pub(crate) kernel: String,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Layer whose feature maps to show [default: the first that has any]
    #[arg(long, value_name = "PATH")]
    pub(crate) layer: Option<String>,
    /// Where to write the first image [default: IMAGE.activations.png in this folder]; those of a
    /// network are IMAGE.LAYER.png and IMAGE.kernels.png. Without a name no file is overwritten
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct ResidualArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Image folder to measure on [default: the validation images of the checkpoint's run]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Images in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_least_one)]
    pub(crate) batch_size: usize,
    /// At most so many batches: the network is run once for each block, and twice more
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) batches: Option<usize>,
    /// Where to write the image [default: CHECKPOINT.residual.png in this folder]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
    #[command(flatten)]
    pub(crate) data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// Data set, with its usual augmentation
    #[arg(long, value_name = "NAME", required_unless_present = "recipe")]
    pub(crate) dataset: Option<String>,
    /// Recipe, or the config.toml of a run, whose data and augmentation to show
    #[arg(long, value_name = "FILE", conflicts_with = "dataset")]
    pub(crate) recipe: Option<PathBuf>,
    /// Number of the sample, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) index: usize,
    /// Take it from the validation images instead of those to train on
    #[arg(long)]
    pub(crate) val: bool,
    /// Number of augmented images
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) count: usize,
    /// Seed of the augmentation [default: the recipe's, or 0]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Where to write the contact sheet [default: DATASET-SPLIT-N.sample.png in this folder]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataDir,
}
