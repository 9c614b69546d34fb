//! Training steps that a CUDA device repeats from a graph.
//!
//! A step asks the device for some hundred small pieces of work. For small images, asking takes longer than doing it.
//! So after a few plain steps of the same form, a step is captured once. Then each step copies its batch to where the
//! graph reads it, sends the optimizer's new numbers, and launches the graph. The results are the same, bit for bit.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::AuxiliaryOutputs;
use candle_vision_ops::{Captured, GradScale, backward, backward_from, cuda_graphs};

use crate::loss_scale::LossScale;
use crate::optim::{Optimizer, Updated};
use crate::training_step::{Found, NotFinite, Step};
use crate::{Error, Result};

/// Number of plain steps of the same form before one is captured. They load kernels, choose algorithms and make what the
/// optimizer keeps.
const PLAIN_STEPS: usize = 3;

/// Whether steps are captured, and how far that has come.
#[derive(Debug, Default)]
pub(crate) struct StepCapture {
    state: State,
    /// Why steps are not captured, until it was reported.
    reason: Option<String>,
    /// Number of steps that a graph took.
    pub(crate) steps: usize,
}

#[derive(Debug, Default)]
enum State {
    /// Plain steps so far, all of this form.
    #[default]
    New,
    Plain(Form, usize),
    Captured(Form, Box<CapturedStep>),
    /// It is not to be tried again.
    Refused,
}

/// What must not change from step to step.
#[derive(Debug, Clone, PartialEq)]
struct Form {
    images: Vec<usize>,
    dtype: DType,
}

impl Form {
    fn of(batch: &Batch) -> Self {
        Self { images: batch.images.dims().to_vec(), dtype: batch.images.dtype() }
    }

    /// Whether it is that of an epoch's last batch, which has fewer images.
    fn is_part_of(&self, other: &Self) -> bool {
        let is_smaller = self.images.first() < other.images.first();
        is_smaller && self.images.get(1..) == other.images.get(1..) && self.dtype == other.dtype
    }
}

impl StepCapture {
    /// Forgets what was captured, because the next steps are others.
    pub(crate) fn reset(&mut self) {
        if !matches!(self.state, State::Refused) {
            self.state = State::New;
        }
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
        let device = batch.images.device();
        if !device.is_cuda() || !cuda_graphs() || matches!(self.state, State::Refused) {
            return Ok(None);
        }
        let is_other = !optimizer.is_capturable();
        let of_optimizer = is_other.then_some("the optimizer has operations of its own");
        if let Some(obstacle) = obstacle.or(of_optimizer) {
            self.refuse(obstacle.to_owned());
            return Ok(None);
        }
        let form = Form::of(batch);
        match &mut self.state {
            State::Captured(known, captured) if *known == form => {
                captured.prepare(step, batch, loss_scale.as_deref())?;
                let launched = captured.launch_with(step, optimizer);
                self.found(launched, step, batch, optimizer, loss_scale)
            }
            // The last batch of an epoch may be smaller. The graph is kept for the next epoch.
            State::Captured(..) => Ok(None),
            State::Plain(known, steps) if *known == form && *steps >= PLAIN_STEPS => {
                match CapturedStep::new(step, batch, optimizer, loss_scale.as_deref()) {
                    Ok(mut captured) => {
                        let launched = captured.work.launch();
                        self.state = State::Captured(form, Box::new(captured));
                        self.found(
                            launched.map_err(Error::from),
                            step,
                            batch,
                            optimizer,
                            loss_scale,
                        )
                    }
                    Err(error) => {
                        self.refuse(first_line(&error));
                        Ok(None)
                    }
                }
            }
            State::Plain(known, steps) if *known == form => {
                *steps += 1;
                Ok(None)
            }
            State::Plain(known, _) if form.is_part_of(known) => Ok(None),
            State::New | State::Plain(..) => {
                self.state = State::Plain(form, 1);
                Ok(None)
            }
            State::Refused => Ok(None),
        }
    }

