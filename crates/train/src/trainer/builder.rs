//! The builder of a trainer.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_vision_data::DataLoader;
use candle_vision_distributed::Communicator;
use candle_vision_models::{Hooks, LayerHook, Model, Precision, PreparedLayers};
use candle_vision_registry::Description;

use super::steps::Unfinished;
use super::{Trainer, TrainingResult, new_rates};
use crate::callback::Callback;
use crate::captured_step::StepCapture;
use crate::config::TrainerConfig;
use crate::freeze::{Learners, check_groups, freeze};
use crate::loaders::{check_loaders, data_facts};
use crate::loss::{Loss, TargetKind, check_counts, check_targets, with_counts_of};
use crate::loss_scale::LossScale;
use crate::metrics::{Metric, check_metric};
use crate::monitor::Measured;
use crate::optim::{Grouped, Kind, Optimizer, Sharded};
use crate::parts::{Parts, undescribed};
use crate::ranks::{Ranks, check_shares};
use crate::record::History;
use crate::run_folder::RunFolder;
use crate::schedule::Schedule;
use crate::train_step::TrainStep;
use crate::training_state::Position;
use crate::unread::{Reading, Unread};
use crate::weight_averages::WeightAverages;
use crate::{Error, Result};

/// Hooks of the training passes.
pub(super) enum TrainingHooks<'a> {
    /// The same hooks in every step.
    Same(Box<dyn LayerHook + 'a>),
    /// Hooks that are made for each step of the run, from 1.
    OfStep(Box<dyn FnMut(usize) -> Hooks<'a> + 'a>),
}

impl TrainingHooks<'_> {
    /// Calls `work` with the hooks of a step.
    pub(super) fn with<T>(&mut self, step: usize, work: impl FnOnce(&mut dyn LayerHook) -> T) -> T {
        match self {
            Self::Same(hooks) => work(hooks.as_mut()),
            Self::OfStep(make) => work(&mut make(step)),
        }
    }
}

