//! Training steps that a CUDA device repeats from a graph.
//!
//! A step asks the device for some hundred small pieces of work. For small images, asking takes longer than doing it.
//! So after a few plain steps of the same form, a step is captured once. Then each step copies its batch to where the
//! graph reads it, sends the optimizer's new numbers, and launches the graph. The results are the same, bit for bit.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::AuxiliaryOutputs;
use candle_vision_ops::{Captured, GradScale, Repetition, Turn, backward, backward_from};
use candle_vision_registry::first_line;

use crate::loss_scale::LossScale;
use crate::optim::{Optimizer, Updated};
use crate::training_step::{Found, NotFinite, Right, Step};
use crate::{Error, Result};

/// Number of plain steps of the same form before one is captured. They load kernels, choose algorithms and make what the
/// optimizer keeps.
const PLAIN_STEPS: usize = 3;

/// Whether steps are captured, and what was.
#[derive(Debug)]
pub(crate) struct StepCapture {
    repetition: Repetition<CapturedStep>,
    /// Why steps are not captured, until it was reported.
    reason: Option<String>,
    /// Number of steps that a graph took.
    pub(crate) steps: usize,
}

impl StepCapture {
    pub(crate) fn new() -> Self {
        Self { repetition: Repetition::after(PLAIN_STEPS), reason: None, steps: 0 }
    }

    /// Forgets what was captured, because the next steps are others.
    pub(crate) fn reset(&mut self) {
        self.repetition.reset();
    }

    /// Why steps are not captured. It is told once.
    pub(crate) fn take_reason(&mut self) -> Option<String> {
        self.reason.take()
    }

    /// Takes the step from a graph. `None` if it has to be a plain one this time. `obstacle` is why this run's steps
    /// cannot be captured.
    pub(crate) fn run(
        &mut self,
        step: &Step<'_>,
        batch: &Batch,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
        obstacle: Option<&str>,
    ) -> Result<Option<Result<Found, NotFinite>>> {
        match self.repetition.turn(&batch.images) {
            Turn::Plain => Ok(None),
            Turn::Capture => {
                let is_other = !optimizer.is_capturable();
                let of_optimizer = is_other.then_some("the optimizer has operations of its own");
                let captured = match obstacle.or(of_optimizer) {
                    Some(obstacle) => Err(obstacle.to_owned()),
                    None => CapturedStep::new(step, batch, optimizer, loss_scale.as_deref())
                        .map_err(|error| first_line(&error)),
                };
                match captured {
                    Ok(captured) => {
                        self.steps += 1;
                        let found = captured.found(step, batch, optimizer, loss_scale)?;
                        self.repetition.keep(&batch.images, captured);
                        Ok(Some(found))
                    }
                    Err(reason) => {
                        self.refuse(reason);
                        Ok(None)
                    }
                }
            }
            Turn::Repeat(captured) => {
                captured.prepare(step, batch, loss_scale.as_deref())?;
                let mut was_counted = false;
                if let Err(error) = captured.launch_with(step, optimizer, &mut was_counted) {
                    // As when memory runs out.
                    if was_counted {
                        optimizer.take_back_step();
                    }
                    self.refuse(first_line(&error));
                    return Ok(None);
                }
                self.steps += 1;
                captured.found(step, batch, optimizer, loss_scale).map(Some)
            }
        }
    }

    fn refuse(&mut self, reason: String) {
        self.repetition.refuse();
        self.reason = Some(reason);
    }
}

/// A step in a graph, with the tensors that it reads and writes.
#[derive(Debug)]
struct CapturedStep {
    // The results lie in the graph's memory, so they are dropped before it.
    results: Results,
    work: Captured,
    inputs: Inputs,
}

/// What a step reads besides the network.
#[derive(Debug)]
struct Inputs {
    /// `[batch, height, width, channels]`.
    images: Tensor,
    labels: Tensor,
    /// `[batch, classes]`, if the batches of the run have targets.
    targets: Option<Tensor>,
    /// `[1]`: what the loss is multiplied by.
    loss_scale: Option<Tensor>,
}

#[derive(Debug)]
struct Results {
    loss: Tensor,
    logits: Tensor,
    updated: Updated,
    grads: Grads,
    scale: Option<GradScale>,
}

/// The gradients that the graph computes. The optimizer asks which there are.
struct Grads(GradStore);

impl std::fmt::Debug for Grads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grads")
    }
}

