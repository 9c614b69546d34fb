//! One step of training, and the explanation of its failures.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::{
    AuxiliaryOutputs, FrozenBatchNorm, LayerHook, Model, Parameter, Pass, Precision, PreparedLayers,
};
use candle_vision_ops::{
    ForeignOp, GradScale, add, backward, backward_from, scale, sum_of_squares, why_not_direct,
};

use crate::Result;
use crate::accumulation::Accumulated;
use crate::gradient_norms::{GradientNorm, norms_of};
use crate::loss::{Loss, TargetKind};
use crate::loss_scale::LossScale;
use crate::metrics::{count_exact, count_in_top_k};
use crate::optim::{Optimizer, Updated};
use crate::ranks::Ranks;
use crate::train_step::{StepOutput, TrainStep};

/// Keeps the seeds of ranks apart: an odd number without pattern.
const APART: u64 = 0x9E37_79B9_7F4A_7C15;

/// Everything that a step needs besides its batch.
pub(crate) struct Step<'a> {
    pub(crate) model: &'a dyn Model,
    pub(crate) loss: &'a dyn Loss,
    pub(crate) target_kind: TargetKind,
    pub(crate) precision: Precision,
    pub(crate) frozen_batch_norm: FrozenBatchNorm,
    /// Prepared frozen layers.
    pub(crate) prepared: &'a PreparedLayers,
    pub(crate) grad_clip_norm: Option<f64>,
    pub(crate) seed: u64,
    /// Number of the step in the whole run.
    pub(crate) number: usize,
    /// Number of the forward pass in the whole run. Its random numbers depend on it. It is that of the step, unless a step
    /// has several batches.
    pub(crate) pass_number: usize,
    /// Whether to check the loss before anything is changed, which makes the host wait. Otherwise a loss
    /// that is not finite is noticed when the [`Found`] is read.
    pub(crate) looks_first: bool,
    /// Whether to check if one of candle's own ops slows `backward` down.
    pub(crate) looks_at_graph: bool,
    /// The processes that take this step together, each on its part of the batch.
    pub(crate) ranks: Option<&'a Ranks>,
    /// The part that the batch of this process has in the mean over the step, `0.0..=1.0`.
    pub(crate) part: f64,
    /// Whether the step has no batch after this one.
    pub(crate) is_last: bool,
    /// Whether steps have several batches.
    pub(crate) accumulates: bool,
    /// Whether the loss is multiplied by a scale.
    pub(crate) scales_loss: bool,
}

/// The results of a step: numbers that a GPU may still be computing.
pub(crate) struct Found {
    pub(crate) loss: Tensor,
    /// `None` if the step gave no logits.
    pub(crate) logits: Option<Tensor>,
    pub(crate) right: Right,
    /// `None` if the step was skipped because its scaled gradients were not finite, and for batches before a step's last.
    pub(crate) updated: Option<Updated>,
    /// The op that slows `backward` down, if this was checked.
    pub(crate) foreign_op: Option<ForeignOp>,
}

/// What the logits of a step are compared with for the training accuracy.
#[derive(Debug, Clone)]
pub(crate) enum Right {
    /// The class of each image, `[batch]`, `u32`. For a mixed image it is the one with the largest share, as in
    /// torchvision's reference training; ties go to the lower class.
    Class(Tensor),
    /// The labels of each image, `[batch, classes]`: 0.5 or more where they are there.
    Labels(Tensor),
}

impl Right {
    pub(crate) fn of(batch: &Batch, kind: TargetKind) -> Result<Self> {
        Ok(match (&batch.targets, kind) {
            (Some(targets), TargetKind::SeveralLabels) => Self::Labels(targets.clone()),
            (Some(targets), _) => Self::Class(targets.argmax(1)?),
            (None, _) => Self::Class(batch.labels.clone()),
        })
    }

    /// Number of images that are classified right.
    fn count(&self, logits: &Tensor) -> Result<usize> {
        match self {
            Self::Class(labels) => count_in_top_k(logits, labels, 1),
            Self::Labels(targets) => count_exact(logits, targets),
        }
    }
}

/// The results of a step after reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    /// Number of images that were classified correctly, if that is known.
    pub(crate) correct: Option<usize>,
}

/// Which value of a step was not finite.
pub(crate) struct NotFinite {
    pub(crate) what: String,
    pub(crate) parameter: Option<String>,
}