/// A builder for a [`Trainer`]. Only the data and the settings are required.
///
/// A part that is given here replaces the one that the settings name. A run with such a part can be resumed
/// if the part has a description.
///
/// # Example
/// ```
/// # use std::sync::Arc;
/// # use candle_core::Device;
/// # use candle_vision_data::transforms::{Compose, ToTensor};
/// # use candle_vision_data::{DataLoader, Insects, InsectsConfig, LoaderConfig, Split};
/// # use candle_vision_models::{Hooks, ModelSpec, build};
/// use candle_vision_train::loss::CrossEntropy;
/// use candle_vision_train::metrics::MacroF1;
/// use candle_vision_train::optim::Sgd;
/// use candle_vision_train::schedule::{CosineAnnealingLr, Schedule};
/// use candle_vision_train::{Trainer, TrainerConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let insects = Insects::new(Split::Val, InsectsConfig::new(4).size(32))?;
/// # let transform = Compose::new().with(ToTensor);
/// # let data =
/// #     DataLoader::new(Arc::new(insects), transform, LoaderConfig::default(), Device::Cpu)?;
/// # let model = build(&ModelSpec::new("gap_cnn", 2).input([3, 32, 32]), 0, &Device::Cpu)?;
/// let mut hooks = Hooks::new();
/// hooks.on_gradient("conv3", |_, gradient| Ok(Some(gradient.clamp(-0.02, 0.02)?)));
/// let done = Trainer::builder(model.as_ref())
///     .data(&data, &data)
///     .config(TrainerConfig::new(2, Sgd::new(0.1).momentum(0.9)).monitor("macro_f1"))
///     .loss(CrossEntropy::new().label_smoothing(0.1))
///     .schedule(CosineAnnealingLr::new().warmup(1))
///     .metric(MacroF1::new())
///     .hooks(hooks)
///     .run()?;
/// assert!(done.best_epoch.is_some_and(|epoch| epoch.metrics.contains_key("macro_f1")));
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is trained before `run`"]
pub struct TrainerBuilder<'a> {
    model: &'a dyn Model,
    data: Option<[&'a DataLoader; 2]>,
    config: Option<TrainerConfig>,
    registries: Parts,
    optimizer: Option<Box<dyn Optimizer>>,
    schedule: Option<Arc<dyn Schedule>>,
    loss: Option<Box<dyn Loss>>,
    metrics: Vec<Box<dyn Metric>>,
    train_step: Option<Box<dyn TrainStep + 'a>>,
    hooks: Option<(TrainingHooks<'a>, Option<Description>)>,
    callbacks: Vec<Box<dyn Callback + 'a>>,
    stop: Option<&'a AtomicBool>,
    folder: Option<RunFolder>,
    new_folder: Option<PathBuf>,
    communicator: Option<Arc<dyn Communicator>>,
}

impl fmt::Debug for TrainerBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<'a> TrainerBuilder<'a> {
    pub(super) fn new(model: &'a dyn Model) -> Self {
        Self {
            model,
            data: None,
            config: None,
            registries: Parts::standard(),
            optimizer: None,
            schedule: None,
            loss: None,
            metrics: Vec::new(),
            train_step: None,
            hooks: None,
            callbacks: Vec::new(),
            stop: None,
            folder: None,
            new_folder: None,
            communicator: None,
        }
    }

    /// Sets the loaders for training and for validation.
    pub fn data(self, train: &'a DataLoader, val: &'a DataLoader) -> Self {
        Self { data: Some([train, val]), ..self }
    }

    /// Sets the settings.
    pub fn config(self, config: TrainerConfig) -> Self {
        Self { config: Some(config), ..self }
    }

    /// Sets the registries in which the names in the settings are looked up. By default these are the
    /// built-in parts.
    pub fn parts(self, parts: Parts) -> Self {
        Self { registries: parts, ..self }
    }

    /// Sets an optimizer without parameters, instead of the one that the settings name.
    pub fn optimizer(self, optimizer: impl Optimizer + 'static) -> Self {
        Self { optimizer: Some(Box::new(optimizer)), ..self }
    }

    /// Sets a schedule instead of the one that the settings name.
    pub fn schedule(self, schedule: impl Schedule + 'static) -> Self {
        Self { schedule: Some(Arc::new(schedule)), ..self }
    }

    /// Sets a loss instead of the one that the settings name.
    pub fn loss(self, loss: impl Loss + 'static) -> Self {
        Self { loss: Some(Box::new(loss)), ..self }
    }

    /// Adds a metric to those that the settings name.
    pub fn metric(mut self, metric: impl Metric + 'static) -> Self {
        self.metrics.push(Box::new(metric));
        self
    }

    /// Sets the forward pass and loss of a training step, for a loss that needs more than logits and
    /// labels. Validation still measures the loss of the settings.
    pub fn train_step(self, step: impl TrainStep + 'a) -> Self {
        Self { train_step: Some(Box::new(step)), ..self }
    }

    /// Sets hooks of the training passes. They see the layers' outputs and gradients and may change them. A
    /// run with them cannot be resumed. [`TrainerBuilder::described_hooks`] allows that.
    pub fn hooks(self, hooks: impl LayerHook + 'a) -> Self {
        Self { hooks: Some((TrainingHooks::Same(Box::new(hooks)), None)), ..self }
    }

    /// Sets hooks for a run that can be resumed. The description must cover everything that the hooks do.
    /// Their effect must not depend on earlier steps.
    pub fn described_hooks(self, description: Description, hooks: impl LayerHook + 'a) -> Self {
        let hooks = TrainingHooks::Same(Box::new(hooks));
        Self { hooks: Some((hooks, Some(description))), ..self }
    }

    /// Sets hooks that are made for each step of the run, from 1.
    pub fn hooks_of_step(self, make: impl FnMut(usize) -> Hooks<'a> + 'a) -> Self {
        Self { hooks: Some((TrainingHooks::OfStep(Box::new(make)), None)), ..self }
    }

    /// As [`Trainer::callback`].
    pub fn callback(mut self, callback: impl Callback + 'a) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// As [`Trainer::run_folder`].
    pub fn run_folder(self, folder: &RunFolder) -> Self {
        Self { folder: Some(folder.clone()), new_folder: None, ..self }
    }

    /// As [`Trainer::save_to`].
    pub fn save_to(self, runs_of: impl Into<PathBuf>) -> Self {
        Self { new_folder: Some(runs_of.into()), folder: None, ..self }
    }

    /// Lets the processes of a communicator train the network together, each on its [share](DataLoader::share) of the data.
    ///
    /// All of them have the same settings and data, and call [`Trainer::run`] at the same time. They begin with the weights of
    /// the first process. Every step is that of one process with all their batches, if batch norm is
    /// [synchronised](crate::DistributedConfig) and there is no dropout. The first process writes the files of the run.
    pub fn communicator(self, communicator: Arc<dyn Communicator>) -> Self {
        Self { communicator: Some(communicator), ..self }
    }

    /// As [`Trainer::stop_when`].
    pub fn stop_when(self, flag: &'a AtomicBool) -> Self {
        Self { stop: Some(flag), ..self }
    }

    /// Builds a trainer before its first step. The checkpoints get the class names and the preprocessing of
    /// the validation loader. Parameters that are already frozen stay frozen. [`TrainerConfig::freeze`]
    /// freezes more.
    ///
    /// # Errors
    /// If a setting is impossible, a part is not registered, a loader is empty, the classes of the two data
    /// sets or of the network differ, a label has no class, or no parameter is trainable. The network is
    /// unchanged then.
    pub fn build(self) -> Result<Trainer<'a>> {
        let Self { model, registries, .. } = self;
        let missing = |what: &str, call: &str| Error::setting(what, "not given", call);
        let [train, val] =
            self.data.ok_or_else(|| missing("data", "given by `.data(&train, &val)`"))?;
        let mut config = self
            .config
            .ok_or_else(|| missing("config", "given by `.config(TrainerConfig::new(..))`"))?;
        config.validate_own()?;
        check_loaders(model, train, val)?;
        check_groups(model, &config)?;
        let communicator = self.communicator.filter(|ranks| ranks.size() > 1);
        if let Some(communicator) = &communicator {
            check_shares(communicator.as_ref(), train, val)?;
        }
        let classes = model.spec().num_classes;

        let mut told = Told::default();
        let loss = self.loss.map_or_else(|| registries.losses.build(&config.loss), Ok)?;
        loss.validate()?;
        let loss = with_counts_of(loss, train);
        loss.check_classes(classes)?;
        let target_kind = TargetKind::of(train);
        check_targets(&*loss, TargetKind::of(val))?;
        if self.train_step.is_none() {
            check_targets(&*loss, target_kind)?;
            check_counts(&*loss, train)?;
        }
        config.loss = told.part("loss", loss.describe());
        let optimizer =
            self.optimizer.map_or_else(|| registries.optimizers.build(&config.optimizer), Ok)?;
        config.optimizer = told.part("optimizer", optimizer.describe());
        for group in &mut config.param_groups {
            let Some(own) = &group.optimizer else { continue };
            match registries.optimizers.build(own)?.describe() {
                Some(described) => group.optimizer = Some(described),
                None => told.undescribed.push(format!("optimizer `{}` of a group", own.name)),
            }
        }
        let kinds = config.param_groups.iter().map(Kind::of_config);
        let own: Vec<Kind> = kinds.filter(Kind::is_own).collect();
        let optimizer = if own.is_empty() {
            optimizer
        } else {
            Box::new(Grouped::new(optimizer, own, &registries.optimizers)?)
        };
        let optimizer = match &communicator {
            Some(ranks) if config.distributed.shards_optimizer_state() => {
                Box::new(Sharded::new(optimizer, Arc::clone(ranks))?)
            }
            _ => optimizer,
        };
        let tta = config.tta.as_ref().map(|tta| registries.tta.build(tta)).transpose()?;
        if let Some(tta) = &tta {
            config.tta = Some(told.part("test-time augmentation", tta.describe()));
        }
        let schedule = match self.schedule {
            Some(schedule) => schedule,
            None => Arc::from(registries.schedules.build(&config.schedule)?),
        };
        config.schedule = told.part("schedule", schedule.describe());
        let named = config.metrics.iter().map(|metric| registries.metrics.build(metric));
        let metrics = named.chain(self.metrics.into_iter().map(Ok)).collect::<Result<Vec<_>>>()?;
        metrics.iter().try_for_each(|metric| metric.check_classes(classes))?;
        metrics.iter().try_for_each(|metric| check_metric(&**metric, TargetKind::of(val)))?;
        let mut describe = |metric: &dyn Metric| {
            told.part(&format!("metric `{}`", metric.name()), metric.describe())
        };
        config.metrics = metrics.iter().map(|metric| describe(&**metric)).collect();
        let measured = Measured::with(&metrics)?;
        schedule.monitor(&measured)?;
        config.check_monitors(&measured)?;
        let monitor = measured.monitor("monitor", &config.monitor, None)?;
        let mut parts = BTreeMap::new();
        if let Some(step) = &self.train_step {
            parts.insert("train_step".to_owned(), told.part("training step", step.describe()));
        }
        let hooks = self.hooks.map(|(hooks, description)| {
            parts.insert("hooks".to_owned(), told.part("hooks", description));
            hooks
        });

        let learners = Learners::new(model, model.parameters().trainable(), &config)?;
        let lr = new_rates(&schedule, optimizer.lr(), &config, train)?;
        let optimizer = learners.optimizer(optimizer, &config, true)?;
        let averages = config.ema.map(|ema| WeightAverages::new(ema, model)).transpose()?;
        let device = model.parameters().device();
        let is_emulated = config.precision != Precision::F32 && device.is_cpu();
        let loss_scale = (config.precision == Precision::F16)
            .then(|| config.loss_scale.map_or_else(LossScale::default, LossScale::of));
        let checks_gradients = config.check_gradients;
        let data = data_facts(train, val);
        let reading = match &communicator {
            Some(_) => Reading::AtOnce,
            None => Reading::of(&device),
        };
        let ranks = communicator
            .map(|ranks| Ranks::new(ranks, &config.distributed, &device))
            .transpose()?;
        // This is the first change. Nothing can fail after it.
        freeze(model, learners.later.as_deref().unwrap_or_default())?;
        Ok(Trainer {
            model,
            train,
            val,
            config,
            registries,
            loss,
            target_kind,
            optimizer,
            schedule,
            lr,
            metrics,
            tta,
            measured,
            monitor,
            train_step: self.train_step,
            hooks,
            parts,
            undescribed: told.undescribed,
            callbacks: self.callbacks,
            callback_states: BTreeMap::new(),
            stop: self.stop,
            folder: self.folder,
            new_folder: self.new_folder,
            best: None,
            frozen: learners.later,
            prepared: PreparedLayers::new(),
            averages,
            loss_scale,
            position: Position::at_epoch(1, 0),
            history: History::default(),
            gradients: Vec::new(),
            data,
            forgiven: 0,
            unread: Unread::new(reading),
            unfinished: Unfinished::default(),
            // The CPU emulates half precision by conversions that are not ops of the network.
            slow_backward: is_emulated.then_some(true),
            capture: StepCapture::new(),
            checks_gradients,
            ranks,
            waiting: None,
        })
    }

    /// Builds the trainer and runs it.
    ///
    /// # Errors
    /// As [`TrainerBuilder::build`] and [`Trainer::run`].
    pub fn run(self) -> Result<TrainingResult> {
        self.build()?.run()
    }
}

/// Notes which parts have no description.
#[derive(Default)]
struct Told {
    undescribed: Vec<String>,
}

impl Told {
    fn part(&mut self, part: &str, description: Option<Description>) -> Description {
        description.unwrap_or_else(|| {
            self.undescribed.push(part.to_owned());
            undescribed()
        })
    }
}
