//! Training steps that a CUDA device repeats from a graph.
//!
//! A step asks the device for some hundred small pieces of work. For small images, asking takes longer than doing it.
//! So after a few plain steps of the same form, a step is captured once. Then each step copies its batch to where the
//! graph reads it, sends the optimizer's new numbers, and launches the graph. The results are the same, bit for bit.
//!
//! Where several batches make a step, one graph does the pass over a batch, and another one the update by the sums. Where
//! several processes train together, the sums between their cards are a part of the graph. All of them take a step from
//! graphs, or none does.

mod graph;

use candle_core::backprop::GradStore;
use candle_vision_data::Batch;
use candle_vision_ops::{Repetition, Turn, cuda_graphs};
use candle_vision_registry::as_reason;

use crate::Result;
use crate::accumulation::Accumulated;
use crate::loss_scale::LossScale;
use crate::optim::Optimizer;
use crate::ranks::Ranks;
use crate::training_step::{Found, NotFinite, Step};
use graph::Graph;

/// Number of plain passes of the same form before one is captured. They load kernels, choose algorithms and make what the
/// optimizer keeps.
const PLAIN_STEPS: usize = 3;

/// Whether steps are captured, and what was.
#[derive(Debug)]
pub(crate) struct StepCapture {
    repetition: Repetition<Graph>,
    /// Why steps are not captured, until it was reported.
    reason: Option<String>,
    /// Why this process captures no steps, until all of them know.
    untold: Option<String>,
    /// Whether all processes know that no step is captured.
    is_over: bool,
    /// Number of steps that a graph took.
    pub(crate) steps: usize,
}

/// What is left of a batch's gradients.
pub(crate) enum Left {
    /// Nothing: the step was taken.
    Taken,
    /// Those of the step as far as it has come. After its last batch they are those of all ranks.
    Gradients(GradStore),
    /// A graph has added them up.
    Sums(Accumulated),
}

/// The results of a batch, or the value that is not finite.
pub(crate) type Ran = Result<(Found, Left), NotFinite>;

/// What a process would do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Plan {
    Plain,
    Capture,
    Repeat,
    /// Repeat the pass, and capture the update.
    Close,
    /// A plain step, now and later.
    Never,
}

impl StepCapture {
    pub(crate) fn new() -> Self {
        let repetition = Repetition::after(PLAIN_STEPS);
        Self { repetition, reason: None, untold: None, is_over: false, steps: 0 }
    }

    /// Forgets what was captured, because the next steps are others.
    pub(crate) fn reset(&mut self) {
        self.repetition.reset();
    }

    /// Why steps are not captured. It is told once.
    pub(crate) fn take_reason(&mut self) -> Option<String> {
        self.reason.take()
    }

    /// Takes plain steps always, for a reason that other processes may not have. They hear of it.
    pub(crate) fn stay_plain(&mut self, step: &Step<'_>, reason: &str) -> Result<()> {
        if meeting(step).is_some() && !self.is_over {
            self.untold = Some(reason.to_owned());
            self.is_agreed(step, Plan::Never)?;
        }
        Ok(())
    }

    /// Takes the batch of a step, of which there is `so_far`, from a graph. `None` if it has to be a plain one this time.
    /// `obstacle` is why this run's steps cannot be captured.
    pub(crate) fn run(
        &mut self,
        step: &Step<'_>,
        batch: &Batch,
        so_far: &Accumulated,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
        obstacle: Option<&str>,
    ) -> Result<Option<Ran>> {
        if step.accumulates && step.is_last && so_far.is_empty() {
            // Its gradients lie in another order than sums, and so would the terms of their norm.
            return Ok(None);
        }
        let plan = match self.repetition.turn(&batch.images) {
            _ if !cuda_graphs() => Plan::Never,
            Turn::Plain => Plan::Plain,
            // The sums of a step's first batches lie elsewhere.
            Turn::Capture if step.accumulates && step.is_last => Plan::Plain,
            Turn::Capture => Plan::Capture,
            Turn::Repeat(graph) if !graph.fits(so_far) => Plan::Plain,
            Turn::Repeat(graph) if step.accumulates && step.is_last && !graph.closes() => {
                Plan::Close
            }
            Turn::Repeat(_) => Plan::Repeat,
        };
        if !self.is_agreed(step, plan)? {
            return Ok(None);
        }
        match plan {
            Plan::Plain | Plan::Never => Ok(None),
            Plan::Capture => self.capture(step, batch, so_far, optimizer, loss_scale, obstacle),
            Plan::Repeat | Plan::Close => self.repeat(step, batch, so_far, optimizer, loss_scale),
        }
    }

