//! Training from the first epoch to the last, with one function for the run and one for an epoch.

mod builder;
mod gradient_check;
mod result;
mod resuming;
mod saving;
mod single_sample;
mod steps;
#[cfg(test)]
mod tests;
mod together;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use candle_vision_data::DataLoader;
use candle_vision_models::{Model, Parameter, PreparedLayers};
use candle_vision_registry::Description;
use serde_json::Value;

use crate::callback::{Callback, Control, Event, StopReason};
use crate::captured_step::StepCapture;
use crate::checkpoint::Checkpoint;
use crate::config::TrainerConfig;
use crate::evaluate::{Evaluation, evaluate};
use crate::freeze::{groups, release};
use crate::gradient_norms::GradientRecord;
use crate::loss::{Loss, TargetKind};
use crate::loss_scale::LossScale;
use crate::memory_in_use::peak_memory;
use crate::metrics::Metric;
use crate::monitor::{Measured, Monitor};
use crate::optim::Optimizer;
use crate::out_of_memory::explained;
use crate::parts::Parts;
use crate::ranks::Ranks;
use crate::record::{BatchRecord, EpochRecord, History};
use crate::run_folder::RunFolder;
use crate::schedule::{Rates, RunLength, Schedule};
use crate::session::Session;
use crate::train_step::TrainStep;
use crate::training_state::Position;
use crate::tta::TestTimeAugmentation;
use crate::unread::Unread;
use crate::weight_averages::WeightAverages;
use crate::{Error, Result};
pub use builder::TrainerBuilder;
use builder::TrainingHooks;
pub use result::TrainingResult;
use steps::{Begun, Unfinished};

/// Trains a network on one loader and chooses the best epoch on another.
///
/// Every random choice is a function of a seed and a position. So the same settings give the same weights,
/// bit for bit, for any number of worker threads. A run that is stopped and resumed ends with the same
/// weights as one that was not.
///
/// Without a folder ([`Trainer::save_to`], [`Trainer::run_folder`]) nothing is written, and the best
/// weights are kept in memory.
///
/// # Example
/// ```
/// use std::sync::Arc;
///
/// use candle_core::Device;
/// use candle_vision_data::transforms::{Compose, ToTensor};
/// use candle_vision_data::{DataLoader, Insects, InsectsConfig, LoaderConfig, Split};
/// use candle_vision_models::{ModelSpec, build};
/// use candle_vision_train::optim::Adam;
/// use candle_vision_train::{Trainer, TrainerConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let loader = |split, shuffle| {
///     let insects = Insects::new(split, InsectsConfig::new(8).size(32))?;
///     let transform = Compose::new().with(ToTensor);
///     let config = LoaderConfig::new(4).shuffle(shuffle);
///     DataLoader::new(Arc::new(insects), transform, config, Device::Cpu)
/// };
/// let (train, val) = (loader(Split::Train, true)?, loader(Split::Val, false)?);
/// let model = build(&ModelSpec::new("simple_cnn", 2), 0, &Device::Cpu)?;
/// let runs = tempfile::tempdir()?;
/// let config = TrainerConfig::new(1, Adam::new(1e-3));
/// let done = Trainer::new(model.as_ref(), &train, &val, config)?
///     .on_batch(|batch| println!("{} {}", batch.step, batch.lr))
///     .save_to(runs.path().join("insects"))
///     .run()?;
/// assert_eq!(done.history.batches.len(), 2);
/// assert!(done.best_path().is_some_and(|path| path.ends_with("insects/001/best.safetensors")));
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is trained before `run`"]
pub struct Trainer<'a> {
    model: &'a dyn Model,
    train: &'a DataLoader,
    val: &'a DataLoader,
    /// The settings, with the defaults of all parts filled in.
    config: TrainerConfig,
    registries: Parts,
    loss: Box<dyn Loss>,
    /// What the targets of training batches say.
    target_kind: TargetKind,
    optimizer: Box<dyn Optimizer>,
    schedule: Arc<dyn Schedule>,
    lr: Rates,
    metrics: Vec<Box<dyn Metric>>,
    /// The test-time augmentation of the validation.
    tta: Option<Box<dyn TestTimeAugmentation>>,
    measured: Measured,
    /// The metric that chooses the best epoch.
    monitor: Monitor,
    train_step: Option<Box<dyn TrainStep + 'a>>,
    hooks: Option<TrainingHooks<'a>>,
    /// Descriptions of parts that are not settings.
    parts: BTreeMap<String, Description>,
    undescribed: Vec<String>,
    callbacks: Vec<Box<dyn Callback + 'a>>,
    /// Saved states of callbacks, until the run goes on.
    callback_states: BTreeMap<String, Value>,
    stop: Option<&'a AtomicBool>,
    folder: Option<RunFolder>,
    /// The folder of runs in which the run's folder is made when the run begins.
    new_folder: Option<PathBuf>,
    /// The network after the best epoch, if there is no folder.
    best: Option<Checkpoint>,
    /// Parameters that begin to learn after the frozen epochs. `None` after that.
    frozen: Option<Vec<Parameter>>,
    /// Prepared frozen layers. They are dropped when they may have changed.
    prepared: PreparedLayers,
    /// The running averages, with [`TrainerConfig::ema`].
    averages: Option<WeightAverages>,
    /// The loss scale, with [`Precision::F16`](candle_vision_models::Precision::F16).
    loss_scale: Option<LossScale>,
    /// The position in the run. Its step and batch are those of the last step that was begun. Its sums and
    /// counts, like the history, cover the steps that were read.
    position: Position,
    history: History,
    /// The norms of gradients so far, with [`TrainerConfig::gradient_norms`].
    gradients: Vec<GradientRecord>,
    /// The facts that determine the batches. Finding them reads every file, so it is done once.
    data: BTreeMap<String, String>,
    /// Number of epochs that early stopping does not count as epochs without improvement.
    forgiven: usize,
    unread: Unread<Begun>,
    unfinished: Unfinished,
    /// Whether one of candle's own ops slows `backward` down. `None` before this was checked.
    slow_backward: Option<bool>,
    /// The steps that a CUDA device repeats from a graph.
    capture: StepCapture,
    /// Whether the next batch is to show that all parameters that learn get a gradient.
    checks_gradients: bool,
    /// The processes that train the network together, if there are several.
    ranks: Option<Ranks>,
    /// The share of the epoch's steps that they waited for each other, once the steps are done.
    waiting: Option<f64>,
}

