//! A step in graphs, with the tensors that they read and write.

use std::fmt;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::AuxiliaryOutputs;
use candle_vision_ops::{
    Captured, GradScale, PreparedWork, accumulate, backward, backward_each, backward_from,
};

use super::{Left, Ran};
use crate::accumulation::{Accumulated, Sums};
use crate::loss_scale::LossScale;
use crate::optim::{Optimizer, Updated};
use crate::training_step::{Found, Right, Step};
use crate::{Error, Result};

/// The pass over a batch, and the update: in the same graph, or in one of its own if several batches make a step.
#[derive(Debug)]
pub(super) struct Graph {
    // The results lie in the graphs' memory, so they are dropped before those.
    results: Results,
    closing: Option<(Closing, Captured)>,
    work: Captured,
    inputs: Inputs,
    /// Where the gradients of several batches are added up.
    sums: Option<Arc<Sums>>,
}

/// What a graph reads besides the network.
#[derive(Debug)]
struct Inputs {
    /// `[batch, height, width, channels]`.
    images: Tensor,
    labels: Tensor,
    /// `[batch, classes]`, if the batches of the run have targets.
    targets: Option<Tensor>,
    /// `[3]`, if there is one that is not 1.
    numbers: Option<Tensor>,
    /// What the device has of them.
    sent: Numbers,
}

/// What a batch's loss is multiplied by, the part of the batch in its step, and what the gradients so far are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Numbers {
    loss_scale: f32,
    part: f32,
    kept: f32,
}

#[derive(Debug)]
struct Results {
    loss: Tensor,
    logits: Tensor,
    /// Of a step of one batch.
    closing: Option<Closing>,
}

/// The results of an update.
#[derive(Debug)]
pub(super) struct Closing {
    updated: Updated,
    grads: Grads,
    scale: Option<GradScale>,
    /// What a launch hands over to other cards.
    bytes: u64,
}

/// The gradients of the step. The optimizer asks which there are.
struct Grads(GradStore);

impl fmt::Debug for Grads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grads")
    }
}

/// A [`Graph`] that was not launched yet.
pub(super) struct PreparedGraph {
    work: PreparedWork<Results>,
    inputs: Inputs,
    sums: Option<Arc<Sums>>,
}

impl PreparedGraph {
    /// Does what was captured.
    pub(super) fn launch(self) -> Result<Graph> {
        let Self { work, inputs, sums } = self;
        let (results, work) = work.launch()?;
        Ok(Graph { results, closing: None, work, inputs, sums })
    }
}

/// The update by the sums of several batches, captured and not launched yet.
pub(super) type PreparedClosing = PreparedWork<Closing>;

impl Graph {
    /// Captures the step of `batch`, which the optimizer counts, or the pass over it if several make a step.
    pub(super) fn prepare(
        step: &Step<'_>,
        batch: &Batch,
        so_far: &Accumulated,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&LossScale>,
    ) -> Result<PreparedGraph> {
        let device = batch.images.device();
        // Steps may have been skipped so far.
        optimizer.make_state()?;
        let inputs = Inputs::new(step, batch, so_far, loss_scale)?;
        if step.accumulates {
            let learning = step.model.parameters().trainable();
            let all = Sums::of(&learning)?;
            let sums = if so_far.is_empty() { all } else { all.only(&so_far.variables()) };
            sums.copy(so_far)?;
            let mut order = Vec::new();
            let work = Captured::prepare(device, || {
                capture_part(step, &inputs, &sums, so_far, &mut order)
            })?;
            let sums = Some(Arc::new(sums.only(&order)));
            return Ok(PreparedGraph { work, inputs, sums });
        }
        let work = counted(optimizer, |optimizer, was_counted| {
            Captured::prepare(device, || capture_step(step, &inputs, optimizer, was_counted))
        })?;
        Ok(PreparedGraph { work, inputs, sums: None })
    }

    /// Whether there is a graph of the update by the sums of several batches.
    pub(super) fn closes(&self) -> bool {
        self.closing.is_some()
    }

