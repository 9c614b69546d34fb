//! A constant learning rate.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{EpochEnd, Memory, Schedule};
use crate::Result;
use crate::parts::described;

/// Keeps the optimizer's learning rate for the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

impl Constant {
    /// A constant schedule.
    pub fn new() -> Self {
        Self {}
    }
}

impl Schedule for Constant {
    fn next(&self, end: &EpochEnd<'_>, _: &mut Memory) -> Result<f64> {
        Ok(end.lr)
    }

    fn describe(&self) -> Option<Description> {
        Some((*self).into())
    }
}

impl From<Constant> for Description {
    fn from(schedule: Constant) -> Self {
        described("constant", &schedule)
    }
}