impl Step<'_> {
    /// Forward and backward: the gradients of the step as far as it has come, `accumulated` included. After a step's last
    /// batch they are those of all ranks. `Ok(Err(_))` if it is already known that a value is not finite.
    pub(crate) fn run(
        &self,
        batch: &Batch,
        accumulated: Accumulated,
        loss_scale: Option<f64>,
        own: Option<&mut (dyn TrainStep + '_)>,
        hook: Option<&mut dyn LayerHook>,
    ) -> Result<Result<(Found, GradStore), NotFinite>> {
        let mut pass = self.pass();
        // A step of somebody's own may change parameters between two forward passes.
        if own.is_none() {
            pass = pass.with_kernels_in_order(self.model.parameters())?;
        }
        let mut pass = match hook {
            Some(hook) => pass.with_hooks(hook),
            None => pass,
        };
        let StepOutput { loss, logits } = match own {
            Some(own) => own.run(self.model, batch, &mut pass)?,
            None => {
                let AuxiliaryOutputs { logits, auxiliary } =
                    self.model.forward_auxiliary(&batch.images, &mut pass)?;
                let loss =
                    self.loss_of(&logits, &auxiliary, &batch.labels, batch.targets.as_ref())?;
                StepOutput { loss, logits: Some(logits) }
            }
        };
        if self.looks_first {
            let value = scalar(&loss)?;
            if !value.is_finite() {
                let parameter = self.first_not_finite(&loss)?;
                return Ok(Err(NotFinite { what: format!("the loss is {value}"), parameter }));
            }
        }
        let foreign_op = if self.looks_at_graph { why_not_direct(&loss) } else { None };
        let grads = self.backward(&loss, &seed_of(&loss, loss_scale)?, accumulated)?;
        // Values that are kept must not keep the graph alive.
        let (loss, logits) = (loss.detach(), logits.map(|logits| logits.detach()));
        let right = Right::of(batch, self.target_kind)?;
        Ok(Ok((Found { loss, logits, right, updated: None, foreign_op }, grads)))
    }

    /// The step's pass, without a hook.
    pub(crate) fn pass(&self) -> Pass<'_> {
        // Other images on another rank: they get other random numbers.
        let of_rank = self.ranks.map_or(0, |ranks| ranks.rank() as u64);
        let seed = self.seed ^ of_rank.wrapping_mul(APART);
        let pass = Pass::train_step(seed, self.pass_number);
        pass.synchronised(self.ranks.and_then(Ranks::batch_norm))
            .precision(self.precision)
            .frozen_batch_norm(self.frozen_batch_norm)
            .with_prepared(self.prepared)
    }

    /// The loss of the logits, and of auxiliary ones by their weights. If there are targets, they take the place of the
    /// labels.
    pub(crate) fn loss_of(
        &self,
        logits: &Tensor,
        auxiliary: &[(Tensor, f64)],
        labels: &Tensor,
        targets: Option<&Tensor>,
    ) -> Result<Tensor> {
        let of = |logits: &Tensor| match targets {
            None => self.loss.loss(logits, labels),
            Some(targets) => self.loss.loss_of_targets(logits, targets),
        };
        let mut loss = of(logits)?;
        for (logits, weight) in auxiliary {
            loss = add(&loss, &scale(&of(logits)?, *weight)?)?;
        }
        Ok(loss)
    }

    /// The gradients of `loss * seed` times the part of this batch, and what is accumulated; after the step's last batch over
    /// all ranks.
    fn backward(
        &self,
        loss: &Tensor,
        seed: &Tensor,
        accumulated: Accumulated,
    ) -> Result<GradStore> {
        // Not for a whole step: a product of an op of candle's takes time on a card.
        let seed = if self.part == 1.0 { seed.clone() } else { (seed * self.part)? };
        if let Some(ranks) = self.ranks.filter(|_| self.is_last) {
            return ranks.backward(loss, &seed, accumulated);
        }
        let mut grads = backward_from(loss, &seed)?;
        accumulated.add_into(&mut grads)?;
        Ok(grads)
    }

    /// Updates by the gradients of all batches of the step, with the loss of one of them. Their norms go to `norms`. `Ok(Ok(None))` if the loss is
    /// scaled and the gradients are not finite, and so were not applied.
    pub(crate) fn update(
        &self,
        grads: &GradStore,
        loss: &Tensor,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
        norms: Option<&mut Vec<GradientNorm>>,
    ) -> Result<Result<Option<Updated>, NotFinite>> {
        let Some(loss_scale) = loss_scale else {
            self.note_norms(norms, grads, 1.0)?;
            let scale = self.grad_scale(grads, None)?;
            return Ok(Ok(Some(self.update_by(grads, scale.as_ref(), optimizer)?)));
        };
        let scale = loss_scale.factor();
        let seed = seed_of(loss, Some(scale))?.to_dtype(DType::F32)?;
        let found = GradScale::new(&self.gradients(grads), self.grad_clip_norm, Some(&seed))?;
        let factor = found.factor()?;
        loss_scale.update(factor.is_some());
        if let Some(factor) = factor {
            self.note_norms(norms, grads, scale)?;
            return Ok(Ok(Some(optimizer.update(grads, factor)?)));
        }
        Ok(self.check_scale(loss_scale, scale, grads)?.map(|()| None))
    }

    /// What clipping multiplies the gradients by, and what makes up for the number that the loss was multiplied by.
    /// `None` if there is neither.
    pub(crate) fn grad_scale(
        &self,
        grads: &GradStore,
        loss_scale: Option<&Tensor>,
    ) -> Result<Option<GradScale>> {
        if self.grad_clip_norm.is_none() && loss_scale.is_none() {
            return Ok(None);
        }
        Ok(Some(GradScale::new(&self.gradients(grads), self.grad_clip_norm, loss_scale)?))
    }

    /// Takes the optimizer's step.
    pub(crate) fn update_by(
        &self,
        grads: &GradStore,
        scale: Option<&GradScale>,
        optimizer: &mut dyn Optimizer,
    ) -> Result<Updated> {
        match scale {
            None => optimizer.update(grads, 1.0),
            Some(scale) => optimizer.update_scaled(grads, scale),
        }
    }

    /// After gradients that were not finite with the loss scaled by `scale`: whether a smaller scale may help.
    pub(crate) fn check_scale(
        &self,
        loss_scale: &LossScale,
        scale: f64,
        grads: &GradStore,
    ) -> Result<Result<(), NotFinite>> {
        if !loss_scale.is_exhausted() {
            return Ok(Ok(()));
        }
        let what = format!("gradients are not finite even with the loss scaled by {scale:?}");
        let parameter = self.first_bad_gradient(grads)?;
        Ok(Err(NotFinite { what, parameter }))
    }

    /// The gradients of all trainable parameters.
    fn gradients<'g>(&self, grads: &'g GradStore) -> Vec<&'g Tensor> {
        let trainable = self.model.parameters().trainable();
        trainable.iter().filter_map(|parameter| grads.get(parameter.var())).collect()
    }

    /// Notes the norms of gradients that are `scale` times what they would be, if they are wanted.
    fn note_norms(
        &self,
        norms: Option<&mut Vec<GradientNorm>>,
        grads: &GradStore,
        scale: f64,
    ) -> Result<()> {
        if let Some(norms) = norms {
            *norms = norms_of(&self.model.parameters().trainable(), grads, scale)?;
        }
        Ok(())
    }

    /// The first parameter with values that are not finite, or else the first with such a gradient.
    fn first_not_finite(&self, loss: &Tensor) -> Result<Option<String>> {
        let all = self.model.parameters().all();
        if let Some(path) = first(&all, |parameter| Some(parameter.detached()))? {
            return Ok(Some(path));
        }
        self.first_bad_gradient(&backward(loss)?)
    }

    fn first_bad_gradient(&self, grads: &GradStore) -> Result<Option<String>> {
        first(&self.model.parameters().all(), |parameter| grads.get(parameter.var()).cloned())
    }
}

