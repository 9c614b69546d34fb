//! How others follow a run: values, not prints.

use std::path::Path;

use candle_vision_data::Skipped;
use candle_vision_ops::ForeignOp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::record::{BatchRecord, EpochRecord, History};

/// Follows a run: progress bars, curves, event files. A closure is one, too.
///
/// # Example
/// ```
/// use candle_vision_train::{Callback, Control, Event, Result};
///
/// fn follow(_: impl Callback) {}
///
/// follow(|event: &Event<'_>| -> Result<Control> {
///     match event {
///         Event::EpochEnd { record, .. } if record.val_accuracy == 1.0 => Ok(Control::Stop),
///         _ => Ok(Control::Continue),
///     }
/// });
/// ```
pub trait Callback {
    /// Is told what has just happened and says whether to go on.
    ///
    /// # Errors
    /// Whatever goes wrong in it, as `Error::callback(what, source)` makes it
    /// ([`Error::callback`](crate::Error::callback)); the run ends with that error.
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control>;

    /// The name of its state in a checkpoint, for a callback whose answers depend on what it has seen before.
    /// A resumed run wants a callback of this name. By default there is nothing to save.
    fn name(&self) -> Option<&str> {
        None
    }

    /// What to save, for a callback with a name.
    ///
    /// # Errors
    /// Whatever goes wrong in it.
    fn state(&self) -> Result<Value> {
        Ok(Value::Null)
    }

    /// Takes back what [`Callback::state`] gave, before the run goes on.
    ///
    /// # Errors
    /// If it is not its own.
    fn load_state(&mut self, state: &Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

impl<F: FnMut(&Event<'_>) -> Result<Control>> Callback for F {
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control> {
        self(event)
    }
}

/// Whether a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Finish the batch, on a GPU the batches that were begun, save, and end.
    Stop,
}

/// What has just happened in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins, or goes on.
    RunStart {
        /// Epochs of the whole run.
        epochs: usize,
        /// Epoch that is about to begin or go on, from 1; above 1 in a resumed run.
        first_epoch: usize,
        /// Training images in an epoch.
        train_samples: usize,
        /// Validation images.
        val_samples: usize,
        /// What was measured before, in a resumed run.
        history: &'a History,
    },
    /// An epoch begins, or goes on.
    EpochStart {
        /// Epoch, from 1.
        epoch: usize,
        /// Epochs of the whole run.
        epochs: usize,
        /// Training batches in an epoch.
        batches: usize,
        /// Batches of it that are done already: not 0 in a run that was stopped inside an epoch.
        first_batch: usize,
        /// Learning rate of the epoch.
        lr: f64,
    },
    /// A training batch is done. On a GPU several are told of at once.
    BatchEnd {
        /// Its loss and learning rate.
        record: &'a BatchRecord,
        /// Batch in the epoch, from 1.
        batch: usize,
        /// Training batches in an epoch.
        batches: usize,
        /// Images in the batch.
        samples: usize,
        /// Fraction of the epoch's images so far that were classified right; NaN where the training step
        /// gives no logits.
        accuracy: f64,
    },
    /// A validation batch is done.
    ValidationBatchEnd {
        /// Batch, from 1.
        batch: usize,
        /// Validation batches.
        batches: usize,
    },
    /// An epoch is done and saved.
    EpochEnd {
        /// Its result.
        record: &'a EpochRecord,
        /// All results so far, this one included.
        history: &'a History,
        /// Whether it is the best so far, by [`TrainerConfig::monitor`](crate::TrainerConfig).
        is_best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// Where.
        path: &'a Path,
        /// Whether it is the best so far; otherwise it is the last.
        best: bool,
    },
    /// The frozen part of the network learns from now on.
    Unfrozen {
        /// First epoch in which it learns, from 1.
        epoch: usize,
        /// Learning rate of that epoch.
        lr: f64,
    },
    /// The network or its loss contains an op of candle's own, for which the whole backward pass is
    /// candle's: a step takes up to 1.6 times as long. Told once, at the first step.
    SlowBackward {
        /// The first such op.
        op: &'a ForeignOp,
    },
    /// An image was left out because it cannot be read.
    SampleSkipped {
        /// Which, and what is wrong with it.
        sample: &'a Skipped,
    },
    /// The run is over.
    RunEnd {
        /// All results.
        history: &'a History,
        /// Why it is over.
        reason: StopReason,
    },
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// All epochs are done.
    Completed,
    /// The validation metric stopped improving.
    EarlyStopped,
    /// It was asked to stop from outside, as by Ctrl-C; it can be resumed.
    Interrupted,
    /// A callback asked it to stop; it can be resumed.
    StoppedByCallback,
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Completed => "all epochs are done",
            Self::EarlyStopped => "stopped early",
            Self::Interrupted => "interrupted",
            Self::StoppedByCallback => "stopped by a callback",
        })
    }
}