impl fmt::Debug for Trainer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, position) = (&self.config, &self.position);
        let mut fields = f.debug_struct("Trainer");
        fields.field("config", config).field("position", position).finish_non_exhaustive()
    }
}

impl<'a> Trainer<'a> {
    /// A trainer with the built-in parts, before its first step. [`Trainer::builder`] takes your own parts.
    ///
    /// # Errors
    /// As [`TrainerBuilder::build`].
    pub fn new(
        model: &'a dyn Model,
        train: &'a DataLoader,
        val: &'a DataLoader,
        config: TrainerConfig,
    ) -> Result<Self> {
        Self::builder(model).data(train, val).config(config).build()
    }

    /// A builder for a trainer.
    pub fn builder(model: &'a dyn Model) -> TrainerBuilder<'a> {
        TrainerBuilder::new(model)
    }

    /// Adds a callback, which follows the run and may end it.
    pub fn callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Adds a function that gets the record of each training batch.
    pub fn on_batch(self, mut tell: impl FnMut(&BatchRecord) + 'a) -> Self {
        self.callback(move |event: &Event<'_>| {
            if let Event::BatchEnd { record, .. } = event {
                tell(record);
            }
            Ok(Control::Continue)
        })
    }

    /// Adds a function that gets the record of each epoch.
    pub fn on_epoch(self, mut tell: impl FnMut(&EpochRecord) + 'a) -> Self {
        self.callback(move |event: &Event<'_>| {
            if let Event::EpochEnd { record, .. } = event {
                tell(record);
            }
            Ok(Control::Continue)
        })
    }

    /// Writes measurements and checkpoints into the folder of a run.
    pub fn run_folder(self, folder: &RunFolder) -> Self {
        Self { folder: Some(folder.clone()), new_folder: None, ..self }
    }

    /// Writes measurements and checkpoints into a new folder: for `runs/p1` it is `runs/p1/001`, or the
    /// next free number. The folder is made when the run begins.
    pub fn save_to(self, runs_of: impl Into<PathBuf>) -> Self {
        Self { new_folder: Some(runs_of.into()), folder: None, ..self }
    }

    /// Ends the run once the flag is set, for example by a signal handler. The run can be resumed.
    pub fn stop_when(self, flag: &'a AtomicBool) -> Self {
        Self { stop: Some(flag), ..self }
    }

    /// All settings, with defaults filled in.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// Trains until the last epoch, an early stop, or a request to end by the flag of
    /// [`Trainer::stop_when`] or by a callback.
    ///
    /// On a request, the current batch is finished (on a GPU, every batch that has begun), and the position
    /// is saved. Another call goes on from there. After the last epoch or an early stop, another call
    /// trains nothing, calls no callback and returns the result of the run.
    ///
    /// # Errors
    /// - [`Error::Diverged`] if the loss, an output or a parameter stops being finite
    /// - [`Error::SingleSample`] if the last batch of an epoch has one sample and the network cannot be
    ///   trained on it; this error comes before the first epoch
    /// - [`Error::RunInUse`] if another process trains the run
    /// - if an image cannot be read, a checkpoint cannot be written, or a callback fails
    ///
    /// The checkpoints stay as they were last written.
    pub fn run(&mut self) -> Result<TrainingResult> {
        self.run_with(&mut [], &AtomicBool::new(false))
    }

    /// Like [`Trainer::run`], with more callbacks and one more flag, which are borrowed for this call only.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn run_with(
        &mut self,
        callbacks: &mut [&mut dyn Callback],
        stop: &AtomicBool,
    ) -> Result<TrainingResult> {
        let started = Instant::now();
        if let Some(reason) = self.finished()? {
            return Ok(self.result(reason, started));
        }
        self.meet_ranks()?;
        if let Some(path) = self.new_folder.take().filter(|_| self.writes()) {
            self.folder = Some(self.make_folder(&path)?);
        }
        let _lock = self.folder.as_ref().map(RunFolder::hold).transpose()?;
        self.check_last_batch()?;
        self.find_gradients()?;
        // The callbacks are taken out because the trainer itself is borrowed while they work.
        let mut own = std::mem::take(&mut self.callbacks);
        let result = self.run_session(&mut own, callbacks, stop);
        self.callbacks = own;
        Ok(self.result(result?, started))
    }

    fn run_session(
        &mut self,
        own: &mut [Box<dyn Callback + 'a>],
        callbacks: &mut [&mut dyn Callback],
        stop: &AtomicBool,
    ) -> Result<StopReason> {
        let own = own.iter_mut().map(|callback| -> &mut dyn Callback { callback.as_mut() });
        let given = callbacks.iter_mut().map(|callback| -> &mut dyn Callback { &mut **callback });
        let flags = self.stop.into_iter().chain([stop]).collect();
        let mut session = Session::new(own.chain(given).collect(), flags);
        session.load_states(&self.callback_states)?;
        self.callback_states.clear();
        session.notify(&Event::RunStart {
            epochs: self.config.epochs,
            first_epoch: self.position.epoch,
            train_samples: self.train.dataset().len(),
            val_samples: self.val.dataset().len(),
            history: &self.history,
        })?;
        if let Some(reason) = self.ranks.as_ref().and_then(Ranks::through_host) {
            session.notify(&Event::GradientsThroughHost { reason })?;
        }
        let reason = loop {
            if let Some(reason) = self.epoch(&mut session)? {
                break reason;
            }
        };
        session.notify(&Event::RunEnd { history: &self.history, reason })?;
        Ok(reason)
    }

    fn result(&self, reason: StopReason, started: Instant) -> TrainingResult {
        TrainingResult {
            captured_steps: self.capture.steps,
            reason,
            history: self.history.clone(),
            gradients: self.gradients.clone(),
            seconds: started.elapsed().as_secs_f64(),
            best_epoch: self.history.best_by(&self.monitor).cloned(),
            folder: self.folder.clone(),
            best: self.best.clone(),
        }
    }

    /// Trains one epoch or the rest of it. Returns why the run ends, if it ends.
    fn epoch(&mut self, session: &mut Session<'_>) -> Result<Option<StopReason>> {
        self.begin_epoch(session)?;
        let batch_size = self.train.config().batch_size;
        let trained = self.train_epoch(session);
        if let Some(reason) = explained(trained, &self.model.parameters().device(), batch_size)? {
            return self.leave(session, reason);
        }
        let started = Instant::now();
        self.share_buffers()?;
        let validated = self.on_averages(|trainer| {
            if trainer.averages.is_some() {
                trainer.share_buffers()?;
            }
            trainer.validate(session)
        });
        let Some(evaluation) = validated? else {
            let reason = session.stop_reason().unwrap_or(StopReason::Interrupted);
            return self.leave(session, reason);
        };
        self.end_epoch(session, &evaluation, started.elapsed().as_secs_f64())
    }

    fn begin_epoch(&mut self, session: &mut Session<'_>) -> Result<()> {
        let epoch = self.position.epoch;
        let frozen_epochs = self.config.freeze.as_ref().map_or(0, |freeze| freeze.epochs);
        if self.frozen.is_some() && epoch > frozen_epochs {
            self.unfreeze()?;
            if let Some(lr) = self.config.freeze.as_ref().and_then(|freeze| freeze.unfreeze_lr) {
                self.lr.set_lr(lr);
            }
            let lr = self.lr.lr_of_step(self.position.step);
            session.notify(&Event::Unfrozen { epoch, lr })?;
        }
        session.notify(&Event::EpochStart {
            epoch,
            epochs: self.config.epochs,
            batches: self.batches(),
            first_batch: self.position.batch,
            lr: self.lr.lr_of_step(self.position.step),
        })
    }

    /// Lets the frozen parameters learn from now on.
    fn unfreeze(&mut self) -> Result<()> {
        let Some(frozen) = self.frozen.take() else {
            return Ok(());
        };
        release(self.model, &frozen)?;
        // The frozen part was not in the graph, so it must be checked again.
        self.slow_backward = self.slow_backward.filter(|is_slow| *is_slow);
        self.checks_gradients = self.config.check_gradients;
        self.prepared = PreparedLayers::new();
        self.capture.reset();
        self.optimizer.add(groups(frozen, &self.config))
    }

    /// Runs `work` with the averages in place of the weights, if there are averages.
    fn on_averages<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.averages.as_ref().map_or(Ok(()), WeightAverages::exchange)?;
        let done = work(self);
        // Exchange them back after a failure too, because the weights are what is trained.
        self.averages.as_ref().map_or(Ok(()), WeightAverages::exchange)?;
        done
    }

    /// Number of training batches per epoch.
    fn batches(&self) -> usize {
        batches_per_epoch(&self.config, self.train)
    }

    /// Number of training steps per epoch.
    fn steps(&self) -> usize {
        steps_per_epoch(&self.config, self.train)
    }

    /// Validates. Returns `None` if the run ends before all batches are seen.
    fn validate(&mut self, session: &mut Session<'_>) -> Result<Option<Evaluation>> {
        let (train, val) = (self.train, self.val);
        let progress = |batch, batches| {
            session.notify_skipped([train, val])?;
            session.notify(&Event::ValidationBatchEnd { batch, batches })?;
            Ok(session.stop_reason().is_none())
        };
        let last = self.config.tta_epochs.unwrap_or(self.config.epochs);
        let has_tta = self.position.epoch + last > self.config.epochs;
        let evaluation = evaluate(self.model, val)
            .tta(self.tta.as_deref().filter(|_| has_tta))
            .loss(self.loss.as_ref())
            .metrics(&mut self.metrics)
            .limit(self.config.limit_batches)
            .ranks(self.ranks.as_ref().map(Ranks::communicator))
            .precision(self.config.precision)
            .run_while(progress);
        evaluation.map_err(|error| match error {
            Error::NotFiniteOutput { name, value, .. } => {
                self.diverged_in_validation(format!("the output for `{name}` is {value}"))
            }
            error => error,
        })
    }

    fn diverged_in_validation(&self, what: String) -> Error {
        let Position { epoch, batch, step, .. } = self.position;
        let lr = self.lr.lr_of_step(step.saturating_sub(1));
        Error::Diverged { epoch, batch, what, lr, parameter: None }
    }

    fn end_epoch(
        &mut self,
        session: &mut Session<'_>,
        evaluation: &Evaluation,
        validation_seconds: f64,
    ) -> Result<Option<StopReason>> {
        let _writing = self.writing();
        // Before the first number is reported.
        session.notify_skipped([self.train, self.val])?;
        let record = self.record(evaluation, validation_seconds)?;
        self.lr.step(&record, &self.measured)?;
        self.history.epochs.push(record.clone());
        self.position = Position::at_epoch(record.epoch + 1, self.position.step);
        let best = self.history.best_by(&self.monitor);
        let is_best = best.is_some_and(|best| best.epoch == record.epoch);
        if is_best {
            self.on_averages(|trainer| trainer.save_best(session))?;
        }
        let finished = self.finished()?;
        self.save_last(session, finished)?;
        session.notify(&Event::EpochEnd { record: &record, history: &self.history, is_best })?;
        Ok(finished.or_else(|| session.stop_reason()))
    }

    fn record(&self, evaluation: &Evaluation, validation_seconds: f64) -> Result<EpochRecord> {
        let position = &self.position;
        let lr = self.lr.lr_of_step(position.step.saturating_sub(1));
        if !evaluation.loss.is_finite() {
            let what = format!("the validation loss is {}", evaluation.loss);
            return Err(self.diverged_in_validation(what));
        }
        let samples = position.samples as f64;
        let values = self.metrics.iter().map(|metric| (metric.name(), metric.value()));
        Ok(EpochRecord {
            epoch: position.epoch,
            train_loss: position.loss_sum / samples,
            train_accuracy: position.accuracy(),
            val_loss: evaluation.loss,
            val_accuracy: evaluation.accuracy,
            lr,
            seconds: position.seconds + validation_seconds,
            images_per_second: samples / position.seconds.max(1e-9),
            peak_memory: peak_memory(&self.model.parameters().device()),
            waiting: self.waiting,
            metrics: values.filter(|(_, value)| value.is_finite()).collect(),
        })
    }

    /// Why the run is complete after the epochs so far, if it is.
    fn finished(&self) -> Result<Option<StopReason>> {
        let epochs = &self.history.epochs;
        if epochs.len() >= self.config.epochs {
            return Ok(Some(StopReason::Completed));
        }
        let Some(early) = &self.config.early_stop else { return Ok(None) };
        let monitor = early.monitored(&self.measured)?;
        let is_reached = early.is_reached(&monitor, epochs, self.forgiven);
        Ok(is_reached.then_some(StopReason::EarlyStopped))
    }

    /// The schedule at the run's first epoch.
    fn new_learning_rate(&self) -> Result<Rates> {
        new_rates(&self.schedule, self.optimizer.fresh().lr(), &self.config, self.train)
    }
}

/// A schedule at a run's first epoch.
fn new_rates(
    schedule: &Arc<dyn Schedule>,
    base_lr: f64,
    config: &TrainerConfig,
    train: &DataLoader,
) -> Result<Rates> {
    let limits = config.param_groups.iter().filter_map(|group| group.epochs);
    Rates::new(schedule, base_lr, run_length(config, train), limits)
}

fn run_length(config: &TrainerConfig, train: &DataLoader) -> RunLength {
    RunLength { epochs: config.epochs, steps_per_epoch: steps_per_epoch(config, train) }
}

/// The last step of an epoch takes the batches that are left.
fn steps_per_epoch(config: &TrainerConfig, train: &DataLoader) -> usize {
    batches_per_epoch(config, train).div_ceil(config.accumulate)
}

fn batches_per_epoch(config: &TrainerConfig, train: &DataLoader) -> usize {
    config.limit_batches.unwrap_or(usize::MAX).min(train.batches_of_all())
}
