//! A trainer for candle image classifiers, with optimizers, schedules, callbacks, checkpoints and exact
//! resume.
//!
//! | module | what |
//! |---|---|
//! | [`Trainer`], [`TrainerConfig`] | trains a network from the first epoch to the last |
//! | [`evaluate()`], [`Evaluation`], [`metrics`] | how often a network is right, and where it is wrong |
//! | [`optim`] | optimizers over groups of parameters, with PyTorch's arithmetic |
//! | [`schedule`] | learning rates epoch by epoch, with PyTorch's values |
//! | [`loss`] | the training loss: cross entropy with label smoothing and class weights, or your own |
//! | [`tta`] | views of each image whose answers are averaged, in evaluation and prediction |
//! | [`Parts`] | registries of optimizers, schedules, losses, metrics and test-time augmentations by name; add your own |
//! | [`LinearProbe`] | a linear layer on a frozen network's features |
//! | [`EmaConfig`] | running averages of the weights, which are validated and saved instead of the weights |
//! | [`Callback`], [`Event`] | values for those who follow a run; nothing is printed here |
//! | [`GradientRecord`] | norms of gradients by parameter, for a look at deep networks |
//! | [`TrainerBuilder::communicator`], [`DistributedConfig`] | a run of several processes |
//! | [`backward_across_ranks`] | gradients that several processes sum, for a loop of one's own |
//! | [`memory_in_use`], [`peak_memory`] | what training takes, as the system tells it |
//! | [`DeviceUpload`] | upload of a loader's images to a GPU |
//! | [`keep_on_device()`] | a data set in a GPU's memory, where batches are made of it |
//! | [`Checkpoint`], [`RunFolder`] | the files of a run, written so that a kill loses nothing |
//!
//! # Mixed precision
//! [`TrainerConfig::precision`](TrainerConfig) chooses the number type of feature maps and matrix products.
//! These stay in `f32` in every run: parameters, the gradients that the optimizer gets, the optimizer's
//! state, batch norm, the loss and checkpoints. [`Precision`](candle_vision_models::Precision) has the
//! whole list. With `f16` the loss is scaled as PyTorch's `GradScaler` does. The scale is part of the last
//! checkpoint.
//!
//! # When the host waits
//! On a GPU, losses, counts and the checks for finite values stay on the device. The host reads them in
//! groups: after as many steps as take a quarter of a second (at most 16), at the end of an epoch, before
//! anything is saved, and when the run is about to end. On a CPU it reads them after each step. So records
//! and events come later on a GPU, but they are the same. The precision `f16` makes the host wait once in each
//! step, because it depends on the gradients whether the step is taken. So does `grad_clip_norm` if the
//! optimizer is none that a device can repeat ([`is_capturable`](optim::Optimizer::is_capturable)).
//!
//! This crate knows networks only through [`Model`](candle_vision_models::Model) and data sets only through
//! [`DataLoader`](candle_vision_data::DataLoader). See [`Trainer`] for an example.

mod accumulation;
mod atomic_file;
mod callback;
mod captured_step;
mod checkpoint;
mod config;
mod environment;
mod error;
mod evaluate;
mod freeze;
mod gradient_norms;
mod history_file;
mod linear_probe;
mod loaders;
pub mod loss;
mod loss_scale;
mod memory_in_use;
pub mod metrics;
mod monitor;
mod on_device;
pub mod optim;
mod out_of_memory;
mod parts;
mod ranks;
mod record;
mod recorded;
mod run_folder;
mod run_lock;
pub mod schedule;
mod session;
mod skipping;
mod tensor_file;
mod train_step;
mod trainer;
mod training_state;
mod training_step;
pub mod tta;
mod unread;
mod upload;
mod weight_averages;

pub use atomic_file::write_atomically;
pub use callback::{Callback, Control, Event, StopReason};
pub use candle_vision_registry::Description;
pub use checkpoint::{Checkpoint, CheckpointMetadata, FORMAT_VERSION};
pub use config::{
    Collectives, DistributedBatchNorm, DistributedConfig, EarlyStopConfig, EmaConfig, FreezeConfig,
    GradientType, OptimizerState, ParamGroupConfig, TrainerConfig,
};
pub use error::{Error, Result};
pub use evaluate::{Answers, Evaluation, Evaluator, LabelSets, Prediction, evaluate};
pub use gradient_norms::{GradientNorm, GradientRecord};
pub use linear_probe::{LinearProbe, LinearProbeResult};
pub use loss::Mean;
pub use memory_in_use::{memory_in_use, peak_memory};
pub use monitor::{Measured, Mode, Monitor};
pub use on_device::{StoredImages, keep_on_device};
pub use out_of_memory::is_out_of_memory;
pub use parts::{PartEntry, PartTable, Parts};
pub use ranks::backward_across_ranks;
pub use record::{BatchRecord, EpochRecord, History};
pub use run_folder::RunFolder;
pub use train_step::{StepOutput, TrainStep};
pub use trainer::{Trainer, TrainerBuilder, TrainingResult};
pub use upload::DeviceUpload;

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
