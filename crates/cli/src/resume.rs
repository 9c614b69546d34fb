//! Finds and opens the run to resume.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_vision::train::{Checkpoint, RunFolder};
use candle_vision_recipe::changes::{self, Change};
use candle_vision_recipe::{Recipe, Registry, Settings, recorded};

use crate::args::TrainArgs;
use crate::say;

/// An existing run that is to be resumed.
pub(crate) struct Begun {
    /// The folder, opened so that no other process can write to it.
    pub(crate) folder: RunFolder,
    /// The recorded settings with the changes of this command line.
    pub(crate) settings: Settings,
    /// The differences from the run's previous settings.
    pub(crate) changes: Vec<Change>,
    pub(crate) checkpoint: Checkpoint,
}

/// Opens the run in the folder `named` to resume it, with the changes of the command line. For `last` it is
/// the newest run in the folder of runs.
///
/// A process that does not write the run's files only reads.
pub(crate) fn open(
    named: &Path,
    args: &TrainArgs,
    registry: &Registry,
    writes: bool,
) -> Result<Begun> {
    let runs = &args.runs;
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
    // It is certain now that this is a run. From here on no other process can replace its last checkpoint.
    let folder = if writes {
        RunFolder::open_to_resume(folder.path())?
    } else {
        RunFolder::open(folder.path())?
    };
    let recipe = Recipe::read(&config)?;
    recipe.hints().iter().for_each(say::note);
    let before = recipe.checked_settings(registry)?;
    let mut settings = args.changes.of(recipe)?.checked_settings(registry)?;
    if let Some(moved) = &args.folder {
        settings.data.path = Some(std::path::absolute(moved)?);
    }
    let changes = changes::between(&before, &settings)?;
    recorded::find_again(&mut settings.data, folder.path());
    let checkpoint = Checkpoint::load(folder.last())?;
    Ok(Begun { folder, settings, changes, checkpoint })
}

/// For `last`, the newest run that has a checkpoint. Otherwise the folder that was named.
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
