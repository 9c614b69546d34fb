//! The commands, one file per command.

pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod fetch;
pub(crate) mod inspect;
pub(crate) mod memory;
pub(crate) mod models;
pub(crate) mod parity;
pub(crate) mod predict;
pub(crate) mod probe;
pub(crate) mod report;
pub(crate) mod scale_plan;
pub(crate) mod score;
pub(crate) mod summary;
pub(crate) mod sweep;
pub(crate) mod train;
