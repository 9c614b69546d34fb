//! A schedule's memory from epoch to epoch.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// A schedule's memory from epoch to epoch. A checkpoint saves it.
///
/// ```
/// use candle_vision_train::schedule::Memory;
///
/// let mut memory = Memory::default();
/// let bad_epochs: usize = memory.read()?;
/// memory.write(&(bad_epochs + 1))?;
/// assert_eq!(memory.read::<usize>()?, 1);
/// # Ok::<(), candle_vision_train::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory(Value);

impl Memory {
    /// The last value written. It is the type's default if there is none.
    ///
    /// # Errors
    /// If the value has another form, for example that of another schedule.
    pub fn read<T: DeserializeOwned + Default>(&self) -> Result<T> {
        match &self.0 {
            Value::Null => Ok(T::default()),
            value => serde_json::from_value(value.clone()).map_err(|error| wrong(&error)),
        }
    }

    /// Replaces the value. Numbers that are not finite cannot be stored.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn write(&mut self, state: &impl Serialize) -> Result<()> {
        self.0 = serde_json::to_value(state).map_err(|error| wrong(&error))?;
        Ok(())
    }
}

fn wrong(error: &serde_json::Error) -> Error {
    let problem = format!("is not what the schedule remembers ({error})");
    Error::SavedState { name: "schedule".to_owned(), problem }
}
