//! Whether the values after a step are finite. On a GPU the answer is read only when it is asked for.

use candle_core::{DType, Result, Tensor};

/// Whether the values after a step are finite.
///
/// On the CPU the answer is known at once. On another device the step may not even have started when this
/// value is returned. Reading the answer waits for the step.
#[derive(Debug)]
pub struct Finite(State);

#[derive(Debug)]
enum State {
    Known(Option<usize>),
    /// One number per update, 0 if all its new values are finite.
    OnDevice(Tensor),
}

impl Finite {
    pub(crate) fn known(first_not_finite: Option<usize>) -> Self {
        Self(State::Known(first_not_finite))
    }

    /// `flags`: `[updates]`, of any number type. A flag is 0 if all new values of its update are finite.
    /// Otherwise it is any other value, even NaN.
    pub(crate) fn on_device(flags: Tensor) -> Self {
        Self(State::OnDevice(flags))
    }

    /// The same answer in memory of its own. The device copies it in the order of its work.
    ///
    /// # Errors
    /// If the device fails.
    pub fn copied(&self) -> Result<Self> {
        Ok(Self(match &self.0 {
            State::Known(first) => State::Known(*first),
            State::OnDevice(flags) => State::OnDevice(flags.copy()?),
        }))
    }

    /// The index of the first update, from 0, that produced a NaN or an infinity.
    ///
    /// # Errors
    /// The device's error, if the step or one before it failed.
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
