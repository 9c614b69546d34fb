//! What came of a run.

use std::path::PathBuf;

use crate::callback::StopReason;
use crate::checkpoint::Checkpoint;
use crate::record::{EpochRecord, History};
use crate::run_folder::RunFolder;
use crate::{Error, Result};

/// What came of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrainingResult {
    /// Why it ended.
    pub reason: StopReason,
    /// Everything that was measured, before a resumption too.
    pub history: History,
    /// Wall time of this call.
    pub seconds: f64,
    /// The best epoch, by [`TrainerConfig::monitor`](crate::TrainerConfig); there is none before the first
    /// epoch ends.
    pub best_epoch: Option<EpochRecord>,
    /// The folder of the run, if it has one.
    pub folder: Option<RunFolder>,
    /// The network after the best epoch, where it is kept in memory.
    pub(super) best: Option<Checkpoint>,
}

impl TrainingResult {
    /// The network after the best epoch, with [`TrainerConfig::ema`](crate::TrainerConfig) the average of its
    /// weights: from the run's folder, or from memory if it has none.
    ///
    /// # Errors
    /// [`Error::NoBest`] before the first epoch ends, or if the file cannot be read.
    pub fn best(&self) -> Result<Checkpoint> {
        match (&self.best, self.best_path()) {
            (Some(best), _) => Ok(best.clone()),
            (None, Some(path)) => Checkpoint::load(path),
            (None, None) => Err(Error::NoBest),
        }
    }

    /// The file of that network, if the run has a folder and an epoch is done.
    pub fn best_path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(RunFolder::best).filter(|path| path.is_file())
    }

    /// The file of the network as it is, with the state of the run, if the run has a folder and was saved.
    pub fn last_path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(RunFolder::last).filter(|path| path.is_file())
    }
}