    /// Captures the update by the sums of several batches. The optimizer counts it.
    pub(super) fn prepare_closing(
        &self,
        step: &Step<'_>,
        optimizer: &mut dyn Optimizer,
    ) -> Result<PreparedClosing> {
        let Self { inputs, sums, .. } = self;
        let sums = sums.as_ref().map(|sums| sums.gradients()).unwrap_or_default();
        counted(optimizer, |optimizer, was_counted| {
            Captured::prepare(inputs.images.device(), || {
                let (grads, bytes) = match step.ranks {
                    Some(ranks) => ranks.captured_sums(&sums)?,
                    None => (store_of(&sums), 0),
                };
                Closing::of(step, grads, bytes, inputs, optimizer, was_counted)
            })
        })
    }

    /// Whether what was added up so far has a place here.
    pub(super) fn fits(&self, so_far: &Accumulated) -> bool {
        self.sums.as_ref().is_none_or(|sums| sums.fit(so_far))
    }

    /// Lays out what the next launch reads.
    pub(super) fn take_inputs(
        &mut self,
        step: &Step<'_>,
        batch: &Batch,
        so_far: &Accumulated,
        loss_scale: Option<&LossScale>,
    ) -> Result<()> {
        if let Some(sums) = self.sums.as_ref().filter(|sums| !so_far.lies_in(sums)) {
            sums.copy(so_far)?;
        }
        self.inputs.take(batch, Numbers::of(step, so_far, loss_scale))?;
        Ok(self.work.draw_from(step.pass().generator())?)
    }

    /// Does the pass over a batch, and takes the step if the batch is all of it.
    pub(super) fn launch(
        &mut self,
        step: &Step<'_>,
        optimizer: &mut dyn Optimizer,
        was_counted: &mut bool,
    ) -> Result<()> {
        match &self.results.closing {
            None => Ok(self.work.launch()?),
            Some(closing) => closing.launch(&mut self.work, step, optimizer, was_counted),
        }
    }

    /// Takes the step by the sums of several batches, by `prepared` if that is new.
    pub(super) fn close(
        &mut self,
        step: &Step<'_>,
        optimizer: &mut dyn Optimizer,
        prepared: Option<PreparedClosing>,
        was_counted: &mut bool,
    ) -> Result<()> {
        if let Some(prepared) = prepared {
            self.closing = Some(prepared.launch()?);
        } else if let Some((closing, work)) = &mut self.closing {
            closing.launch(work, step, optimizer, was_counted)?;
        }
        Ok(())
    }

    /// After a launch, before anybody waits for the card.
    pub(super) fn after_launch(&self, step: &Step<'_>) -> Result<()> {
        match (step.ranks, self.closing_of(step)) {
            (Some(ranks), Some(closing)) => ranks.after_launch(closing.bytes),
            _ => Ok(()),
        }
    }

    /// The update that the batch of a step ends with, if it is the last one.
    fn closing_of(&self, step: &Step<'_>) -> Option<&Closing> {
        let of_several = self.closing.as_ref().filter(|_| step.is_last).map(|(closing, _)| closing);
        self.results.closing.as_ref().or(of_several)
    }

    /// Copies of the results, which the next launch overwrites.
    pub(super) fn found(
        &self,
        step: &Step<'_>,
        batch: &Batch,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
    ) -> Result<Ran> {
        let (mut found, sums) = self.found_of_part(step, batch)?;
        let Some(closing) = self.closing_of(step) else {
            return Ok(Ok((found, sums)));
        };
        found.updated = Some(closing.updated.copied()?);
        if let (Some(loss_scale), Some(scale)) = (loss_scale, &closing.scale) {
            let (factor, applies) = (loss_scale.factor(), scale.factor()?.is_some());
            loss_scale.update(applies);
            if !applies {
                optimizer.take_back_step();
                found.updated = None;
                if let Err(cause) = step.check_scale(loss_scale, factor, &closing.grads.0)? {
                    return Ok(Err(cause));
                }
            }
        }
        Ok(Ok((found, Left::Taken)))
    }

    /// The results of the pass over a batch, without an update.
    pub(super) fn found_of_part(&self, step: &Step<'_>, batch: &Batch) -> Result<(Found, Left)> {
        let Results { loss, logits, .. } = &self.results;
        let found = Found {
            loss: loss.copy()?,
            logits: Some(logits.copy()?),
            right: Right::of(batch, step.target_kind)?,
            updated: None,
            foreign_op: None,
        };
        let sums = self.sums.as_ref().map(Accumulated::in_place).unwrap_or_default();
        Ok((found, Left::Sums(sums)))
    }
}

