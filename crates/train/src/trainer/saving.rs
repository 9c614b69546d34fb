//! Writes a trainer's files into the folder of its run.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use candle_vision_distributed::WorksAlone;

use super::Trainer;
use crate::callback::{Event, StopReason};
use crate::checkpoint::{Checkpoint, CheckpointMetadata};
use crate::ranks::Ranks;
use crate::run_folder::RunFolder;
use crate::session::Session;
use crate::training_state::TrainingState;
use crate::weight_averages::WeightAverages;
use crate::{Error, Result};

impl Trainer<'_> {
    /// Saves the position inside an epoch.
    pub(super) fn leave(
        &mut self,
        session: &mut Session<'_>,
        reason: StopReason,
    ) -> Result<Option<StopReason>> {
        let _writing = self.writing();
        self.save_last(session, None)?;
        Ok(Some(reason))
    }

    /// Makes the next free folder in `runs_of`, the folder of the runs of one name.
    pub(super) fn make_folder(&self, runs_of: &Path) -> Result<RunFolder> {
        let name = runs_of.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let runs = runs_of.parent().unwrap_or_else(|| Path::new(""));
        let settings = BTreeMap::from([("training", &self.config)]);
        let text = toml::to_string_pretty(&settings)
            .map_err(|error| Error::callback("writing the settings of the run", error))?;
        RunFolder::create(runs, name, &text)
    }

    /// Saves the network as the best: into the folder, or into memory if there is no folder.
    pub(super) fn save_best(&mut self, session: &mut Session<'_>) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        let checkpoint = Checkpoint::of(self.model, self.metadata());
        let Some(folder) = &self.folder else {
            self.best = Some(checkpoint.copied()?);
            return Ok(());
        };
        let path = folder.best();
        checkpoint.save(&path)?;
        session.notify(&Event::Saved { path: &path, best: true })
    }

    /// Whether this process writes the files of the run. Of several processes, the first does.
    pub(super) fn writes(&self) -> bool {
        self.ranks.as_ref().is_none_or(|ranks| ranks.rank() == 0)
    }

    /// While the first of several processes writes and shows the run, the others wait for it without a limit.
    pub(super) fn writing(&self) -> Option<WorksAlone> {
        self.ranks.as_ref().filter(|_| self.writes()).map(Ranks::works_alone)
    }

    /// Saves the position. It counts when all ranks know that the first has written it.
    pub(super) fn save_last(
        &self,
        session: &mut Session<'_>,
        finished: Option<StopReason>,
    ) -> Result<()> {
        if let Some(optimizer) = self.optimizer_state()? {
            self.write_last(session, finished, optimizer)?;
        }
        self.ranks.as_ref().map_or(Ok(()), Ranks::wait_for_writer)
    }

    /// The optimizer's state, on the process that writes it. If each process has a part of it, all give theirs.
    fn optimizer_state(&self) -> Result<Option<BTreeMap<String, Tensor>>> {
        let is_own = self.writes() && self.folder.is_some();
        let is_wanted = match &self.ranks {
            Some(ranks) if self.config.distributed.shards_optimizer_state() => {
                ranks.as_first_says(is_own)?
            }
            _ => is_own,
        };
        let state = is_wanted.then(|| self.optimizer.state()).transpose()?;
        Ok(state.filter(|_| is_own))
    }

    fn write_last(
        &self,
        session: &mut Session<'_>,
        finished: Option<StopReason>,
        optimizer: BTreeMap<String, Tensor>,
    ) -> Result<()> {
        debug_assert!(self.unread.is_empty(), "the network is ahead of the books");
        let Some(folder) = &self.folder else { return Ok(()) };
        // Before the checkpoint: a resumed run drops steps that it has not taken, but could not make up for missing ones.
        if self.config.gradient_norms {
            folder.write_gradients(&self.gradients)?;
        }
        let path = folder.last();
        let train_step = self.train_step.as_ref();
        let state = TrainingState {
            position: self.position.clone(),
            frozen: self.frozen.is_some(),
            learning: Some(self.learning()),
            forgiven: self.forgiven,
            loss_scale: self.loss_scale.clone(),
            finished,
            config: self.config.clone(),
            data: self.data.clone(),
            parts: self.parts.clone(),
            undescribed: self.undescribed.clone(),
            callbacks: session.states()?,
            rates: self.lr.state(),
            epochs: self.history.epochs.clone(),
            batches: self.history.batches.clone(),
            optimizer,
            averages: self.averages.as_ref().map(WeightAverages::state).unwrap_or_default(),
            loss: self.loss.state(),
            train_step: train_step.map(|step| step.state()).unwrap_or_default(),
        };
        Checkpoint::of(self.model, self.metadata()).with_training(state).save(&path)?;
        folder.write_history(&self.history)?;
        session.notify(&Event::Saved { path: &path, best: false })
    }

    /// Reads the norms of gradients that a resumed run recorded until it was saved.
    pub(super) fn find_gradients(&mut self) -> Result<()> {
        let step = self.position.step;
        let Some(folder) = self.folder.as_ref().filter(|_| self.config.gradient_norms) else {
            return Ok(());
        };
        if self.gradients.is_empty() && step > 0 {
            self.gradients = folder.gradients()?;
            self.gradients.retain(|record| record.step <= step);
        }
        Ok(())
    }

    fn metadata(&self) -> CheckpointMetadata {
        let classes = self.val.dataset().classes().to_vec();
        let last = self.history.epochs.last();
        let spec = self.model.spec().clone();
        let spec = spec.multi_label(self.val.dataset().is_multi_label());
        CheckpointMetadata {
            epoch: self.history.epochs.len(),
            val_accuracy: last.map(|record| record.val_accuracy),
            val_loss: last.map(|record| record.val_loss),
            seed: self.config.seed,
            exif_orientation: self.val.dataset().exif_orientation(),
            ..CheckpointMetadata::new(spec, classes, self.val.transform())
        }
    }
}
