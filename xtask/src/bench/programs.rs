//! Where the programs of both sides come from: they are built in this repository, or lie in a pack.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::JOBS_BENCH;
use super::environment::BuiltWith;
use crate::cargo::root;
use crate::cuda::{self, Device};

/// The script that runs the jobs in PyTorch.
pub(super) const TORCH_JOBS: &str = "torch_jobs.py";
/// This project's jobs in a pack.
pub(super) const JOBS: &str = "bin/jobs";
/// What the programs of a pack are made of.
pub(super) const BUILT_WITH: &str = "built_with.json";

/// Where the programs come from.
#[derive(Debug)]
pub(super) enum Origin {
    Repository,
    /// A folder that `--pack` made.
    Pack(PathBuf),
}

impl Origin {
    /// The script that runs the jobs in PyTorch.
    pub(super) fn torch_jobs(&self) -> PathBuf {
        match self {
            Self::Repository => scripts().join(TORCH_JOBS),
            Self::Pack(folder) => folder.join(TORCH_JOBS),
        }
    }

    /// What this project's programs are made of.
    ///
    /// # Errors
    /// If a pack does not say it.
    pub(super) fn built_with(&self) -> Result<BuiltWith> {
        match self {
            Self::Repository => Ok(BuiltWith::here()),
            Self::Pack(folder) => {
                let path = folder.join(BUILT_WITH);
                let name = path.display();
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("cannot read `{name}`; is it a folder of --pack?"))?;
                serde_json::from_str(&text).with_context(|| format!("`{name}` is damaged"))
            }
        }
    }

    /// This project's jobs. A pack has them for cards, and they run on a CPU too.
    ///
    /// # Errors
    /// If they do not build.
    pub(super) fn jobs(&self, device: &Device, python: Option<&Path>) -> Result<cuda::Program> {
        match self {
            Self::Repository => cuda::build(&JOBS_BENCH, device, python),
            Self::Pack(folder) => Ok(cuda::Program::for_cards(folder.join(JOBS))),
        }
    }
}

/// The folder of the scripts.
pub(super) fn scripts() -> PathBuf {
    root().join("xtask/bench")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_has_the_script() {
        assert!(Origin::Repository.torch_jobs().is_file());
        assert!(Origin::Repository.built_with().unwrap().candle.is_some());
    }

    #[test]
    fn a_folder_that_is_no_pack_is_named() {
        let error = Origin::Pack("no/such/pack".into()).built_with().unwrap_err().to_string();
        assert!(error.contains("no/such/pack") && error.contains("--pack"), "{error}");
    }
}
