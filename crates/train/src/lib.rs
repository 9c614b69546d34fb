//! A trainer for candle image classifiers: optimizers, schedules, callbacks, checkpoints and exact
//! resume.
//!
//! | module | what |
//! |---|---|
//! | [`Trainer`], [`TrainerConfig`] | trains a network from the first epoch to the last |
//! | [`evaluate()`], [`Evaluation`], [`metrics`] | how often a network is right, and where it is wrong |
//! | [`optim`] | optimizers over groups of parameters, with PyTorch's arithmetic |
//! | [`schedule`] | learning rates epoch by epoch, with PyTorch's values |
//! | [`loss`] | what is made small: cross entropy with label smoothing and class weights, or your own |
//! | [`Parts`] | registries of optimizers, schedules, losses and metrics by name; add your own |
//! | [`EmaConfig`] | running averages of the weights, validated and kept in their place |
//! | [`Callback`], [`Event`] | how others follow a run: nothing is printed here |
//! | [`DeviceUpload`] | how a loader's images come to a card |
//! | [`Checkpoint`], [`RunFolder`] | what a run leaves behind, written so that a kill loses nothing |
//!
//! # Mixed precision
//! [`TrainerConfig::precision`](TrainerConfig) chooses the number type of feature maps and products.
//! Parameters, their gradients as the optimizer gets them, what it remembers, batch norm, the loss and
//! checkpoints are in `f32` in every run;
//! [`Precision`](candle_vision_models::Precision) has the whole list. With `f16` the loss is scaled
//! as PyTorch's `GradScaler` does, and the scale is part of the last checkpoint.
//!
//! # When the host waits
//! On a GPU, losses, counts and whether values are finite are left on the device and read in groups:
//! after as many steps as take a quarter of a second (at most 16), at the end of an epoch, before
//! anything is saved, and when the run is to end. So records and events come later than on a CPU, where each step is read at
//! once; they are the same. Two settings wait once in each step, because the step depends on a number:
//! `grad_clip_norm` and the precision `f16`.
//!
//! It knows networks through [`Model`](candle_vision_models::Model) and data sets through
//! [`DataLoader`](candle_vision_data::DataLoader), no particular one of either. See [`Trainer`] for
//! an example.

mod atomic_file;
mod callback;
mod checkpoint;
mod config;
mod environment;
mod error;
mod evaluate;
mod freeze;
mod history_file;
mod loaders;
pub mod loss;
mod loss_scale;
pub mod metrics;
mod monitor;
pub mod optim;
mod out_of_memory;
mod parts;
mod record;
mod recorded;
mod run_folder;
mod run_lock;
pub mod schedule;
mod session;
mod skipping;
mod train_step;
mod trainer;
mod training_state;
mod training_step;
mod unread;
mod upload;
mod weight_averages;

pub use atomic_file::write_atomically;
pub use callback::{Callback, Control, Event, StopReason};
pub use candle_vision_registry::Description;
pub use checkpoint::{Checkpoint, CheckpointMetadata, FORMAT_VERSION};
pub use config::{EarlyStopConfig, EmaConfig, FreezeConfig, ParamGroupConfig, TrainerConfig};
pub use error::{Error, Result};
pub use evaluate::{Answers, Evaluation, Evaluator, Prediction, evaluate};
pub use loss::Mean;
pub use monitor::{Measured, Mode, Monitor};
pub use parts::{PartEntry, PartTable, Parts};
pub use record::{BatchRecord, EpochRecord, History};
pub use run_folder::RunFolder;
pub use train_step::{StepOutput, TrainStep};
pub use trainer::{Trainer, TrainerBuilder, TrainingResult};
pub use upload::DeviceUpload;

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
