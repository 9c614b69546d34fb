//! Callbacks that follow a run. The run gives values and prints nothing.

use std::path::Path;

use candle_vision_data::Skipped;
use candle_vision_ops::ForeignOp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::gradient_norms::GradientRecord;
use crate::record::{BatchRecord, EpochRecord, History};

/// Follows a run: for progress bars, curves and event files. A closure is a callback too.
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
    /// Receives an event and returns whether the run goes on.
    ///
    /// # Errors
    /// Any failure of the callback, made by [`Error::callback`](crate::Error::callback). The run ends with
    /// that error.
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control>;

    /// The name of the callback's state in a checkpoint. A callback needs a name if its answers depend on
    /// what it has seen before. A resumed run requires a callback of this name. By default there is no name
    /// and nothing to save.
    fn name(&self) -> Option<&str> {
        None
    }

    /// The state to save, for a callback with a name.
    ///
    /// # Errors
    /// Any failure of the callback.
    fn state(&self) -> Result<Value> {
        Ok(Value::Null)
    }

    /// Restores what [`Callback::state`] returned. This happens before the run goes on.
    ///
    /// # Errors
    /// If the state is not one of this callback.
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
    /// Finish the batch, save and end. On a GPU, finish all batches that have begun.
    Stop,
}

/// Something that has just happened in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins or goes on.
    RunStart {
        /// Number of epochs of the whole run.
        epochs: usize,
        /// The epoch that is about to begin or go on, from 1. It is above 1 in a resumed run.
        first_epoch: usize,
        /// Number of training images per epoch.
        train_samples: usize,
        /// Number of validation images.
        val_samples: usize,
        /// The measurements from before, in a resumed run.
        history: &'a History,
    },
    /// An epoch begins or goes on.
    EpochStart {
        /// Epoch, from 1.
        epoch: usize,
        /// Number of epochs of the whole run.
        epochs: usize,
        /// Number of training batches per epoch.
        batches: usize,
        /// Number of this epoch's batches that are already done. It is above 0 if the run was stopped
        /// within the epoch.
        first_batch: usize,
        /// Learning rate of the epoch.
        lr: f64,
    },
    /// A training batch is done. On a GPU, several are reported at once.
    BatchEnd {
        /// Loss and learning rate of the batch.
        record: &'a BatchRecord,
        /// Number of the batch in the epoch, from 1.
        batch: usize,
        /// Number of training batches per epoch.
        batches: usize,
        /// Number of images in the batch.
        samples: usize,
        /// Fraction of correctly classified images in the epoch so far, `0.0..=1.0`. It is NaN if the
        /// training step gives no logits.
        accuracy: f64,
        /// The seconds that each of several processes waited for the others so far. Empty for one process.
        waited: &'a [f64],
    },
    /// A validation batch is done.
    ValidationBatchEnd {
        /// Number of the batch, from 1.
        batch: usize,
        /// Number of validation batches.
        batches: usize,
    },
    /// An epoch is done and saved.
    EpochEnd {
        /// Its result.
        record: &'a EpochRecord,
        /// All results so far, this one included.
        history: &'a History,
        /// Whether it is the best epoch so far, by [`TrainerConfig::monitor`](crate::TrainerConfig).
        is_best: bool,
    },
    /// The training steps of an epoch of several processes are done.
    Ranks {
        /// Epoch, from 1.
        epoch: usize,
        /// The rank that the others waited for.
        slowest: usize,
        /// Its computer.
        host: &'a str,
        /// Seconds of these steps for which this process waited for others.
        seconds: f64,
        /// Seconds that these steps took as a whole.
        of_seconds: f64,
        /// Bytes that this process handed over in them.
        bytes: u64,
        /// Number of these steps.
        steps: usize,
    },
    /// Gradients go through the memory of the hosts although processes have cards, which is slower than NCCL's way. This is
    /// reported once, when the run begins.
    GradientsThroughHost {
        /// Why.
        reason: &'a str,
    },
    /// A checkpoint was written.
    Saved {
        /// Path of the file.
        path: &'a Path,
        /// Whether it is the best checkpoint so far. Otherwise it is the last one.
        best: bool,
    },
    /// The frozen part of the network begins to learn.
    Unfrozen {
        /// First epoch in which it learns, from 1.
        epoch: usize,
        /// Learning rate of that epoch.
        lr: f64,
    },
    /// The network or its loss contains one of candle's own ops, so the whole backward pass falls back to
    /// candle's. A step takes up to 1.6 times as long. This is reported once, at the first step.
    SlowBackward {
        /// The first such op.
        op: &'a ForeignOp,
    },
    /// Steps on a CUDA device are not repeated from a graph, so the host has to ask for each piece of work. Where the
    /// device is faster than that, it stands still meanwhile. This is reported once, in the first steps.
    NotCaptured {
        /// Why.
        reason: &'a str,
    },
    /// The norms of the gradients of an epoch's first step, with
    /// [`TrainerConfig::gradient_norms`](crate::TrainerConfig).
    GradientNorms {
        /// The norms.
        record: &'a GradientRecord,
    },
    /// An image was left out because it cannot be read.
    SampleSkipped {
        /// The image and what is wrong with it.
        sample: &'a Skipped,
    },
    /// The run has ended.
    RunEnd {
        /// All results.
        history: &'a History,
        /// Why it has ended.
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
    /// It was asked from outside to stop, for example by Ctrl-C. It can be resumed.
    Interrupted,
    /// A callback asked it to stop. It can be resumed.
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
