//! The result of a run.

use std::path::PathBuf;

use crate::callback::StopReason;
use crate::checkpoint::Checkpoint;
use crate::gradient_norms::GradientRecord;
use crate::record::{EpochRecord, History};
use crate::run_folder::RunFolder;
use crate::{Error, Result};

/// The result of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrainingResult {
    /// Why it ended.
    pub reason: StopReason,
    /// All measurements, including those from before a resumption.
    pub history: History,
    /// The norms of gradients, with [`TrainerConfig::gradient_norms`](crate::TrainerConfig).
    pub gradients: Vec<GradientRecord>,
    /// Number of steps of this call that a CUDA device took from a captured graph.
    pub captured_steps: usize,
    /// Wall time of this call, in seconds.
    pub seconds: f64,
    /// The best epoch, by [`TrainerConfig::monitor`](crate::TrainerConfig). `None` before the first epoch
    /// ends.
    pub best_epoch: Option<EpochRecord>,
    /// The folder of the run, if it has one.
    pub folder: Option<RunFolder>,
    /// The network after the best epoch, if it is kept in memory.
    pub(super) best: Option<Checkpoint>,
}

impl TrainingResult {
    /// The network after the best epoch, from the run's folder, or from memory if there is no folder. With
    /// [`TrainerConfig::ema`](crate::TrainerConfig) it holds the average of the weights.
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

    /// The file of the best network, if the run has a folder and an epoch is done.
    pub fn best_path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(RunFolder::best).filter(|path| path.is_file())
    }

    /// The file of the latest network and the state of the run, if the run has a folder and was saved.
    pub fn last_path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(RunFolder::last).filter(|path| path.is_file())
    }
}
