//! Whether a step left finite values, known when it is asked for.

use candle_core::{DType, Result, Tensor};

/// Whether the values that a step left are finite.
///
/// On the CPU that is known at once. On another device the step may not even have begun when this is
/// handed out: who asks waits for it.
#[derive(Debug)]
pub struct Finite(State);

#[derive(Debug)]
enum State {
    Known(Option<usize>),
    /// One number for each update, 0 if all its new values are finite.
    OnDevice(Tensor),
}

impl Finite {
    pub(crate) fn known(first_not_finite: Option<usize>) -> Self {
        Self(State::Known(first_not_finite))
    }

    /// `flags`: `[updates]`, of any number type; 0 where all new values are finite, anything else
    /// (NaN too) where one is not.
    pub(crate) fn on_device(flags: Tensor) -> Self {
        Self(State::OnDevice(flags))
    }

    /// The first of the updates, from 0, that left a NaN or an infinity.
    ///
    /// # Errors
    /// What the device says that the step, or one before it, failed of.
    pub fn first_not_finite(&self) -> Result<Option<usize>> {
        match &self.0 {
            State::Known(first) => Ok(*first),
            State::OnDevice(flags) => {
                let flags = flags.to_dtype(DType::F64)?.to_vec1::<f64>()?;
                Ok(flags.iter().position(|&flag| flag != 0.0))
            }
        }
    }
}