impl Inputs {
    fn new(
        step: &Step<'_>,
        batch: &Batch,
        so_far: &Accumulated,
        loss_scale: Option<&LossScale>,
    ) -> Result<Self> {
        let sent = Numbers::of(step, so_far, loss_scale);
        let is_several = step.accumulates || step.ranks.is_some();
        let numbers = (is_several || loss_scale.is_some())
            .then(|| sent.on_device(batch.images.device()))
            .transpose()?;
        Ok(Self {
            images: in_order(batch)?.copy()?,
            labels: batch.labels.copy()?,
            targets: batch.targets.as_ref().map(Tensor::copy).transpose()?,
            numbers,
            sent,
        })
    }

    fn take(&mut self, batch: &Batch, new: Numbers) -> Result<()> {
        let Self { images, labels, targets, numbers, sent } = self;
        images.slice_set(&in_order(batch)?, 0, 0)?;
        labels.slice_set(&batch.labels, 0, 0)?;
        if let (Some(place), Some(targets)) = (targets, &batch.targets) {
            place.slice_set(&targets.contiguous()?, 0, 0)?;
        }
        if let Some(numbers) = numbers
            && *sent != new
        {
            numbers.slice_set(&new.on_device(numbers.device())?, 0, 0)?;
            *sent = new;
        }
        Ok(())
    }

    /// One of the numbers, a scalar.
    fn number(&self, at: usize) -> Result<Option<Tensor>> {
        Ok(self.numbers.as_ref().map(|numbers| numbers.get(at)).transpose()?)
    }

    /// What the gradient of the loss is. `None` stands for 1.
    fn seed(&self, loss: &Tensor) -> Result<Option<Tensor>> {
        let (Some(of_loss), Some(part)) = (self.number(LOSS_SCALE)?, self.number(PART)?) else {
            return Ok(None);
        };
        // In the type of the loss, as a plain step multiplies them.
        let dtype = loss.dtype();
        Ok(Some((of_loss.to_dtype(dtype)? * part.to_dtype(dtype)?)?))
    }
}

const LOSS_SCALE: usize = 0;
const PART: usize = 1;
const KEPT: usize = 2;

impl Numbers {
    fn of(step: &Step<'_>, so_far: &Accumulated, loss_scale: Option<&LossScale>) -> Self {
        Self {
            loss_scale: loss_scale.map_or(1.0, |scale| scale.factor() as f32),
            part: step.part as f32,
            kept: if so_far.is_empty() { 0.0 } else { so_far.factor() as f32 },
        }
    }

    fn on_device(self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::new(&[self.loss_scale, self.part, self.kept], device)?)
    }
}

impl Closing {
    /// The update by these gradients.
    fn of(
        step: &Step<'_>,
        grads: GradStore,
        bytes: u64,
        inputs: &Inputs,
        optimizer: &mut dyn Optimizer,
        was_counted: &mut bool,
    ) -> Result<Self> {
        let loss_scale = inputs.number(LOSS_SCALE)?.filter(|_| step.scales_loss);
        let scale = step.grad_scale(&grads, loss_scale.as_ref())?;
        let updated = step.update_by(&grads, scale.as_ref(), optimizer)?;
        *was_counted = true;
        Ok(Self { updated, grads: Grads(grads), scale, bytes })
    }

    /// Takes another step.
    fn launch(
        &self,
        work: &mut Captured,
        step: &Step<'_>,
        optimizer: &mut dyn Optimizer,
        was_counted: &mut bool,
    ) -> Result<()> {
        work.launch_with(|| {
            // What it returns is empty: the graph writes the flags.
            drop(step.update_by(&self.grads.0, self.scale.as_ref(), optimizer)?);
            *was_counted = true;
            Ok(())
        })
    }
}

/// The images in the order of their memory.
fn in_order(batch: &Batch) -> Result<Tensor> {
    let images = batch.images.permute((0, 2, 3, 1))?;
    if !images.is_contiguous() {
        return Err(reason("the images are not channels-last"));
    }
    Ok(images)
}

