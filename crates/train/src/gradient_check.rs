//! Checks in the first steps of a run that every parameter that should learn gets a gradient.

use candle_core::backprop::GradStore;
use candle_vision_models::Parameter;
use candle_vision_ops::sum_of_squares;

use crate::{Error, Result};

/// The steps after the first look at which gradients of zero are looked at again. A layer whose weights begin at
/// zero (the last batch norm of a residual block, a layer scale) keeps the layers before it at a gradient of zero
/// for one step, or for two where the learning rate begins at zero.
const SECOND_LOOK: usize = 2;

/// Looks at the gradients of the first step and, if some are zero, of the third.
#[derive(Debug)]
pub(crate) struct GradientCheck {
    /// The step of the first look.
    first: usize,
    /// Paths of parameters whose gradient was zero at the first look.
    zero: Vec<String>,
}

impl GradientCheck {
    /// The first look is at step `first`, counted from 1.
    pub(crate) fn at(first: usize) -> Self {
        Self { first, zero: Vec::new() }
    }

    /// Whether it looks at the gradients of step `step`.
    pub(crate) fn looks_at(&self, step: usize) -> bool {
        step == self.first || step == self.first + SECOND_LOOK && !self.zero.is_empty()
    }

    /// Looks at the gradients of step `step`, if it is one to look at.
    ///
    /// # Errors
    /// [`Error::NoGradient`] if a parameter got none, or a gradient of zero twice.
    pub(crate) fn look(
        &mut self,
        step: usize,
        learning: &[Parameter],
        gradients: &GradStore,
    ) -> Result<()> {
        if step == self.first {
            let without = |parameter: &&Parameter| gradients.get(parameter.var()).is_none();
            refuse(paths(learning.iter().filter(without)), "gets no gradient")?;
            self.zero = paths(zeros(learning, gradients)?.into_iter());
        } else if step == self.first + SECOND_LOOK && !self.zero.is_empty() {
            let again = zeros(learning, gradients)?.into_iter();
            let again =
                again.filter(|parameter| self.zero.iter().any(|zero| zero == parameter.path()));
            refuse(paths(again), "gets a gradient of zero at every step")?;
            self.zero.clear();
        }
        Ok(())
    }
}

fn paths<'a>(parameters: impl Iterator<Item = &'a Parameter>) -> Vec<String> {
    parameters.map(|parameter| parameter.path().to_owned()).collect()
}

fn zeros<'a>(learning: &'a [Parameter], gradients: &GradStore) -> Result<Vec<&'a Parameter>> {
    let mut zeros = Vec::new();
    for parameter in learning {
        if let Some(gradient) = gradients.get(parameter.var())
            && sum_of_squares(gradient)? == 0.0
        {
            zeros.push(parameter);
        }
    }
    Ok(zeros)
}

fn refuse(parameters: Vec<String>, problem: &'static str) -> Result<()> {
    if parameters.is_empty() { Ok(()) } else { Err(Error::NoGradient { parameters, problem }) }
}
