//! Resuming: going back to the point where a run was saved.

use std::collections::BTreeSet;

use candle_vision_models::{Parameter, PreparedLayers};

use super::Trainer;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::freeze::{Learners, train_only};
use crate::loss::no_state;
use crate::schedule::Rates;
use crate::training_state::{Now, TrainingState};
use crate::weight_averages::WeightAverages;

impl Trainer<'_> {
    /// Goes back to the point where `checkpoint` was saved. It restores network, frozen parameters,
    /// optimizer, schedule, position and measurements.
    ///
    /// # What may differ
    /// The settings must be those of the run, except for these:
    /// - `epochs`: a finished run goes on if there are more epochs than it had. Schedules that do not
    ///   depend on the length go on as in a run of that length, bit for bit. One cycle and a cosine without
    ///   `t_max` are stretched: from here on they have the rates of a run of the new length. So the rate
    ///   jumps up where the run had ended.
    /// - `early_stop`: a run that was stopped early goes on if the new setting would not have stopped it,
    ///   or if there are more `epochs` than it had. In the second case its patience begins anew, and the
    ///   best value it had reached still has to be beaten.
    ///
    /// Workers, prefetch, cache, device and the size of the validation batches may also differ, because
    /// they affect no number. Settings that a checkpoint of an earlier version does not name have their
    /// defaults.
    ///
    /// # Which parameters learn
    /// Parameters learn or are frozen as they were in the run. It does not matter whether they were frozen
    /// by [`TrainerConfig::freeze`](crate::TrainerConfig), by hand or by
    /// [`Model::fit_images`](candle_vision_models::Model::fit_images). To change that, freeze or unfreeze
    /// after this call. Checkpoints of early versions do not name these parameters. They need a network
    /// that is frozen as it was.
    ///
    /// # Your own parts
    /// This call fails if an optimizer, a schedule, a loss, a metric, hooks or a training step has no
    /// description, because nobody can tell then whether it is the same part. The states of these parts,
    /// and of callbacks with a name, are restored.
    ///
    /// # Errors
    /// If the checkpoint is of another network, holds no state or belongs to a run that is finished, or if
    /// settings or data differ from those of its run. Network and trainer are unchanged then.
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
        self.capture.reset();
        (self.optimizer, self.averages, self.lr) = (optimizer, averages, lr);
        self.loss_scale = state.loss_scale.clone();
        (self.position, self.forgiven) = (state.position.clone(), forgiven);
        self.history = state.history();
        // They are in the folder alone: a header is no place for so many numbers.
        self.gradients.clear();
        self.callback_states = state.callbacks.clone();
        Ok(())
    }

    /// Paths of the parameters that learn in the saved run, including those that learn after the frozen
    /// epochs.
    fn learning_in(&self, state: &TrainingState) -> BTreeSet<String> {
        state.learning.clone().unwrap_or_else(|| self.learning())
    }

    /// Paths of the parameters that learn in this trainer, including those that learn after the frozen
    /// epochs.
    pub(super) fn learning(&self) -> BTreeSet<String> {
        let trainable = self.model.parameters().trainable();
        let later = self.frozen.iter().flatten().cloned();
        trainable.into_iter().chain(later).map(|parameter| parameter.path().to_owned()).collect()
    }

    /// The parameters that the run's optimizer holds: those that learn, and those that learned until they
    /// were frozen by hand.
    fn optimized_in(&self, state: &TrainingState, learning: &BTreeSet<String>) -> Vec<Parameter> {
        let mut parameters = self.model.parameters().weights();
        parameters.retain(|parameter| {
            learning.contains(parameter.path()) || state.has_moved(parameter.path())
        });
        parameters
    }

    /// The learning rate at the point where the run was saved. If it depends on the number of epochs and
    /// that number has changed, the schedule is followed again from the start up to there.
    fn learning_rate_in(&self, state: &TrainingState) -> Result<Rates> {
        let mut lr = self.new_learning_rate()?;
        let is_stretched = self.config.epochs != state.config.epochs;
        if !(is_stretched && self.schedule.depends_on_length()) {
            lr.load_state(state.rates.clone());
            return Ok(lr);
        }
        let freeze = self.config.freeze.as_ref().filter(|freeze| freeze.epochs > 0);
        let released = freeze.and_then(|freeze| Some((freeze.epochs, freeze.unfreeze_lr?)));
        let release = |done: usize, lr: &mut Rates| {
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