/// Lets the optimizer take back a step that `work` counted if it fails after that.
fn counted<T>(
    optimizer: &mut dyn Optimizer,
    work: impl FnOnce(&mut dyn Optimizer, &mut bool) -> Result<T>,
) -> Result<T> {
    let mut was_counted = false;
    let done = work(optimizer, &mut was_counted);
    if done.is_err() && was_counted {
        optimizer.take_back_step();
    }
    done
}

/// The loss and the logits, as `Step::run` computes them.
fn forward(step: &Step<'_>, inputs: &Inputs) -> Result<[Tensor; 2]> {
    let mut pass = step.pass().with_kernels_in_order(step.model.parameters())?;
    let images = inputs.images.permute((0, 3, 1, 2))?;
    let outputs = step.model.forward_auxiliary(&images, &mut pass);
    // Looked at first: sending what was drawn may be what failed.
    if pass.generator().get_word_pos() != u128::from(Captured::drawn_words()) {
        // The numbers would be the same in each repetition.
        return Err(reason("a layer draws its random numbers on the host"));
    }
    let AuxiliaryOutputs { logits, auxiliary } = outputs?;
    let loss = step.loss_of(&logits, &auxiliary, &inputs.labels, inputs.targets.as_ref())?;
    // The part of a batch would be rounded in another way.
    if loss.dtype() != DType::F32 && (step.accumulates || step.ranks.is_some()) {
        return Err(reason("the loss is no f32 number"));
    }
    Ok([loss, logits])
}

/// The work of a step of one batch.
fn capture_step(
    step: &Step<'_>,
    inputs: &Inputs,
    optimizer: &mut dyn Optimizer,
    was_counted: &mut bool,
) -> Result<Results> {
    let [loss, logits] = forward(step, inputs)?;
    let (grads, bytes) = match (inputs.seed(&loss)?, step.ranks) {
        (None, _) => (backward(&loss)?, 0),
        (Some(seed), None) => (backward_from(&loss, &seed)?, 0),
        (Some(seed), Some(ranks)) => ranks.captured_backward(&loss, &seed)?,
    };
    let closing = Closing::of(step, grads, bytes, inputs, optimizer, was_counted)?;
    Ok(Results { loss: loss.detach(), logits: logits.detach(), closing: Some(closing) })
}

/// The work of one of several batches: its gradients are added to `sums`, in which there is `so_far`. Their variables go to
/// `order` as they come.
fn capture_part(
    step: &Step<'_>,
    inputs: &Inputs,
    sums: &Sums,
    so_far: &Accumulated,
    order: &mut Vec<Tensor>,
) -> Result<Results> {
    let [loss, logits] = forward(step, inputs)?;
    let seed = inputs.seed(&loss)?.ok_or_else(|| reason("there is no part of the batch"))?;
    let grads = backward_each(&loss, &seed, |variable, _| {
        if sums.get(variable).is_some() {
            order.push(variable.clone());
        }
        Ok(())
    })?;
    let learning = step.model.parameters().trainable();
    let is_new = |variable: &Tensor| grads.get(variable).is_some() && sums.get(variable).is_none();
    let others = learning.iter().any(|parameter| is_new(parameter.var()));
    if others || (!so_far.is_empty() && order.len() < sums.len()) {
        return Err(reason("the batches of a step give gradients to other parameters each time"));
    }
    let pairs =
        order.iter().filter_map(|variable| Some((sums.get(variable)?, grads.get(variable)?)));
    let kept = inputs.numbers.as_ref().ok_or_else(|| reason("there is no sum"))?;
    accumulate(&pairs.collect::<Vec<_>>(), &kept.narrow(0, KEPT, 1)?)?;
    Ok(Results { loss: loss.detach(), logits: logits.detach(), closing: None })
}

fn store_of(gradients: &[(Tensor, Tensor)]) -> GradStore {
    let mut store = GradStore::default();
    for (variable, gradient) in gradients {
        store.insert(variable, gradient.clone());
    }
    store
}

/// Why a step cannot be captured.
fn reason(text: &str) -> Error {
    candle_core::Error::Msg(text.to_owned()).into()
}