    fn capture(
        &mut self,
        step: &Step<'_>,
        batch: &Batch,
        so_far: &Accumulated,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
        obstacle: Option<&str>,
    ) -> Result<Option<Ran>> {
        let is_other = !optimizer.is_capturable();
        let of_optimizer = is_other.then_some("the optimizer has operations of its own");
        let prepared = match obstacle.or(of_optimizer) {
            Some(obstacle) => Err(obstacle.to_owned()),
            None => Graph::prepare(step, batch, so_far, optimizer, loss_scale.as_deref())
                .map_err(|error| as_reason(&error)),
        };
        let others = first_reason(meeting(step), prepared.as_ref().err())?;
        let graph = match (prepared, others) {
            (Ok(prepared), None) => prepared.launch().inspect_err(|_| take_back(step, optimizer)),
            (Ok(_), Some(reason)) => {
                take_back(step, optimizer);
                return Ok(self.refuse(step, reason));
            }
            (Err(own), others) => return Ok(self.refuse(step, others.unwrap_or(own))),
        };
        let graph = match (graph, meeting(step)) {
            (Ok(graph), _) => graph,
            // The cards of the others have begun with it.
            (Err(error), Some(_)) => return Err(error),
            (Err(error), None) => return Ok(self.refuse(step, as_reason(&error))),
        };
        graph.after_launch(step)?;
        self.steps += usize::from(step.is_last);
        let ran = graph.found(step, batch, optimizer, loss_scale)?;
        self.repetition.keep(&batch.images, graph);
        Ok(Some(ran))
    }

    fn repeat(
        &mut self,
        step: &Step<'_>,
        batch: &Batch,
        so_far: &Accumulated,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
    ) -> Result<Option<Ran>> {
        let Some(graph) = self.repetition.captured() else { return Ok(None) };
        graph.take_inputs(step, batch, so_far, loss_scale.as_deref())?;
        let mut closing = None;
        if step.accumulates && step.is_last && !graph.closes() {
            let prepared = graph.prepare_closing(step, optimizer).map_err(|e| as_reason(&e));
            match (first_reason(meeting(step), prepared.as_ref().err())?, prepared) {
                (None, Ok(prepared)) => closing = Some(prepared),
                (Some(reason), Ok(_)) => {
                    optimizer.take_back_step();
                    return Ok(self.refuse(step, reason));
                }
                (others, Err(own)) => return Ok(self.refuse(step, others.unwrap_or(own))),
            }
        }
        let mut was_counted = closing.is_some();
        if let Err(error) = graph.launch(step, optimizer, &mut was_counted) {
            if was_counted {
                optimizer.take_back_step();
            }
            if meeting(step).is_some() {
                return Err(error);
            }
            // As when memory runs out.
            return Ok(self.refuse(step, as_reason(&error)));
        }
        if step.accumulates && step.is_last {
            let closed = graph.close(step, optimizer, closing, &mut was_counted);
            if let Err(error) = closed {
                if was_counted {
                    optimizer.take_back_step();
                }
                if meeting(step).is_some() {
                    return Err(error);
                }
                let found = graph.found_of_part(step, batch)?;
                self.refuse(step, as_reason(&error));
                return Ok(Some(Ok(found)));
            }
        }
        graph.after_launch(step)?;
        self.steps += usize::from(step.is_last);
        graph.found(step, batch, optimizer, loss_scale).map(Some)
    }

    /// Whether all processes, if there are several, plan the same for a step.
    fn is_agreed(&mut self, step: &Step<'_>, plan: Plan) -> Result<bool> {
        let Some(ranks) = meeting(step) else { return Ok(true) };
        if self.is_over {
            return Ok(false);
        }
        let own = self.untold.take();
        let plan = if own.is_some() { Plan::Never } else { plan };
        let said = ranks.said(plan as u8, own.as_deref().unwrap_or_default())?;
        let never = said.iter().enumerate().find(|(_, (word, _))| *word == Plan::Never as u8);
        if let Some((rank, (_, reason))) = never {
            self.is_over = true;
            self.repetition.refuse();
            // Who switches graphs off knows why.
            self.reason = (!reason.is_empty()).then(|| of_rank(rank, reason));
        }
        Ok(said.iter().all(|(word, _)| *word == plan as u8))
    }

    /// Takes plain steps from now on. The other processes know it, or hear of it when they meet.
    fn refuse(&mut self, step: &Step<'_>, reason: String) -> Option<Ran> {
        self.repetition.refuse();
        if step.ranks.is_some_and(Ranks::have_cards) && !step.is_last {
            self.untold = Some(reason);
        } else {
            self.is_over = true;
            self.reason = Some(reason);
        }
        None
    }
}

/// The processes that agree on how they take a step, at its last batch: those that sum on their cards.
fn meeting<'s>(step: &Step<'s>) -> Option<&'s Ranks> {
    step.ranks.filter(|ranks| step.is_last && ranks.have_cards())
}

/// Why the first process cannot go on that cannot, where several agree on it.
fn first_reason(ranks: Option<&Ranks>, own: Option<&String>) -> Result<Option<String>> {
    let Some(ranks) = ranks else { return Ok(None) };
    let own = own.map(String::as_str);
    let said = ranks.said(u8::from(own.is_some()), own.unwrap_or_default())?;
    let first = said.iter().enumerate().find(|(_, (fails, _))| *fails > 0);
    Ok(first.map(|(rank, (_, reason))| of_rank(rank, reason)))
}

fn of_rank(rank: usize, reason: &str) -> String {
    format!("rank {rank}: {reason}")
}

/// Takes back what a capture counted that was not launched.
fn take_back(step: &Step<'_>, optimizer: &mut dyn Optimizer) {
    if !step.accumulates {
        optimizer.take_back_step();
    }
}
