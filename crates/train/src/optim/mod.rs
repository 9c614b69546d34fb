//! Optimizers with PyTorch's arithmetic: SGD, Adam, AdamW, over groups of parameters.

mod config;
mod group;
mod optimizer;
mod slot;

pub use config::OptimizerConfig;
pub use group::ParamGroup;
pub(crate) use group::is_under;
pub use optimizer::{Optimizer, Updated, grad_norm};
pub(crate) use slot::steps_key;
