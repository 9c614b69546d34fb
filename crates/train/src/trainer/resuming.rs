//! Going back to where a run was saved.

use std::collections::BTreeSet;

use candle_vision_models::{Parameter, PreparedLayers};

use super::Trainer;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::freeze::{Learners, train_only};
use crate::loss::no_state;
use crate::schedule::LearningRate;
use crate::training_state::{Now, TrainingState};
use crate::weight_averages::WeightAverages;

impl Trainer<'_> {
    /// Goes back to where `checkpoint` was saved: network, frozen parameters, optimizer, schedule,
    /// position and measurements.
    ///
    /// # What may differ
    /// The settings must be those of the run, except for these:
    /// - `epochs`: a run that is finished goes on if there are more than it had. Schedules that do not
    ///   depend on the length go on as in a run of that length, bit for bit; one cycle and a cosine
    ///   without `t_max` are stretched: from here on they have the rates of a run of the new length,
    ///   so that the rate jumps up where the run had come to its end.
    /// - `early_stop`: a run that was stopped early goes on if it would not have been stopped with the
    ///   new setting, or if there are more `epochs` than it had; its patience then begins anew, and
    ///   what it had reached is still to be beaten.
    ///
    /// So may what decides no number: workers, prefetch, cache, device, and the size of the validation
    /// batches. Settings that a checkpoint of an earlier version does not name have their defaults.
    ///
    /// # Which parameters learn
    /// Parameters learn, or are frozen, as they were in the run, whether by
    /// [`TrainerConfig::freeze`](crate::TrainerConfig), by hand or by
    /// [`Model::fit_images`](candle_vision_models::Model::fit_images). To change that, freeze or
    /// unfreeze after this call. Checkpoints of early versions do not name them: they need a network
    /// that is frozen as it was.
    ///
    /// # Parts of one's own
    /// An optimizer, a schedule, a loss, a metric, hooks or a training step that has no description makes this
    /// call fail, because nobody can say whether it is the same. Their states, and those of callbacks with a
    /// name, are restored.
    ///
    /// # Errors
    /// If it is of another network, holds no state, belongs to a run that is finished, or the
    /// settings or data are not those of its run. Network and trainer are as they were then.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.check_model(self.model.spec())?;
        let state = checkpoint.state()?;
        let now = Now {
            config: &self.config,
            registries: &self.registries,
            data: &self.data,
            parts: &self.parts,
            undescribed: &self.undescribed,
            measured: &self.measured,
        };
        state.check_same_run(&now, checkpoint.path())?;
        let forgiven = state.forgiven_when_resumed(&now, checkpoint.path())?;
        let learning = self.learning_in(state);
        let learners =
            Learners::new(self.model, self.optimized_in(state, &learning), &self.config)?;
        let mut optimizer =
            learners.optimizer(self.optimizer.fresh(), &self.config, state.frozen)?;
        optimizer.load_state(&state.optimizer)?;
        let averages =
            self.config.ema.map(|ema| WeightAverages::new(ema, self.model)).transpose()?;
        if let Some(averages) = &averages {
            averages.load_state(&state.averages)?;
        }
        let lr = self.learning_rate_in(state)?;

        self.loss.load_state(&state.loss)?;
        match &mut self.train_step {
            Some(step) => step.load_state(&state.train_step)?,
            None => no_state(&state.train_step)?,
        }
        checkpoint.restore(self.model)?;
        let mut later = learners.later.filter(|_| state.frozen);
        if let Some(later) = &mut later {
            later.retain(|parameter| learning.contains(parameter.path()));
        }
        let mut now = learning;
        for parameter in later.iter().flatten() {
            now.remove(parameter.path());
        }
        train_only(self.model, &now)?;
        self.frozen = later;
        self.prepared = PreparedLayers::new();
        (self.optimizer, self.averages, self.lr) = (optimizer, averages, lr);
        self.loss_scale = state.loss_scale.clone();
        (self.position, self.forgiven) = (state.position.clone(), forgiven);
        self.history = state.history();
        self.callback_states = state.callbacks.clone();
        Ok(())
    }

    /// Paths of the parameters that learn in the run, after the frozen epochs too.
    fn learning_in(&self, state: &TrainingState) -> BTreeSet<String> {
        state.learning.clone().unwrap_or_else(|| self.learning())
    }

    /// The same of this trainer.
    pub(super) fn learning(&self) -> BTreeSet<String> {
        let trainable = self.model.parameters().trainable();
        let later = self.frozen.iter().flatten().cloned();
        trainable.into_iter().chain(later).map(|parameter| parameter.path().to_owned()).collect()
    }

    /// The parameters that the run's optimizer knows: those that learn, and those that have learned
    /// until they were frozen by hand.
    fn optimized_in(&self, state: &TrainingState, learning: &BTreeSet<String>) -> Vec<Parameter> {
        let mut parameters = self.model.parameters().weights();
        parameters.retain(|parameter| {
            learning.contains(parameter.path()) || state.has_moved(parameter.path())
        });
        parameters
    }

    /// The learning rate where the run was saved; one that depends on a length that has changed is
    /// followed anew up to there.
    fn learning_rate_in(&self, state: &TrainingState) -> Result<LearningRate> {
        let mut lr = self.new_learning_rate()?;
        let is_stretched = self.config.epochs != state.config.epochs;
        if !(is_stretched && self.schedule.depends_on_length()) {
            lr.load_state(state.schedule.clone());
            return Ok(lr);
        }
        let freeze = self.config.freeze.as_ref().filter(|freeze| freeze.epochs > 0);
        let released = freeze.and_then(|freeze| Some((freeze.epochs, freeze.unfreeze_lr?)));
        let release = |done: usize, lr: &mut LearningRate| {
            if let Some((_, released)) = released.filter(|(epochs, _)| *epochs == done) {
                lr.set_lr(released);
            }
        };
        for (done, record) in state.epochs.iter().enumerate() {
            release(done, &mut lr);
            lr.step(record, &self.measured)?;
        }
        if !state.frozen {
            release(state.epochs.len(), &mut lr);
        }
        Ok(lr)
    }
}
