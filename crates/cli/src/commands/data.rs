//! `candle-vision data`: looks at image data, and packs it.

mod augment;
mod check;
mod class_bars;
mod mixed_batches;
mod pack;
pub(crate) mod show;

use std::process::ExitCode;

use anyhow::Result;
use candle_vision::Registry;
use clap::Subcommand;

/// The commands of `candle-vision data`.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Write a contact sheet of what single transforms make of an image
    Augment(augment::AugmentArgs),
    /// Find what is wrong with an image folder: broken and odd files, duplicates, classes
    Check(check::CheckArgs),
    /// Pack image files into tar shards, which load faster from disks and servers
    Pack(pack::PackArgs),
    /// Write a contact sheet: images as they are stored and what augmentation makes of them
    Show(show::ShowArgs),
}

pub(crate) fn run(command: &DataCommand, registry: &Registry) -> Result<ExitCode> {
    match command {
        DataCommand::Augment(args) => augment::run(args, registry),
        DataCommand::Check(args) => check::run(args),
        DataCommand::Pack(args) => pack::run(args, registry),
        DataCommand::Show(args) => show::run(args, registry),
    }
}
