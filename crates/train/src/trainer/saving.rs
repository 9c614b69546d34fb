//! What a trainer writes into the folder of its run.

use super::Trainer;
use crate::Result;
use crate::callback::{Event, StopReason};
use crate::checkpoint::{Checkpoint, CheckpointMetadata};
use crate::session::Session;
use crate::training_state::TrainingState;
use crate::weight_averages::WeightAverages;

impl Trainer<'_> {
    /// Saves the position inside an epoch.
    pub(super) fn leave(
        &mut self,
        session: &mut Session<'_, '_>,
        reason: StopReason,
    ) -> Result<Option<StopReason>> {
        self.save_last(session, None)?;
        Ok(Some(reason))
    }

    pub(super) fn save_best(&self, session: &mut Session<'_, '_>) -> Result<()> {
        let path = self.run.best();
        Checkpoint::of(self.model, self.metadata()).save(&path)?;
        session.notify(&Event::Saved { path: &path, best: true })
    }

    pub(super) fn save_last(
        &self,
        session: &mut Session<'_, '_>,
        finished: Option<StopReason>,
    ) -> Result<()> {
        debug_assert!(self.unread.is_empty(), "the network is ahead of the books");
        let path = self.run.last();
        let state = TrainingState {
            position: self.position.clone(),
            frozen: self.frozen.is_some(),
            learning: Some(self.learning()),
            forgiven: self.forgiven,
            loss_scale: self.loss_scale.clone(),
            finished,
            config: self.config.clone(),
            data: self.data.clone(),
            schedule: self.schedule.state().clone(),
            epochs: self.history.epochs.clone(),
            batches: self.history.batches.clone(),
            optimizer: self.optimizer.state()?,
            averages: self.averages.as_ref().map(WeightAverages::state).unwrap_or_default(),
        };
        Checkpoint::of(self.model, self.metadata()).with_training(state).save(&path)?;
        self.run.write_history(&self.history)?;
        session.notify(&Event::Saved { path: &path, best: false })
    }

    fn metadata(&self) -> CheckpointMetadata {
        let classes = self.val.dataset().classes().to_vec();
        let last = self.history.epochs.last();
        CheckpointMetadata {
            epoch: self.history.epochs.len(),
            val_accuracy: last.map(|record| record.val_accuracy),
            val_loss: last.map(|record| record.val_loss),
            seed: self.config.seed,
            exif_orientation: self.val.dataset().exif_orientation(),
            ..CheckpointMetadata::new(
                self.model.spec().clone(),
                classes,
                self.val.transform().clone(),
            )
        }
    }
}
