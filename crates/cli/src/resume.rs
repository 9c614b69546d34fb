//! Which run to go on with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_vision::train::{Checkpoint, RunFolder};

use crate::recipe::Recipe;
use crate::settings::Settings;

/// A run that was begun before.
pub(crate) struct Begun {
    pub(crate) folder: RunFolder,
    pub(crate) settings: Settings,
    pub(crate) checkpoint: Checkpoint,
}

/// Opens the run in the folder `named`, or for `last` the newest one under `runs`.
pub(crate) fn open(named: &Path, runs: &Path) -> Result<Begun> {
    let folder = RunFolder::open(find(named, runs)?)?;
    let (path, config) = (folder.path(), folder.path().join("config.toml"));
    if !config.is_file() {
        bail!(
            "`{}` is no run: it has no config.toml; name a folder such as {}/NAME/001",
            path.display(),
            runs.display()
        )
    }
    if !folder.last().is_file() {
        bail!(
            "there is nothing to resume in `{0}`: the run ended before its first checkpoint; start \
             it again with `candle-vision train --recipe {0}/config.toml`",
            path.display()
        )
    }
    let settings = Recipe::read(&config)?.settings()?;
    let checkpoint = Checkpoint::load(folder.last())?;
    Ok(Begun { folder, settings, checkpoint })
}

/// The newest run that has a checkpoint for `last`, else the folder that was named.
fn find(named: &Path, runs: &Path) -> Result<PathBuf> {
    if named != Path::new("last") || named.is_dir() {
        return Ok(named.to_path_buf());
    }
    let newest = folders_in(runs)
        .iter()
        .flat_map(|group| folders_in(group))
        .filter_map(|run| {
            let saved = run.join("last.safetensors").metadata().and_then(|file| file.modified());
            Some((saved.ok()?, run))
        })
        .max();
    let (_, run) = newest.with_context(|| {
        format!(
            "there is no run with a last.safetensors under `{}`; name the runs' folder with --runs, \
             or start one with --recipe",
            runs.display()
        )
    })?;
    Ok(run)
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
