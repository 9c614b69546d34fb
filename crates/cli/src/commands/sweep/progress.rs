//! How far a run of a sweep has come in earlier calls.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_vision::Registry;
use candle_vision::train::{Checkpoint, Error, RunFolder, StopReason};
use candle_vision_recipe::{BatchSize, Recipe, changes};

use super::Planned;

/// How far a run has come.
pub(super) enum Progress {
    /// It has not begun, or ended before its first checkpoint.
    New,
    /// It goes on in this folder.
    Unfinished(PathBuf),
    /// It is done, in this folder.
    Finished(PathBuf),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("begins"),
            Self::Unfinished(run) => write!(f, "goes on in {}", run.display()),
            Self::Finished(run) => write!(f, "is done in {}", run.display()),
        }
    }
}

/// The newest run of a variant, if there is one with a checkpoint.
pub(super) fn latest(name: &str, folder: &Path) -> Result<Option<RunFolder>> {
    match RunFolder::latest(folder, name) {
        Ok(run) => Ok(Some(run).filter(|run| run.last().is_file())),
        Err(Error::NoRun { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Looks for the run of a variant. A run by other settings is not taken for it.
pub(super) fn progress(planned: &Planned, folder: &Path, registry: &Registry) -> Result<Progress> {
    let Some(run) = latest(&planned.name, folder)? else { return Ok(Progress::New) };
    let path = run.path().to_path_buf();
    let recorded = Recipe::read(path.join("config.toml"))?.checked_settings(registry)?;
    let other = || {
        format!(
            "`{}` is a run by other settings; give this sweep another name with --name",
            path.display()
        )
    };
    let mut settings = planned.settings.clone();
    if settings.data.batch_size == BatchSize::Auto {
        // The run goes on with the number that it recorded.
        settings.data.batch_size = recorded.data.batch_size;
    }
    let changed = changes::between(&recorded, &settings).with_context(other)?;
    // It decides when a run ends, so that a finished one may be finished no longer.
    if let Some(change) = changed.iter().find(|c| c.key().starts_with("training.early_stop")) {
        return Err(anyhow::anyhow!("`{}` is {}", change.key(), change.told()).context(other()));
    }
    let wanted = planned.settings.training.epochs;
    let checkpoint = Checkpoint::load(run.last())?;
    let done = checkpoint.metadata.epoch;
    Ok(match checkpoint.finished() {
        None => Progress::Unfinished(path),
        Some(StopReason::EarlyStopped) if wanted <= recorded.training.epochs => {
            Progress::Finished(path)
        }
        Some(_) if wanted > done => Progress::Unfinished(path),
        Some(_) if wanted == done => Progress::Finished(path),
        Some(_) => bail!(
            "`{}` has {done} epochs, and this sweep asks for {wanted}; give it another name with --name",
            path.display()
        ),
    })
}
