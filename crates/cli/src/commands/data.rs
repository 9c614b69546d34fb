//! `candle-vision data`: works on data sets themselves.

mod pack;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use pack::PackArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Pack an image folder into tar shards, which load faster from disks and servers
    Pack(PackArgs),
}

pub(crate) fn run(command: &DataCommand) -> Result<ExitCode> {
    match command {
        DataCommand::Pack(args) => pack::run(args),
    }
}
