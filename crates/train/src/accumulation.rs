//! Gradients of several batches that make one update.

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_vision_models::Parameter;
use candle_vision_ops::{add, scale};

use crate::Result;

/// What the batches so far of an update gave for the gradients of its mean loss.
#[derive(Debug, Default)]
pub(crate) struct Accumulated {
    /// Variables with their gradients, in the order of the network, so that all ranks have the same order.
    gradients: Vec<(Tensor, Tensor)>,
}

impl Accumulated {
    /// The gradients of the parameters that learn.
    pub(crate) fn of(grads: &GradStore, learning: &[Parameter]) -> Self {
        let gradients = learning.iter().filter_map(|parameter| {
            let variable = parameter.var().as_tensor();
            Some((variable.clone(), grads.get(variable)?.detach()))
        });
        Self { gradients: gradients.collect() }
    }

    /// Multiplies what is here.
    pub(crate) fn scale(&mut self, factor: f64) -> Result<()> {
        for (_, gradient) in &mut self.gradients {
            *gradient = scale(gradient, factor)?;
        }
        Ok(())
    }

    /// `gradient` of the variable, with what is here of it, which is taken out.
    pub(crate) fn added_to(
        &mut self,
        variable: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let place = self.gradients.iter().position(|(of, _)| of.id() == variable.id());
        match place {
            None => Ok(gradient.clone()),
            Some(place) => add(&self.gradients.remove(place).1, &gradient.detach()),
        }
    }

    /// Adds what is here to the gradients of another batch.
    pub(crate) fn add_into(self, grads: &mut GradStore) -> Result<()> {
        for (variable, sum) in self.gradients {
            let sum = match grads.get(&variable) {
                None => sum,
                Some(gradient) => add(&sum, &gradient.detach())?,
            };
            grads.insert(&variable, sum);
        }
        Ok(())
    }

    /// What nothing was added to.
    pub(crate) fn rest(self) -> Vec<(Tensor, Tensor)> {
        self.gradients
    }
}