    /// What the step that was launched has found. If the launch failed, as it does when memory runs out, steps are plain
    /// ones from now on.
    fn found(
        &mut self,
        launched: Result<()>,
        step: &Step<'_>,
        batch: &Batch,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
    ) -> Result<Option<Result<Found, NotFinite>>> {
        let State::Captured(_, captured) = &mut self.state else { return Ok(None) };
        if let Err(error) = launched {
            optimizer.take_back_step();
            if let State::Captured(_, captured) = std::mem::take(&mut self.state) {
                captured.give_up();
            }
            self.refuse(first_line(&error));
            return Ok(None);
        }
        captured.was_launched = true;
        self.steps += 1;
        captured.found(step, batch, optimizer, loss_scale).map(Some)
    }

    fn refuse(&mut self, reason: String) {
        self.state = State::Refused;
        self.reason = Some(reason);
    }
}

/// The driver's errors may go on with a backtrace.
fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// A step in a graph, with the tensors that it reads and writes.
#[derive(Debug)]
struct CapturedStep {
    // The results lie in the graph's memory, so they are dropped before it.
    results: Results,
    work: Captured,
    was_launched: bool,
    inputs: Inputs,
}

/// What a step reads besides the network.
#[derive(Debug)]
struct Inputs {
    /// `[batch, height, width, channels]`.
    images: Tensor,
    labels: Tensor,
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
    /// Captures the step that it takes with `batch`.
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
        Ok(Self { results, work, was_launched: false, inputs })
    }

    /// Lays out what the next step reads.
    fn prepare(
        &mut self,
        step: &Step<'_>,
        batch: &Batch,
        loss_scale: Option<&LossScale>,
    ) -> Result<()> {
        let Inputs { images, labels, loss_scale: scale } = &self.inputs;
        images.slice_set(&in_order(batch)?, 0, 0)?;
        labels.slice_set(&batch.labels, 0, 0)?;
        if let (Some(place), Some(loss_scale)) = (scale, loss_scale) {
            place.slice_set(&one_number(loss_scale, place.device())?, 0, 0)?;
        }
        Ok(self.work.draw_from(step.pass().generator())?)
    }

    /// Takes another step.
    fn launch_with(&mut self, step: &Step<'_>, optimizer: &mut dyn Optimizer) -> Result<()> {
        let Results { grads, scale, .. } = &self.results;
        // What it returns is empty: the graph writes the flags.
        self.work.launch_with(|| step.update_by(&grads.0, scale.as_ref(), optimizer).map(drop))
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
            labels: batch.labels.clone(),
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

    /// Frees everything.
    fn give_up(self) {
        if !self.was_launched {
            // The device has not given them their memory yet, so it cannot take it back.
            std::mem::forget(self.results);
        }
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
    let mut pass = step.pass();
    let images = inputs.images.permute((0, 3, 1, 2))?;
    let outputs = step.model.forward_auxiliary(&images, &mut pass);
    // Looked at first: sending what was drawn may be what failed.
    if pass.generator().get_word_pos() != u128::from(Captured::drawn_words()) {
        // The numbers would be the same in each repetition.
        let reason = "a layer draws its random numbers on the host";
        return Err(Error::from(candle_core::Error::Msg(reason.to_owned())));
    }
    let AuxiliaryOutputs { logits, auxiliary } = outputs?;
    let loss = step.loss_of(&logits, &auxiliary, &inputs.labels)?;
    let loss_scale = inputs.loss_scale.as_ref().map(|scale| scale.reshape(())).transpose()?;
    let grads = match &loss_scale {
        None => backward(&loss)?,
        Some(scale) => backward_from(&loss, &scale.to_dtype(loss.dtype())?)?,
    };
    let scale = step.grad_scale(&grads, loss_scale.as_ref())?;
    *was_counted = true;
    let updated = step.update_by(&grads, scale.as_ref(), optimizer)?;
    let (loss, logits) = (loss.detach(), logits.detach());
    Ok(Results { loss, logits, updated, grads: Grads(grads), scale })
}
