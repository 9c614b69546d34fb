//! The forward pass and loss of a training step, for a loss that needs more than logits and labels.

use std::collections::BTreeMap;

use candle_core::Tensor;
use candle_vision_data::Batch;
use candle_vision_models::{Model, Pass};
use candle_vision_registry::Description;

use crate::Result;
use crate::loss::no_state;

/// The forward pass and loss of a training step, for a loss that needs more than logits and labels.
/// Examples are several views of a batch, a second network, or a penalty on the weights. A closure is a
/// training step too.
///
/// # Example
/// Cross entropy with a penalty on large logits:
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
    /// Computes the loss of a batch, and the logits if there are any.
    ///
    /// Before the first step it is called one to three times with a few images, to see whether all parameters get a gradient
    /// ([`TrainerConfig::check_gradients`](crate::TrainerConfig)). Then the [state](TrainStep::state) is put back.
    ///
    /// If the loader mixes images or an image may have several labels, the loss is that of [`Batch::targets`]
    /// ([`Loss::loss_of_targets`](crate::loss::Loss::loss_of_targets)) in place of the labels.
    ///
    /// # Errors
    /// If an operation fails.
    fn run(&mut self, model: &dyn Model, batch: &Batch, pass: &mut Pass<'_>) -> Result<StepOutput>;

    /// Name and settings. A run with a step without a description cannot be resumed.
    fn describe(&self) -> Option<Description> {
        None
    }

    /// The tensors that change during training, by name, if the step has any.
    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    /// Restores what [`TrainStep::state`] returned.
    ///
    /// # Errors
    /// If a tensor is missing or does not fit.
    fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        no_state(state)
    }
}

/// The result of a [`TrainStep`].
#[derive(Debug, Clone)]
pub struct StepOutput {
    /// A scalar that allows a backward pass.
    pub loss: Tensor,
    /// `[batch, classes]`. The training accuracy is computed from them. Without them it is NaN.
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
