//! The figures of `cargo xtask bench`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// What this program reads of the file. `bench` writes `ours`, `bench scale` writes `sides`.
#[derive(Debug, Deserialize)]
pub(crate) struct Measured {
    jobs: Vec<Job>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    /// For instance `resnet50_train_b16_224`.
    pub(crate) job: String,
    ours: Option<Ours>,
    #[serde(default)]
    sides: Vec<Side>,
}

#[derive(Debug, Deserialize)]
struct Ours {
    summary: Option<Summary>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    images_per_s: f64,
}

/// So many ranks of a side.
#[derive(Debug, Deserialize)]
pub(crate) struct Side {
    /// Who made it: `ours`, or a mode of PyTorch.
    pub(crate) side: String,
    pub(crate) ranks: usize,
    pub(crate) images_per_s: Option<f64>,
    pub(crate) shared: Option<Shared>,
}

/// What several ranks cost each other.
#[derive(Debug, Deserialize)]
pub(crate) struct Shared {
    pub(crate) waiting: f64,
    pub(crate) bytes_per_step: f64,
    pub(crate) all_reduce_one_us: f64,
    pub(crate) all_reduce_bucket_ms: f64,
    pub(crate) bucket_bytes: f64,
}

impl Measured {
    /// # Errors
    /// If the file cannot be read, or is none of the bench.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
        serde_json::from_str(&text)
            .with_context(|| format!("`{name}` is no JSON of `cargo xtask bench --json FILE`"))
    }

    pub(crate) fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Images a second that one rank of this project trains of a network.
    pub(crate) fn images_per_s(&self, network: &str) -> Option<f64> {
        let mut of_network = self.jobs.iter().filter(|job| job.network() == Some(network));
        of_network.find_map(Job::alone)
    }
}

impl Job {
    /// The network that it trains.
    pub(crate) fn network(&self) -> Option<&str> {
        Some(self.job.split_once("_train_")?.0)
    }

    /// Images of a rank in a step.
    pub(crate) fn batch_size(&self) -> Option<usize> {
        let (_, size) = self.job.split_once("_train_b")?;
        size.split('_').next()?.parse().ok()
    }

    /// Images a second that one rank of this project trains.
    pub(crate) fn alone(&self) -> Option<f64> {
        let of_bench = self.ours.as_ref().and_then(|ours| ours.summary.as_ref());
        of_bench.map(|summary| summary.images_per_s).or_else(|| {
            let alone = self.sides.iter().find(|side| side.is_ours() && side.ranks == 1);
            alone.and_then(|side| side.images_per_s)
        })
    }

    /// What several ranks of this project measured.
    pub(crate) fn together(&self) -> impl Iterator<Item = &Side> {
        self.sides.iter().filter(|side| side.is_ours() && side.ranks > 1)
    }
}

impl Side {
    fn is_ours(&self) -> bool {
        self.side == "ours"
    }
}