impl CapturedStep {
    /// Captures the step and takes it with `batch`.
    fn new(
        step: &Step<'_>,
        batch: &Batch,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&LossScale>,
    ) -> Result<Self> {
        let device = batch.images.device();
        // Steps may have been skipped so far.
        optimizer.make_state()?;
        let inputs = Inputs {
            images: in_order(batch)?.copy()?,
            labels: batch.labels.copy()?,
            targets: batch.targets.as_ref().map(Tensor::copy).transpose()?,
            loss_scale: loss_scale.map(|scale| one_number(scale, device)).transpose()?,
        };
        // If something fails later, the step was not taken.
        let mut was_counted = false;
        let captured =
            Captured::new(device, || capture(step, &inputs, optimizer, &mut was_counted));
        if captured.is_err() && was_counted {
            optimizer.take_back_step();
        }
        let (results, work) = captured?;
        Ok(Self { results, work, inputs })
    }

    /// Lays out what the next step reads.
    fn prepare(
        &mut self,
        step: &Step<'_>,
        batch: &Batch,
        loss_scale: Option<&LossScale>,
    ) -> Result<()> {
        let Inputs { images, labels, targets, loss_scale: scale } = &self.inputs;
        images.slice_set(&in_order(batch)?, 0, 0)?;
        labels.slice_set(&batch.labels, 0, 0)?;
        if let (Some(place), Some(targets)) = (targets, &batch.targets) {
            place.slice_set(&targets.contiguous()?, 0, 0)?;
        }
        if let (Some(place), Some(loss_scale)) = (scale, loss_scale) {
            place.slice_set(&one_number(loss_scale, place.device())?, 0, 0)?;
        }
        Ok(self.work.draw_from(step.pass().generator())?)
    }

    /// Takes another step.
    fn launch_with(
        &mut self,
        step: &Step<'_>,
        optimizer: &mut dyn Optimizer,
        was_counted: &mut bool,
    ) -> Result<()> {
        let Results { grads, scale, .. } = &self.results;
        self.work.launch_with(|| {
            // What it returns is empty: the graph writes the flags.
            drop(step.update_by(&grads.0, scale.as_ref(), optimizer)?);
            *was_counted = true;
            Ok(())
        })
    }

    /// Copies of the results, which the next launch overwrites.
    fn found(
        &self,
        step: &Step<'_>,
        batch: &Batch,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
    ) -> Result<Result<Found, NotFinite>> {
        let Results { loss, logits, updated, grads, scale } = &self.results;
        let mut found = Found {
            loss: loss.copy()?,
            logits: Some(logits.copy()?),
            right: Right::of(batch, step.target_kind)?,
            updated: Some(updated.copied()?),
            foreign_op: None,
        };
        if let (Some(loss_scale), Some(scale)) = (loss_scale, scale) {
            let (factor, applies) = (loss_scale.factor(), scale.factor()?.is_some());
            loss_scale.update(applies);
            if !applies {
                optimizer.take_back_step();
                found.updated = None;
                if let Err(cause) = step.check_scale(loss_scale, factor, &grads.0)? {
                    return Ok(Err(cause));
                }
            }
        }
        Ok(Ok(found))
    }
}

fn one_number(scale: &LossScale, device: &Device) -> Result<Tensor> {
    Ok(Tensor::new(&[scale.factor() as f32], device)?)
}

/// The images in the order of their memory.
fn in_order(batch: &Batch) -> Result<Tensor> {
    let images = batch.images.permute((0, 2, 3, 1))?;
    if !images.is_contiguous() {
        return Err(candle_core::Error::Msg("the images are not channels-last".to_owned()).into());
    }
    Ok(images)
}

/// The work of a step, as `Step::run` does it.
fn capture(
    step: &Step<'_>,
    inputs: &Inputs,
    optimizer: &mut dyn Optimizer,
    was_counted: &mut bool,
) -> Result<Results> {
    let mut pass = step.pass().with_kernels_in_order(step.model.parameters())?;
    let images = inputs.images.permute((0, 3, 1, 2))?;
    let outputs = step.model.forward_auxiliary(&images, &mut pass);
    // Looked at first: sending what was drawn may be what failed.
    if pass.generator().get_word_pos() != u128::from(Captured::drawn_words()) {
        // The numbers would be the same in each repetition.
        let reason = "a layer draws its random numbers on the host";
        return Err(Error::from(candle_core::Error::Msg(reason.to_owned())));
    }
    let AuxiliaryOutputs { logits, auxiliary } = outputs?;
    let loss = step.loss_of(&logits, &auxiliary, &inputs.labels, inputs.targets.as_ref())?;
    let loss_scale = inputs.loss_scale.as_ref().map(|scale| scale.reshape(())).transpose()?;
    let grads = match &loss_scale {
        None => backward(&loss)?,
        Some(scale) => backward_from(&loss, &scale.to_dtype(loss.dtype())?)?,
    };
    let scale = step.grad_scale(&grads, loss_scale.as_ref())?;
    let updated = step.update_by(&grads, scale.as_ref(), optimizer)?;
    *was_counted = true;
    let (loss, logits) = (loss.detach(), logits.detach());
    Ok(Results { loss, logits, updated, grads: Grads(grads), scale })
}
