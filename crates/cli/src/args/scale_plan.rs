//! Arguments of `scale-plan`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::at_least_one;

#[derive(Debug, Args)]
pub(crate) struct ScalePlanArgs {
    /// What is to be trained [default: all that --measured has]
    #[arg(value_name = "WORKLOAD", conflicts_with = "compare")]
    pub(crate) workload: Option<String>,
    /// Images a second that one rank trains alone, as measured where the ranks will run
    #[arg(long, value_name = "N", value_parser = positive, requires = "workload", conflicts_with_all = ["measured", "compare"])]
    pub(crate) images_per_s: Option<f64>,
    /// Take that from the JSON of `cargo xtask bench` or `cargo xtask bench scale`
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    pub(crate) measured: Option<PathBuf>,
    /// Compare what the plan says of this machine's ranks with what `cargo xtask bench scale --json FILE` measured of them
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    /// Another network than the workload's
    #[arg(long, value_name = "NAME", requires = "workload")]
    pub(crate) network: Option<String>,
    /// Another number of training images than the workload's
    #[arg(long, value_name = "N", value_parser = at_least_one, requires = "workload")]
    pub(crate) images: Option<usize>,
    /// Another number of epochs than the workload's
    #[arg(long, value_name = "N", value_parser = at_least_one, requires = "workload")]
    pub(crate) epochs: Option<usize>,
    /// Images of each rank in a step [default: the workload's]
    #[arg(long, value_name = "N", value_parser = at_least_one, requires = "workload")]
    pub(crate) batch_size: Option<usize>,
    /// Largest batch of all ranks together that a known recipe trains with [default: the workload's]
    #[arg(long, value_name = "N", value_parser = at_least_one, requires = "workload")]
    pub(crate) largest_batch: Option<usize>,
    /// Numbers of ranks, separated by commas
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "8,64,1024", value_parser = ranks)]
    pub(crate) ranks: Vec<usize>,
    /// Ranks of one computer: they talk without its network
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) ranks_per_host: usize,
    /// Speed of the network between computers, in each direction, in Gbit/s
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = positive)]
    pub(crate) link_gbit: f64,
    /// Speed of the link between ranks of one computer, in each direction, in Gbit/s
    #[arg(long, value_name = "N", default_value_t = 200.0, value_parser = positive)]
    pub(crate) local_gbit: f64,
    /// Time that a message takes besides, in microseconds
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = positive)]
    pub(crate) latency_us: f64,
    /// Size of a bucket of gradients
    #[arg(long, value_name = "MIB", default_value_t = 25.0, value_parser = positive)]
    pub(crate) bucket_mib: f64,
    /// Number type of the gradients that ranks exchange
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    pub(crate) gradients: Gradients,
    /// Share of a step's computation that is its backward pass. By multiply-adds it is two thirds
    #[arg(long, value_name = "SHARE", default_value_t = 2.0 / 3.0, value_parser = share)]
    pub(crate) backward_share: f64,
    /// Price of a rank for an hour, in any currency [default: no costs]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) price: Option<f64>,
    /// Mean size of an image file in KiB [default: the workload's]
    #[arg(long, value_name = "KIB", value_parser = positive)]
    pub(crate) image_kib: Option<f64>,
    /// Files a second that the storage gives [default: no limit]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) files_per_s: Option<f64>,
    /// Speed of the storage in Gbit/s [default: no limit]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) storage_gbit: Option<f64>,
    /// Print JSON
    #[arg(long, conflicts_with = "compare")]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Gradients {
    /// 4 bytes a value
    #[default]
    F32,
    /// 2 bytes a value
    Bf16,
}

impl Gradients {
    pub(crate) fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::Bf16 => 2.0,
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("a share from 0 to 1".to_owned()),
    }
}

/// What breaks first is looked for in all numbers up to the largest.
fn ranks(text: &str) -> Result<usize, String> {
    const MOST: usize = 1 << 20;
    match text.parse() {
        Ok(ranks) if (1..=MOST).contains(&ranks) => Ok(ranks),
        _ => Err(format!("a number of ranks from 1 to {MOST}")),
    }
}
