//! Forward pass and loss of a training step, for a loss that needs more than logits and labels.

use std::collections::BTreeMap;

use candle_core::Tensor;
use candle_vision_data::Batch;
use candle_vision_models::{Model, Pass};
use candle_vision_registry::Description;

use crate::Result;
use crate::loss::no_state;

/// Forward pass and loss of a training step, for a loss that needs more than logits and labels: several views
/// of a batch, a second network, a penalty on the weights. A closure is one, too.
///
/// # Example
/// Cross entropy and a penalty on large logits:
/// ```
/// use candle_vision_data::Batch;
/// use candle_vision_models::{Model, Pass};
/// use candle_vision_train::loss::{CrossEntropy, Loss};
/// use candle_vision_train::{Result, StepOutput, TrainStep};
///
/// fn take(_: impl TrainStep) {}
///
/// take(|model: &dyn Model, batch: &Batch, pass: &mut Pass<'_>| -> Result<StepOutput> {
///     let logits = model.forward(&batch.images, pass)?;
///     let penalty = (logits.sqr()?.mean_all()? * 1e-3)?;
///     let loss = (CrossEntropy::new().loss(&logits, &batch.labels)? + penalty)?;
///     Ok(StepOutput { loss, logits: Some(logits) })
/// });
/// ```
pub trait TrainStep: Send {
    /// The loss of a batch, and the logits if there are any.
    ///
    /// # Errors
    /// If an operation fails.
    fn run(&mut self, model: &dyn Model, batch: &Batch, pass: &mut Pass<'_>) -> Result<StepOutput>;

    /// Name and settings. A run whose step has none cannot be resumed.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// Tensors that change while training, by name, for a step that has such.
    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    /// Takes back what [`TrainStep::state`] gave.
    ///
    /// # Errors
    /// If a tensor is missing or does not fit.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        no_state(state)
    }
}

/// What a [`TrainStep`] came to.
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// A scalar that gradients flow from.
    pub loss: Tensor,
    /// `[batch, classes]`, by which the training accuracy is counted. Without them it is NaN.
    pub logits: Option<Tensor>,
}

impl<F> TrainStep for F
where
    F: FnMut(&dyn Model, &Batch, &mut Pass<'_>) -> Result<StepOutput> + Send,
{
    fn run(&mut self, model: &dyn Model, batch: &Batch, pass: &mut Pass<'_>) -> Result<StepOutput> {
        self(model, batch, pass)
    }
}
