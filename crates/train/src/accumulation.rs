//! Gradients of several batches that make one update.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Result as TensorResult, Tensor, Var};
use candle_vision_models::Parameter;
use candle_vision_ops::{add, permute, scale};

use crate::Result;

/// What the batches so far of an update gave for the gradients of its mean loss.
#[derive(Debug)]
pub(crate) struct Accumulated {
    /// Variables with their gradients, in an order that all ranks have.
    gradients: Vec<(Tensor, Tensor)>,
    /// What they are still to be multiplied by.
    factor: f64,
    /// Where they lie, if graphs add them up.
    sums: Option<Arc<Sums>>,
}

impl Default for Accumulated {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl From<Vec<(Tensor, Tensor)>> for Accumulated {
    fn from(gradients: Vec<(Tensor, Tensor)>) -> Self {
        Self { gradients, factor: 1.0, sums: None }
    }
}

impl Accumulated {
    /// The gradients of the parameters that learn.
    pub(crate) fn of(grads: &GradStore, learning: &[Parameter]) -> Self {
        let gradients = learning.iter().filter_map(|parameter| {
            let variable = parameter.var().as_tensor();
            Some((variable.clone(), grads.get(variable)?.detach()))
        });
        Self::from(gradients.collect::<Vec<_>>())
    }

    /// What graphs have added up.
    pub(crate) fn in_place(sums: &Arc<Sums>) -> Self {
        Self { sums: Some(Arc::clone(sums)), ..Self::from(sums.gradients()) }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.gradients.is_empty()
    }

    /// The variables whose gradients are here.
    pub(crate) fn variables(&self) -> Vec<Tensor> {
        self.gradients.iter().map(|(variable, _)| variable.clone()).collect()
    }

    /// Whether it lies there.
    pub(crate) fn lies_in(&self, sums: &Arc<Sums>) -> bool {
        self.sums.as_ref().is_some_and(|own| Arc::ptr_eq(own, sums))
    }

    /// The sums as gradients of a step.
    pub(crate) fn into_gradients(self) -> Result<GradStore> {
        let mut grads = GradStore::default();
        self.add_into(&mut grads)?;
        Ok(grads)
    }

    /// Multiplies what is here.
    pub(crate) fn scale(&mut self, factor: f64) {
        self.factor *= factor;
    }

    /// What the gradients are to be multiplied by before others are added.
    pub(crate) fn factor(&self) -> f64 {
        self.factor
    }

    /// `gradient` of the variable, with what is here of it, which is taken out.
    pub(crate) fn added_to(
        &mut self,
        variable: &Tensor,
        gradient: &Tensor,
    ) -> TensorResult<Tensor> {
        let place = self.gradients.iter().position(|(of, _)| of.id() == variable.id());
        match place {
            None => Ok(gradient.clone()),
            Some(place) => {
                let sum = self.scaled(&self.gradients[place].1)?;
                self.gradients.remove(place);
                add(&sum, &gradient.detach())
            }
        }
    }

    /// Adds what is here to the gradients of another batch.
    pub(crate) fn add_into(self, grads: &mut GradStore) -> Result<()> {
        for (variable, sum) in &self.gradients {
            let sum = self.scaled(sum)?;
            let sum = match grads.get(variable) {
                None => sum,
                Some(gradient) => add(&sum, &gradient.detach())?,
            };
            grads.insert(variable, sum);
        }
        Ok(())
    }

    /// What nothing was added to.
    pub(crate) fn rest(self) -> TensorResult<Vec<(Tensor, Tensor)>> {
        let scaled = |(variable, sum): &(Tensor, Tensor)| Ok((variable.clone(), self.scaled(sum)?));
        self.gradients.iter().map(scaled).collect()
    }

    fn scaled(&self, sum: &Tensor) -> TensorResult<Tensor> {
        if self.factor == 1.0 { Ok(sum.clone()) } else { scale(sum, self.factor) }
    }
}

/// Memory in which graphs add up the gradients of several batches.
#[derive(Debug)]
pub(crate) struct Sums(Vec<(Tensor, Var)>);

impl Sums {
    /// Memory for the gradients of the parameters that learn.
    pub(crate) fn of(learning: &[Parameter]) -> Result<Self> {
        let sum = |parameter: &Parameter| {
            let variable = parameter.var().as_tensor();
            let sum = Var::zeros(variable.shape(), variable.dtype(), variable.device())?;
            Ok((variable.clone(), sum))
        };
        Ok(Self(learning.iter().map(sum).collect::<TensorResult<_>>()?))
    }

    /// The memory of these variables alone, in their order.
    pub(crate) fn only(&self, variables: &[Tensor]) -> Self {
        let of = |variable: &Tensor| Some((variable.clone(), self.get(variable)?.clone()));
        Self(variables.iter().filter_map(of).collect())
    }

    /// The memory for the gradient of a variable, if it learns.
    pub(crate) fn get(&self, variable: &Tensor) -> Option<&Var> {
        self.0.iter().find(|(of, _)| of.id() == variable.id()).map(|(_, sum)| sum)
    }

    /// Number of variables.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Variables with their sums.
    pub(crate) fn gradients(&self) -> Vec<(Tensor, Tensor)> {
        self.0.iter().map(|(of, sum)| (of.clone(), sum.as_detached_tensor())).collect()
    }

    /// Whether what was added up so far is nothing, or of the same variables.
    pub(crate) fn fit(&self, so_far: &Accumulated) -> bool {
        let is_here = |(variable, _): &(Tensor, Tensor)| self.get(variable).is_some();
        let is_whole = so_far.gradients.len() == self.len();
        so_far.is_empty() || (is_whole && so_far.gradients.iter().all(is_here))
    }

    /// Copies what was added up so far, before it is multiplied.
    pub(crate) fn copy(&self, so_far: &Accumulated) -> Result<()> {
        for (variable, sum) in &so_far.gradients {
            if let Some(place) = self.get(variable) {
                place.set(&in_order(sum)?)?;
            }
        }
        Ok(())
    }
}

/// A gradient in the order of its axes. That of a kernel may lie channels-last, and candle's copies of such tensors cannot
/// be captured.
pub(crate) fn in_order(grad: &Tensor) -> TensorResult<Tensor> {
    if grad.rank() == 4 && !grad.is_contiguous() {
        let in_memory = grad.permute([0, 2, 3, 1])?;
        if in_memory.is_contiguous() {
            return permute(&in_memory, &[0, 3, 1, 2]);
        }
    }
    grad.contiguous()
}
