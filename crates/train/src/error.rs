//! What can go wrong while a network is trained, evaluated, saved and resumed.

use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while a network is trained, evaluated, saved and resumed.
///
/// Each message says what is wrong, where, and, if known, what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting has an impossible value.
    #[error("`{setting}` is {value}; it must be {expected}")]
    InvalidSetting {
        /// Its name as in a recipe, such as `optimizer.lr`.
        setting: String,
        /// The value given.
        value: String,
        /// What is possible.
        expected: String,
    },

    /// A trainable parameter got no gradient in its first step, so it would never be trained.
    #[error(
        "the trainable parameter `{parameter}` got no gradient: the loss does not depend on it, or \
         an operation cuts its gradient; freeze it if that is meant"
    )]
    MissingGradient {
        /// Its path.
        parameter: String,
    },

    /// A parameter stopped being finite in an optimizer's step.
    #[error("the parameter `{parameter}` is not finite after the step; lower the learning rate")]
    NotFinite {
        /// Its path.
        parameter: String,
    },

    /// The loss or a parameter became NaN or infinite. Nothing of it was saved.
    #[error(
        "training diverged in epoch {epoch}, batch {batch}: {what} at learning rate {lr:?}{}; \
         lower the learning rate, or set `grad_clip_norm`; saved checkpoints are untouched",
        first_parameter(parameter)
    )]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// Batch in the epoch, from 1.
        batch: usize,
        /// What was not finite: `the loss is NaN`.
        what: String,
        /// Learning rate of the step.
        lr: f64,
        /// The first parameter whose values or gradient are not finite, if it is one; on a GPU, the
        /// first whose values the step made so.
        parameter: Option<String>,
    },

    /// A device has too little memory. Nothing of the step was saved.
    #[error("the memory of {device} is too small {}; saved checkpoints are untouched", smaller(*batch_size))]
    OutOfMemory {
        /// The device, such as `cuda:0`.
        device: String,
        /// Pictures in a batch.
        batch_size: usize,
        /// What the device said.
        source: Box<Error>,
    },

    /// Every parameter is frozen.
    #[error("no parameter of the network is trainable; unfreeze at least its head")]
    NothingToTrain,

    /// A loader yields no batch.
    #[error(
        "there is no batch of {split} pictures; check the folder, `batch_size` and `drop_last`"
    )]
    NoBatches {
        /// `training` or `validation`.
        split: &'static str,
    },

    /// The network has another number of outputs than the data set has classes.
    #[error("the network has {outputs} outputs but there are {classes} classes")]
    ClassCount {
        /// Width of the logits.
        outputs: usize,
        /// Number of class names.
        classes: usize,
    },

    /// The operating system refused to read or write a file or folder.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },

    /// No space was left for a file; what was there before is intact.
    #[error(
        "no space left to write `{}`: {needed} bytes are needed; free some space and resume, the \
         file as last written is intact",
        path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A name cannot be that of a run.
    #[error("`{name}` cannot name a run; use letters, digits, `-`, `_` and `.`")]
    RunName {
        /// The name.
        name: String,
    },

    /// There is no run to go on with.
    #[error("there is no run in `{}`; start one first", folder.display())]
    NoRun {
        /// Where it was looked for.
        folder: PathBuf,
    },

    /// A file is not a checkpoint.
    #[error(
        "`{}` is no checkpoint of candle-vision: its header has no model and classes; plain \
         weights are given as the weights of a new run",
        path.display()
    )]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },

    /// A checkpoint is cut short or damaged.
    #[error("`{}` is damaged or cut short: {problem}; use another checkpoint of the run", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },

    /// A table of a run's measurements is cut short or damaged.
    #[error("`{}` line {line} is damaged or cut short; remove that line to read the others", path.display())]
    DamagedTable {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },

    /// A checkpoint was written in a newer form.
    #[error("`{}` has checkpoint format {found}, this program reads up to {known}; update it", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known.
        known: u32,
    },

    /// A checkpoint is of another network.
    #[error("`{}` is a checkpoint of {found}, expected {expected}", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// Its architecture and classes.
        found: String,
        /// Those asked for.
        expected: String,
    },

    /// The tensors of a checkpoint do not fit the network it names.
    #[error("cannot load the weights of `{}`", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: candle_core::Error,
    },

    /// A checkpoint holds a model but not the state of a run.
    #[error("`{}` has no training state; resume from `last.safetensors`", path.display())]
    NothingToResume {
        /// The file.
        path: PathBuf,
    },

    /// The run that is to be resumed is at its end.
    #[error("the run of `{}` is finished after {epochs} epochs ({reason}); start a new run", path.display())]
    Finished {
        /// The checkpoint.
        path: PathBuf,
        /// Epochs that were trained.
        epochs: usize,
        /// Why it ended.
        reason: crate::StopReason,
    },

    /// A run would not go on as it began.
    #[error("cannot resume from `{}`: {what} is {found} here, {expected} there; \
         resume with the settings the run began with, or start a new run", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: String,
        /// Its value now.
        found: String,
        /// Its value in the checkpoint.
        expected: String,
    },

    /// A tensor that a run saved for its resumption does not fit.
    #[error("saved state `{name}` {problem}; it was saved by another optimizer or network")]
    SavedState {
        /// Name of the tensor.
        name: String,
        /// What does not fit.
        problem: String,
    },

    /// A callback failed.
    #[error("{what} failed")]
    Callback {
        /// What the callback was doing: `writing curves.png`.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A picture or data set cannot be read.
    #[error(transparent)]
    Data(#[from] candle_vision_data::Error),

    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Wraps the error of a callback; `what` says what it was doing.
    pub fn callback(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Callback { what: what.into(), source: source.into() }
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

fn first_parameter(parameter: &Option<String>) -> String {
    parameter.as_ref().map_or(String::new(), |path| format!(", first seen in `{path}`"))
}

fn smaller(batch_size: usize) -> String {
    if batch_size <= 1 {
        return "for one picture; take a smaller network or smaller pictures".to_owned();
    }
    let half = batch_size / 2;
    format!("for batches of {batch_size} pictures; make `batch_size` smaller, {half} for instance")
}

/// Fails with the setting's name unless `valid` holds.
pub(crate) fn require(
    valid: bool,
    setting: &str,
    value: impl std::fmt::Display,
    expected: &str,
) -> Result<()> {
    if valid { Ok(()) } else { Err(Error::setting(setting, value, expected)) }
}
