//! Training from the first epoch to the last: one function for the run, one for an epoch.

mod resuming;
mod saving;
mod single_sample;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use candle_vision_data::DataLoader;
use candle_vision_models::{Model, Parameter, Precision, PreparedLayers};

use crate::callback::{Callback, Event, StopReason};
use crate::config::TrainerConfig;
use crate::criterion::Criterion;
use crate::evaluate::{Evaluation, EvaluationConfig, evaluate};
use crate::freeze::{Learners, check_groups, freeze, groups, release};
use crate::loaders::{check_loaders, data_facts};
use crate::loss_scale::LossScale;
use crate::optim::Optimizer;
use crate::out_of_memory::explained;
use crate::record::{EpochRecord, History};
use crate::run_folder::RunFolder;
use crate::schedule::{EpochMetrics, Schedule};
use crate::session::Session;
use crate::training_state::Position;
use crate::unread::{Reading, Unread};
use crate::weight_averages::WeightAverages;
use crate::{Error, Result};
use steps::Begun;

/// Trains a network on one loader and chooses the best epoch by another.
///
/// Every random choice is a function of a seed and a position, so the same settings give the same
/// weights, bit for bit, for any number of worker threads; and a run that is stopped and resumed
/// ends with the weights of one that was not.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::AtomicBool;
///
/// use candle_core::Device;
/// use candle_vision_data::transforms::{Compose, Transform};
/// use candle_vision_data::{DataLoader, Insects, InsectsConfig, LoaderConfig, Split};
/// use candle_vision_models::{ModelSpec, build};
/// use candle_vision_train::optim::OptimizerConfig;
/// use candle_vision_train::{RunFolder, Trainer, TrainerConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let loader = |split, shuffle| {
///     let insects = Insects::new(split, InsectsConfig { size: 32, count: 8, seed: 0 })?;
///     let transform = Compose::new(vec![Transform::ToTensor])?;
///     let config = LoaderConfig { batch_size: 4, shuffle, ..LoaderConfig::default() };
///     DataLoader::new(Arc::new(insects), transform, config, Device::Cpu)
/// };
/// let (train, val) = (loader(Split::Train, true)?, loader(Split::Val, false)?);
/// let model = build(&ModelSpec::new("simple_cnn", 2), 0, &Device::Cpu)?;
/// let config = TrainerConfig::new(1, OptimizerConfig::adam(1e-3));
/// let runs = tempfile::tempdir()?;
/// let run = RunFolder::create(runs.path(), "insects", "")?;
/// let mut trainer = Trainer::new(model.as_ref(), &train, &val, config, &run)?;
/// let summary = trainer.run(&mut [], &AtomicBool::new(false))?;
/// assert_eq!(summary.history.batches.len(), 2);
/// assert!(summary.last.is_file());
/// # Ok(())
/// # }
/// ```
pub struct Trainer<'a> {
    model: &'a dyn Model,
    train: &'a DataLoader,
    val: &'a DataLoader,
    config: TrainerConfig,
    run: &'a RunFolder,
    criterion: Criterion,
    optimizer: Optimizer,
    schedule: Schedule,
    /// Parameters that begin to learn after the frozen epochs; `None` once they do.
    frozen: Option<Vec<Parameter>>,
    /// Frozen layers, ready for use; emptied when they may have changed.
    prepared: PreparedLayers,
    /// With [`TrainerConfig::ema`].
    averages: Option<WeightAverages>,
    /// With [`Precision::F16`].
    loss_scale: Option<LossScale>,
    /// Where the run stands. Its step and batch are those of the last step that was begun; sums and
    /// counts, as the history, are of the steps that were read.
    position: Position,
    history: History,
    /// What decides which batches come. It takes a look at every file, so it is found out once.
    data: BTreeMap<String, String>,
    /// Epochs whose lack of improvement an early stop does not count.
    forgiven: usize,
    unread: Unread<Begun>,
    /// Whether an op of candle's own slows `backward` down; `None` before that was looked for.
    slow_backward: Option<bool>,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Why it ended.
    pub reason: StopReason,
    /// Everything that was measured, before a resumption too.
    pub history: History,
    /// Wall time of this call.
    pub seconds: f64,
    /// The network with the highest validation accuracy, with [`TrainerConfig::ema`] the average of its
    /// weights; there is none before the first epoch ends.
    pub best: PathBuf,
    /// The network as it is, with the state of the run.
    pub last: PathBuf,
}

