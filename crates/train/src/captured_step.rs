//! Training steps that a CUDA device repeats from a graph.
//!
//! A step asks the device for some hundred small pieces of work. For small images, asking takes longer than doing it.
//! So after a few plain steps of the same form, a step is captured once. Then each step copies its batch to where the
//! graph reads it, sends the optimizer's new numbers, and launches the graph. The results are the same, bit for bit.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::AuxiliaryOutputs;
use candle_vision_ops::{Captured, backward, cuda_graphs};

use crate::optim::{Optimizer, Updated};
use crate::training_step::{Found, Step};
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
        obstacle: Option<&str>,
    ) -> Result<Option<Found>> {
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
                self.steps += 1;
                captured.repeat(batch, optimizer).map(Some)
            }
            // The last batch of an epoch may be smaller. The graph is kept for the next epoch.
            State::Captured(..) => Ok(None),
            State::Plain(known, steps) if *known == form && *steps >= PLAIN_STEPS => {
                match CapturedStep::new(step, batch, optimizer) {
                    Ok(mut captured) => {
                        let found = captured.first(batch)?;
                        self.steps += 1;
                        self.state = State::Captured(form, Box::new(captured));
                        Ok(Some(found))
                    }
                    Err(error) => {
                        // The driver's errors may go on with a backtrace.
                        let text = error.to_string();
                        self.refuse(text.lines().next().unwrap_or_default().to_owned());
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

    fn refuse(&mut self, reason: String) {
        self.state = State::Refused;
        self.reason = Some(reason);
    }
}

/// A step in a graph, with the tensors that it reads and writes.
#[derive(Debug)]
struct CapturedStep {
    // The results lie in the graph's memory, so they are dropped before it.
    results: Results,
    work: Captured,
    /// `[batch, height, width, channels]`.
    images: Tensor,
    labels: Tensor,
}

#[derive(Debug)]
struct Results {
    loss: Tensor,
    logits: Tensor,
    updated: Updated,
    grads: Grads,
}

/// The gradients that the graph computes. The optimizer asks which there are.
struct Grads(GradStore);

impl std::fmt::Debug for Grads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grads")
    }
}

impl CapturedStep {
    fn new(step: &Step<'_>, batch: &Batch, optimizer: &mut dyn Optimizer) -> Result<Self> {
        let device = batch.images.device().clone();
        let images = in_order(batch)?.copy()?;
        let labels = batch.labels.copy()?;
        let placed = Batch {
            images: images.permute((0, 3, 1, 2))?,
            labels: labels.clone(),
            indices: batch.indices.clone(),
        };
        // If something fails later, the step was not taken.
        let mut was_counted = false;
        let captured = capture(&device, step, &placed, optimizer, &mut was_counted);
        if captured.is_err() && was_counted {
            optimizer.take_back_step();
        }
        let (results, work) = captured?;
        Ok(Self { results, work, images, labels })
    }

    /// Takes the step that was captured.
    fn first(&mut self, batch: &Batch) -> Result<Found> {
        self.work.launch()?;
        self.found(batch)
    }

    /// Takes another step.
    fn repeat(&mut self, batch: &Batch, optimizer: &mut dyn Optimizer) -> Result<Found> {
        self.images.slice_set(&in_order(batch)?, 0, 0)?;
        self.labels.slice_set(&batch.labels, 0, 0)?;
        let grads = &self.results.grads.0;
        // What it returns is empty: the graph writes the flags.
        self.work.launch_with(|| optimizer.update(grads, 1.0).map(drop))?;
        self.found(batch)
    }

    /// Copies of the results, which the next launch overwrites.
    fn found(&self, batch: &Batch) -> Result<Found> {
        let Results { loss, logits, updated, .. } = &self.results;
        Ok(Found {
            loss: loss.copy()?,
            logits: Some(logits.copy()?),
            labels: batch.labels.clone(),
            updated: Some(updated.copied()?),
            foreign_op: None,
        })
    }
}

/// The images in the order of their memory.
fn in_order(batch: &Batch) -> Result<Tensor> {
    let images = batch.images.permute((0, 2, 3, 1))?;
    if !images.is_contiguous() {
        return Err(candle_core::Error::Msg("the images are not channels-last".to_owned()).into());
    }
    Ok(images)
}

fn capture(
    device: &Device,
    step: &Step<'_>,
    batch: &Batch,
    optimizer: &mut dyn Optimizer,
    was_counted: &mut bool,
) -> Result<(Results, Captured)> {
    Captured::new(device, || {
        let mut pass = step.pass();
        let outputs = step.model.forward_auxiliary(&batch.images, &mut pass);
        // Looked at first: sending what was drawn may be what failed.
        if pass.has_drawn() {
            // The numbers would be the same in each repetition.
            let reason = "the network draws random numbers in each step, as dropout does";
            return Err(Error::from(candle_core::Error::Msg(reason.to_owned())));
        }
        let AuxiliaryOutputs { logits, auxiliary } = outputs?;
        let loss = step.loss_of(&logits, &auxiliary, &batch.labels)?;
        let grads = backward(&loss)?;
        *was_counted = true;
        let updated = optimizer.update(&grads, 1.0)?;
        Ok(Results { loss: loss.detach(), logits: logits.detach(), updated, grads: Grads(grads) })
    })
}