impl Found {
    /// Waits for the step. `Ok(Err(_))` if the loss or a parameter is not finite.
    pub(crate) fn read(&self) -> Result<Result<Outcome, NotFinite>> {
        let loss = scalar(&self.loss)?;
        let parameter = match &self.updated {
            Some(updated) => {
                updated.first_not_finite()?.map(|parameter| parameter.path().to_owned())
            }
            None => None,
        };
        if !loss.is_finite() {
            return Ok(Err(NotFinite { what: format!("the loss is {loss}"), parameter }));
        }
        if parameter.is_some() {
            let what = format!("the loss is {loss} but a parameter is not finite");
            return Ok(Err(NotFinite { what, parameter }));
        }
        let logits = self.logits.as_ref();
        let correct = logits.map(|logits| self.right.count(logits)).transpose()?;
        Ok(Ok(Outcome { loss, correct }))
    }
}

/// What a loss is multiplied by before the backward pass.
fn seed_of(loss: &Tensor, scale: Option<f64>) -> Result<Tensor> {
    let one = loss.ones_like()?;
    Ok(match scale {
        None => one,
        Some(scale) => (one * scale)?,
    })
}

pub(crate) fn scalar(loss: &Tensor) -> Result<f64> {
    Ok(loss.to_dtype(DType::F64)?.to_scalar()?)
}

fn first(
    parameters: &[Parameter],
    tensor: impl Fn(&Parameter) -> Option<Tensor>,
) -> Result<Option<String>> {
    for parameter in parameters.iter().filter(|parameter| parameter.var().dtype().is_float()) {
        // Squares of f32 values cannot overflow in f64.
        let Some(tensor) = tensor(parameter) else {
            continue;
        };
        if !sum_of_squares(&tensor)?.is_finite() {
            return Ok(Some(parameter.path().to_owned()));
        }
    }
    Ok(None)
}