impl<'a> Trainer<'a> {
    /// A trainer before its first step. Class names and preprocessing for the checkpoints are those
    /// of the validation loader. Parameters that are frozen already stay so; with
    /// [`TrainerConfig::freeze`] more are frozen.
    ///
    /// # Errors
    /// If a setting is impossible, a loader is empty, the data sets have other classes than each
    /// other or the network, a label is of no class, or no parameter is trainable. The network is
    /// as it was then.
    pub fn new(
        model: &'a dyn Model,
        train: &'a DataLoader,
        val: &'a DataLoader,
        config: TrainerConfig,
        run: &'a RunFolder,
    ) -> Result<Self> {
        config.validate()?;
        check_loaders(model, train, val)?;
        check_groups(model, &config)?;
        let learners = Learners::new(model, model.parameters().trainable(), &config)?;
        let criterion = Criterion::new(
            config.label_smoothing,
            config.class_weights.as_deref(),
            model.spec().num_classes,
            &model.parameters().device(),
        )?;
        let optimizer = learners.optimizer(&config, true)?;
        let schedule = new_schedule(&config, train)?;
        let averages = config.ema.map(|ema| WeightAverages::new(ema, model)).transpose()?;
        let (position, history) = (Position::at_epoch(1, 0), History::default());
        let loss_scale = (config.precision == Precision::F16).then(LossScale::default);
        let is_emulated =
            config.precision != Precision::F32 && model.parameters().device().is_cpu();
        let unread = Unread::new(Reading::of(&model.parameters().device()));
        let data = data_facts(train, val);
        // The first change, when nothing can fail any more.
        freeze(model, learners.later.as_deref().unwrap_or_default())?;
        Ok(Self {
            model,
            train,
            val,
            config,
            run,
            criterion,
            optimizer,
            schedule,
            frozen: learners.later,
            prepared: PreparedLayers::new(),
            averages,
            loss_scale,
            position,
            history,
            data,
            forgiven: 0,
            unread,
            // Halves are emulated on the CPU, by conversions that are none of the network's.
            slow_backward: is_emulated.then_some(true),
        })
    }

    /// Trains until the last epoch, an early stop, or until asked to end: by `stop`, which a signal
    /// handler may set, or by a callback. The batch at hand, on a GPU every batch that was begun, is
    /// finished then, and the position saved. Another call goes on from there; after the last epoch or
    /// an early stop it trains nothing, tells the callbacks nothing, and returns what the run came to.
    ///
    /// # Errors
    /// - [`Error::Diverged`] if the loss, an output or a parameter stops being finite
    /// - [`Error::SingleSample`] if the last batch of an epoch has one sample and the network cannot
    ///   be trained on it; this is said before the first epoch
    /// - [`Error::RunInUse`] if another process trains the run
    /// - if an image cannot be read, a checkpoint not be written, or a callback fails
    ///
    /// Checkpoints stay as last written.
    pub fn run(
        &mut self,
        callbacks: &mut [&mut dyn Callback],
        stop: &AtomicBool,
    ) -> Result<Summary> {
        let started = Instant::now();
        if let Some(reason) = self.finished() {
            return Ok(self.summary(reason, started));
        }
        let _lock = self.run.hold()?;
        self.check_last_batch()?;
        let mut session = Session::new(callbacks, stop);
        session.notify(&Event::RunStart {
            epochs: self.config.epochs,
            first_epoch: self.position.epoch,
            train_samples: self.train.dataset().len(),
            val_samples: self.val.dataset().len(),
            history: &self.history,
        })?;
        let reason = loop {
            if let Some(reason) = self.epoch(&mut session)? {
                break reason;
            }
        };
        session.notify(&Event::RunEnd { history: &self.history, reason })?;
        Ok(self.summary(reason, started))
    }

    fn summary(&self, reason: StopReason, started: Instant) -> Summary {
        Summary {
            reason,
            history: self.history.clone(),
            seconds: started.elapsed().as_secs_f64(),
            best: self.run.best(),
            last: self.run.last(),
        }
    }

    /// Trains one epoch, or what is left of it; returns why the run ends, if it does.
    fn epoch(&mut self, session: &mut Session<'_, '_>) -> Result<Option<StopReason>> {
        self.begin_epoch(session)?;
        let batch_size = self.train.config().batch_size;
        let trained = self.train_epoch(session);
        if let Some(reason) = explained(trained, &self.model.parameters().device(), batch_size)? {
            return self.leave(session, reason);
        }
        let started = Instant::now();
        let Some(evaluation) = self.on_averages(|trainer| trainer.validate(session))? else {
            let reason = session.stop_reason().unwrap_or(StopReason::Interrupted);
            return self.leave(session, reason);
        };
        self.end_epoch(session, &evaluation, started.elapsed().as_secs_f64())
    }

    fn begin_epoch(&mut self, session: &mut Session<'_, '_>) -> Result<()> {
        let epoch = self.position.epoch;
        let frozen_epochs = self.config.freeze.as_ref().map_or(0, |freeze| freeze.epochs);
        if self.frozen.is_some() && epoch > frozen_epochs {
            self.unfreeze()?;
            if let Some(lr) = self.config.freeze.as_ref().and_then(|freeze| freeze.unfreeze_lr) {
                self.schedule.set_lr(lr);
            }
            let lr = self.schedule.lr_of_step(self.position.step);
            session.notify(&Event::Unfrozen { epoch, lr })?;
        }
        session.notify(&Event::EpochStart {
            epoch,
            epochs: self.config.epochs,
            batches: self.batches(),
            first_batch: self.position.batch,
            lr: self.schedule.lr_of_step(self.position.step),
        })
    }

