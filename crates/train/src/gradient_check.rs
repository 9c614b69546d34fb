//! Checks in the first steps of a run that every parameter that should learn gets a gradient.

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_vision_models::Parameter;
use candle_vision_ops::sum_of_squares;

use crate::training_step::scalar;
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

    /// Looks one step later than it would. The images of this step do not count, so its gradients are 0 and say nothing.
    pub(crate) fn postpone(&mut self) {
        self.first += 1;
    }

    /// Looks at the gradients of step `step`, if it is one to look at. Of a `loss` that is not finite no gradient is, which
    /// says nothing about a parameter.
    ///
    /// # Errors
    /// [`Error::NoGradient`] if parameters got none or one that is not finite, or a gradient of zero twice.
    pub(crate) fn look(
        &mut self,
        step: usize,
        learning: &[Parameter],
        gradients: &GradStore,
        loss: &Tensor,
    ) -> Result<()> {
        if !self.looks_at(step) {
            return Ok(());
        }
        let Found { missing, zero, mut not_finite } = Found::of(learning, gradients)?;
        if step == self.first {
            if !not_finite.is_empty() && !scalar(loss)?.is_finite() {
                not_finite.clear();
            }
            self.zero = zero;
            // Those of zero may still learn.
            return refuse(missing, Vec::new(), not_finite);
        }
        let before = std::mem::take(&mut self.zero);
        let again = zero.into_iter().filter(|path| before.contains(path)).collect();
        refuse(Vec::new(), again, Vec::new())
    }
}

/// Paths of parameters with gradients that are not as they should be.
#[derive(Default)]
struct Found {
    missing: Vec<String>,
    zero: Vec<String>,
    not_finite: Vec<String>,
}

impl Found {
    fn of(learning: &[Parameter], gradients: &GradStore) -> Result<Self> {
        let mut found = Self::default();
        for parameter in learning {
            let size = gradients.get(parameter.var()).map(sum_of_squares).transpose()?;
            let kind = match size {
                None => &mut found.missing,
                Some(0.0) => &mut found.zero,
                Some(size) if !size.is_finite() => &mut found.not_finite,
                Some(_) => continue,
            };
            kind.push(parameter.path().to_owned());
        }
        Ok(found)
    }
}

fn refuse(missing: Vec<String>, zero: Vec<String>, not_finite: Vec<String>) -> Result<()> {
    match [&missing, &zero, &not_finite].iter().all(|paths| paths.is_empty()) {
        true => Ok(()),
        false => Err(Error::NoGradient { missing, zero, not_finite }),
    }
}
