//! Errors of training, evaluating, saving and resuming.

mod phrases;

use std::path::{Path, PathBuf};

use candle_vision_data::Skipped;
use candle_vision_registry::{SettingsError, TableError, one_line};
use phrases::{
    bad_gradients, early_stop, first_parameter, larger, ranks, remedy_for_targets, smaller,
    which_batch, why_it_must_not_differ,
};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong while a network is trained, evaluated, saved and resumed.
///
/// Each message says what is wrong and where. It names a remedy if one is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has an impossible value.
    #[error(
        "`{setting}` is {value}; it must be {expected}",
        setting = shown(setting), value = shown(value), expected = shown(expected)
    )]
    InvalidSetting {
        /// Its name in a recipe, such as `optimizer.lr`.
        setting: String,
        /// The value given.
        value: String,
        /// The possible values.
        expected: String,
    },

    /// A trainable parameter got no gradient in its first step, so it would never learn.
    #[error(
        "the trainable parameter `{parameter}` got no gradient: the loss does not depend on it, or \
         an operation cuts its gradient; freeze it if that is meant",
        parameter = shown(parameter)
    )]
    MissingGradient {
        /// Its path.
        parameter: String,
    },

    /// A parameter became NaN or infinite in an optimizer step.
    #[error(
        "the parameter `{parameter}` is not finite after the step; lower the learning rate",
        parameter = shown(parameter)
    )]
    NotFinite {
        /// Its path.
        parameter: String,
    },

    /// The loss or a parameter became NaN or infinite. Nothing of that step was saved.
    #[error(
        "training diverged in epoch {epoch}, batch {batch}: {what} at learning rate {lr:?}{}; \
         lower the learning rate, or set `grad_clip_norm`; saved checkpoints are untouched",
        first_parameter(parameter), what = shown(what)
    )]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// Number of the batch in the epoch, from 1.
        batch: usize,
        /// The value that was not finite, for example `the loss is NaN`.
        what: String,
        /// Learning rate of the step.
        lr: f64,
        /// The first parameter with values or a gradient that are not finite, if there is one. On a GPU it
        /// is the first parameter that got such values in the step.
        parameter: Option<String>,
    },

    /// Parameters that should learn get no gradient that they could learn from.
    #[error("{}", bad_gradients(missing, zero, not_finite))]
    NoGradient {
        /// Paths of those that get none.
        missing: Vec<String>,
        /// Of those that get a gradient of zero in several passes.
        zero: Vec<String>,
        /// Of those that get NaN or infinity from a finite loss.
        not_finite: Vec<String>,
    },

    /// A device has too little memory. Nothing of the step was saved.
    #[error(
        "the memory of {device} is too small {}; saved checkpoints are untouched",
        smaller(*batch_size), device = shown(device)
    )]
    OutOfMemory {
        /// The device, such as `cuda:0`.
        device: String,
        /// Number of images per batch.
        batch_size: usize,
        /// The device's error.
        source: Box<Error>,
    },

    /// Every parameter is frozen.
    #[error("no parameter of the network is trainable; unfreeze at least its head")]
    NothingToTrain,

    /// All images of a class were left out.
    #[error(
        "the class `{class}` has lost all its images ({count}): they cannot be read, the last of \
         them `{}` because {}; mend them, or remove the class",
        last.name, last.reason, class = shown(class)
    )]
    ClassSkipped {
        /// Its name.
        class: String,
        /// Number of images in the class.
        count: usize,
        /// One of them.
        last: Skipped,
    },

    /// More than a tenth of a run's images were left out.
    #[error(
        "{skipped} of {total} images cannot be read, more than a tenth: the first is `{}` \
         because {}; mend or remove them",
        first.name, first.reason
    )]
    TooManySkipped {
        /// Number of images left out before the run ended.
        skipped: usize,
        /// Number of images for training and validation.
        total: usize,
        /// One of them.
        first: Skipped,
    },

    /// A loader yields no batch.
    #[error("there is no batch of {split} images; check the folder, `batch_size` and `drop_last`")]
    NoBatches {
        /// `training` or `validation`.
        split: &'static str,
    },

    /// A loss or a metric does not take the targets of the data.
    #[error(
        "{part} takes one label for each image, but the targets are {targets}; {}",
        remedy_for_targets(part)
    )]
    Targets {
        /// The part, such as ``the loss `cross_entropy` ``.
        part: String,
        /// What the targets are.
        targets: String,
    },

    /// The number of outputs of the network differs from the number of classes of the data set.
    #[error("the network has {outputs} outputs but there are {classes} classes")]
    ClassCount {
        /// Width of the logits.
        outputs: usize,
        /// Number of class names.
        classes: usize,
    },

    /// The operating system refused to read or write a file or folder.
    #[error("cannot {action} `{}`", shown(path.display()))]
    Io {
        /// The operation: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// The disk has no space left for a file. The old file is intact.
    #[error(
        "no space left to write `{}`: {needed} bytes are needed; free some space and resume, the \
         file as last written is intact",
        shown(path.display())
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// The name is not allowed for a run.
    #[error(
        "`{name}` cannot name a run; use letters, digits, `-`, `_` and `.`",
        name = shown(name)
    )]
    RunName {
        /// The name.
        name: String,
    },

    /// There is no run to resume.
    #[error("there is no run in `{}`; start one first", shown(folder.display()))]
    NoRun {
        /// The folder that was searched.
        folder: PathBuf,
    },

    /// Another process, or another trainer of this process, writes to the run.
    #[error(
        "the run in `{}` is being trained by another process; wait for it or stop it, then resume",
        shown(folder.display())
    )]
    RunInUse {
        /// The run's folder.
        folder: PathBuf,
    },

    /// A file is not a checkpoint.
    #[error(
        "`{}` is no checkpoint of candle-vision: its header has no model and classes; plain \
         weights are given as the weights of a new run",
        shown(path.display())
    )]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },

    /// A checkpoint is truncated or damaged.
    #[error(
        "`{}` is damaged or cut short: {problem}; use another checkpoint of the run",
        shown(path.display()), problem = shown(problem)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },

    /// A table of a run's measurements is truncated or damaged.
    #[error(
        "`{}` line {line} is damaged or cut short; remove that line to read the others",
        shown(path.display())
    )]
    DamagedTable {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },

    /// A checkpoint has a newer format.
    #[error(
        "`{}` has checkpoint format {found}, this program reads up to {known}; update it",
        shown(path.display())
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest format version that is known.
        known: u32,
    },

    /// A checkpoint holds another network.
    #[error(
        "`{}` is a checkpoint of {found}, expected {expected}",
        shown(path.display()), found = shown(found), expected = shown(expected)
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// Its architecture and classes.
        found: String,
        /// The architecture and classes that were asked for.
        expected: String,
    },

    /// The tensors of a checkpoint do not fit the network that it names.
    #[error("cannot load the weights of `{}`", shown(path.display()))]
    Weights {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: candle_core::Error,
    },

    /// A checkpoint holds a model but not the state of a run.
    #[error("`{}` has no training state; resume from `last.safetensors`", shown(path.display()))]
    NothingToResume {
        /// The file.
        path: PathBuf,
    },

    /// The run to resume is already complete.
    #[error(
        "the run of `{}` is finished after {epochs} epochs ({reason}); start a new run, or resume \
         it with more `epochs`{}",
        shown(path.display()), early_stop(*reason)
    )]
    Finished {
        /// The checkpoint.
        path: PathBuf,
        /// Number of epochs that were trained.
        epochs: usize,
        /// Why it ended.
        reason: crate::StopReason,
    },

    /// The settings or data differ from those of the run, so it would not go on as it began.
    #[error(
        "cannot resume from `{}`: {what} is {found} here, {expected} there, and {}; only \
         `epochs`, `early_stop`, workers and device may change: resume with the settings the run \
         began with, or start a new run",
        shown(path.display()),
        why_it_must_not_differ(what),
        what = shown(what),
        found = shown(found),
        expected = shown(expected)
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What differs: `` `seed` ``, `` `fingerprint of the training data` ``.
        what: String,
        /// Its value now.
        found: String,
        /// Its value in the checkpoint.
        expected: String,
    },

    /// A run whose ranks each read files of their own was stopped within an epoch and goes on with another number of ranks.
    #[error(
        "cannot resume from `{}` with {}: the run was stopped within epoch {epoch}, in which each rank reads files of its own, \
         so others would read samples twice or not at all; resume with {}, and with any number from the end of that epoch on",
        shown(path.display()),
        ranks(found),
        ranks(expected)
    )]
    RanksWithinEpoch {
        /// The checkpoint.
        path: PathBuf,
        /// The epoch, from 1.
        epoch: usize,
        /// Number of ranks now.
        found: String,
        /// Number of ranks until then.
        expected: String,
    },

    /// A checkpoint has a setting that this version of the program does not know.
    #[error(
        "`{}` was written by version {version}, with settings that version {} does not know: \
         {problem}; use the version that wrote it, or start a new run from its weights",
        shown(path.display()),
        env!("CARGO_PKG_VERSION"),
        version = shown(version),
        problem = shown(problem)
    )]
    UnknownSettings {
        /// The file.
        path: PathBuf,
        /// The version that wrote it.
        version: String,
        /// The first setting that is not known.
        problem: String,
    },

    /// A network cannot be trained on a batch of one sample.
    #[error(
        "the network cannot be trained on a batch of one sample, and {}: batch norm needs more than \
         one value of each channel; set {}",
        which_batch(*samples, *batch_size, *ranks), larger(*samples, *batch_size, *ranks)
    )]
    SingleSample {
        /// Number of training samples. `None` if the batch has one sample because images were left out.
        samples: Option<usize>,
        /// Number of samples in a full batch, of each process.
        batch_size: usize,
        /// Number of processes that share a batch.
        ranks: usize,
        /// The network's error.
        source: Box<candle_core::Error>,
    },

    /// An output of the network for a sample is NaN or infinite.
    #[error(
        "the network's output for sample {index} (`{name}`) is {value}: its weights are damaged or \
         diverged, or too large for this precision; use another checkpoint or `f32`",
        name = shown(name)
    )]
    NotFiniteOutput {
        /// Index of the sample in its data set. It is the first such sample of the batch.
        index: usize,
        /// Path or other name of the sample.
        name: String,
        /// The value: `NaN`, `inf` or `-inf`.
        value: f64,
    },

    /// A tensor that a run saved to be resumed does not fit.
    #[error(
        "saved state `{name}` {problem}; it was saved by another optimizer or network",
        name = shown(name), problem = shown(problem)
    )]
    SavedState {
        /// Name of the tensor.
        name: String,
        /// What does not fit.
        problem: String,
    },

    /// A run has no best network yet.
    #[error(
        "the run ended before its first epoch, so it has no best network; train at least one epoch"
    )]
    NoBest,

    /// A run to resume has a part without a description, so the part cannot be compared.
    #[error(
        "cannot resume from `{}`: the {part} of the run has no description, so nobody can say whether it is \
         the same now; have its `describe` give name and settings, or start a new run",
        shown(path.display()), part = shown(part)
    )]
    NotDescribed {
        /// The checkpoint.
        path: PathBuf,
        /// The kind of part: `optimizer`, `loss`, `hooks`.
        part: String,
    },

    /// A run to resume has the saved state of a callback, but no callback of that name is present.
    #[error(
        "the run has the state of a callback `{name}`, and none of that name is here; add it, or start a new run",
        name = shown(name)
    )]
    MissingCallback {
        /// Its name.
        name: String,
    },

    /// A part is not registered, or two parts have the same name.
    #[error(transparent)]
    PartTable(#[from] TableError),

    /// The settings of a part are not valid.
    #[error(transparent)]
    Settings(#[from] SettingsError),

    /// A callback failed.
    #[error("{what} failed", what = shown(what))]
    Callback {
        /// The callback's task: `writing curves.png`. See [`Error::callback`].
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// An image or data set cannot be read.
    #[error(transparent)]
    Data(#[from] candle_vision_data::Error),

    /// Processes that train one network together were started with other settings or data.
    #[error(
        "rank {rank} differs from rank 0 in `{what}`: {found} instead of {expected}; start all with the same",
        what = shown(what), found = shown(found), expected = shown(expected)
    )]
    RanksDiffer {
        /// The first rank that differs.
        rank: usize,
        /// What differs.
        what: String,
        /// What that rank has.
        found: String,
        /// What rank 0 has.
        expected: String,
    },

    /// Processes that train one network together cannot reach each other.
    #[error(transparent)]
    Ranks(#[from] candle_vision_distributed::Error),

    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// The error of a callback that failed.
    ///
    /// - `what`: the callback's task, for example `writing curves.png`. The message is `{what} failed`.
    /// - `source`: the cause, any error or a text. It is kept as the [`source`](std::error::Error::source).
    ///
    /// # Example
    /// ```
    /// use std::error::Error as _;
    ///
    /// use candle_vision_train::{Callback, Control, Error, Event, Result};
    ///
    /// struct Note(std::path::PathBuf);
    ///
    /// impl Callback for Note {
    ///     fn on_event(&mut self, event: &Event<'_>) -> Result<Control> {
    ///         if let Event::EpochEnd { record, .. } = event {
    ///             std::fs::write(&self.0, record.val_loss.to_string())
    ///                 .map_err(|error| Error::callback("writing the loss", error))?;
    ///         }
    ///         Ok(Control::Continue)
    ///     }
    /// }
    ///
    /// let error = Error::callback("writing the loss", std::io::Error::other("no ink"));
    /// assert_eq!(error.to_string(), "writing the loss failed");
    /// assert_eq!(error.source().map(ToString::to_string), Some("no ink".to_owned()));
    /// ```
    pub fn callback(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Callback { what: what.into(), source: source.into() }
    }

    /// A loss that does not take such targets.
    pub(crate) fn targets(
        loss: Option<candle_vision_registry::Description>,
        targets: impl std::fmt::Display,
    ) -> Self {
        let part = loss.map_or_else(
            || "the loss, which has no name,".to_owned(),
            |loss| format!("the loss `{}`", loss.name),
        );
        Self::Targets { part, targets: targets.to_string() }
    }

    pub(crate) fn setting(
        setting: impl Into<String>,
        value: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        let (setting, expected) = (setting.into(), expected.into());
        Self::InvalidSetting { setting, value: value.to_string(), expected }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}

/// A text or path from outside as a part of a message of one line.
fn shown(text: impl std::fmt::Display) -> String {
    one_line(&text.to_string()).into_owned()
}

/// Returns an error that names the setting unless `valid` holds.
pub(crate) fn require(
    valid: bool,
    setting: &str,
    value: impl std::fmt::Display,
    expected: &str,
) -> Result<()> {
    if valid { Ok(()) } else { Err(Error::setting(setting, value, expected)) }
}