    /// Lets the frozen parameters learn from now on.
    fn unfreeze(&mut self) -> Result<()> {
        let Some(frozen) = self.frozen.take() else {
            return Ok(());
        };
        release(self.model, &frozen)?;
        // What was frozen was no part of the graph.
        self.slow_backward = self.slow_backward.filter(|is_slow| *is_slow);
        self.prepared = PreparedLayers::new();
        self.optimizer.add(groups(frozen, &self.config))
    }

    /// Does something with the averages of the weights in their place, where there are any.
    fn on_averages<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.averages.as_ref().map_or(Ok(()), WeightAverages::exchange)?;
        let done = work(self);
        // After a failure too: it is the weights that learn.
        self.averages.as_ref().map_or(Ok(()), WeightAverages::exchange)?;
        done
    }

    /// Training batches in an epoch.
    fn batches(&self) -> usize {
        batches_per_epoch(&self.config, self.train)
    }

    /// `None` if the run is to end before all of it is seen.
    fn validate(&self, session: &mut Session<'_, '_>) -> Result<Option<Evaluation>> {
        let progress = |batch, batches| {
            session.notify_skipped([self.train, self.val])?;
            session.notify(&Event::ValidationBatchEnd { batch, batches })?;
            Ok(session.stop_reason().is_none())
        };
        let config =
            EvaluationConfig { limit: self.config.limit_batches, precision: self.config.precision };
        let evaluation = evaluate(self.model, self.val, &self.criterion, &config, progress);
        evaluation.map_err(|error| match error {
            Error::NotFiniteOutput { name, value, .. } => {
                self.diverged_in_validation(format!("the output for `{name}` is {value}"))
            }
            error => error,
        })
    }

    fn diverged_in_validation(&self, what: String) -> Error {
        let Position { epoch, batch, step, .. } = self.position;
        let lr = self.schedule.lr_of_step(step.saturating_sub(1));
        Error::Diverged { epoch, batch, what, lr, parameter: None }
    }

    fn end_epoch(
        &mut self,
        session: &mut Session<'_, '_>,
        evaluation: &Evaluation,
        validation_seconds: f64,
    ) -> Result<Option<StopReason>> {
        // Before the first number is told.
        session.notify_skipped([self.train, self.val])?;
        let record = self.record(evaluation, validation_seconds)?;
        self.schedule
            .step(EpochMetrics { val_loss: record.val_loss, val_accuracy: record.val_accuracy });
        self.history.epochs.push(record.clone());
        self.position = Position::at_epoch(record.epoch + 1, self.position.step);
        let is_best = self.history.best().is_some_and(|best| best.epoch == record.epoch);
        if is_best {
            self.on_averages(|trainer| trainer.save_best(session))?;
        }
        let finished = self.finished();
        self.save_last(session, finished)?;
        session.notify(&Event::EpochEnd { record: &record, history: &self.history, is_best })?;
        Ok(finished.or_else(|| session.stop_reason()))
    }

    fn record(&self, evaluation: &Evaluation, validation_seconds: f64) -> Result<EpochRecord> {
        let position = &self.position;
        let lr = self.schedule.lr_of_step(position.step.saturating_sub(1));
        if !evaluation.loss.is_finite() {
            let what = format!("the validation loss is {}", evaluation.loss);
            return Err(self.diverged_in_validation(what));
        }
        let samples = position.samples as f64;
        Ok(EpochRecord {
            epoch: position.epoch,
            train_loss: position.loss_sum / samples,
            train_accuracy: position.correct as f64 / samples,
            val_loss: evaluation.loss,
            val_accuracy: evaluation.accuracy,
            lr,
            seconds: position.seconds + validation_seconds,
            images_per_second: samples / position.seconds.max(1e-9),
        })
    }

    /// Why the run is at its end after the epochs so far, if it is.
    fn finished(&self) -> Option<StopReason> {
        let epochs = &self.history.epochs;
        let early = self.config.early_stop.as_ref();
        if epochs.len() >= self.config.epochs {
            Some(StopReason::Completed)
        } else if early.is_some_and(|early| early.is_reached_after(epochs, self.forgiven)) {
            Some(StopReason::EarlyStopped)
        } else {
            None
        }
    }
}

fn new_schedule(config: &TrainerConfig, train: &DataLoader) -> Result<Schedule> {
    let steps = batches_per_epoch(config, train);
    Schedule::new(&config.schedule, config.optimizer.lr(), config.epochs, steps)
}

fn batches_per_epoch(config: &TrainerConfig, train: &DataLoader) -> usize {
    config.limit_batches.unwrap_or(usize::MAX).min(train.batches_per_epoch())
}
