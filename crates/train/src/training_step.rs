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
use crate::gradient_norms::Looks;
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
    /// Number of the step in the whole run. The step's random numbers depend on it.
    pub(crate) number: usize,
    /// Whether to check the loss before anything is changed, which makes the host wait. Otherwise a loss
    /// that is not finite is noticed when the [`Found`] is read.
    pub(crate) looks_first: bool,
    /// Whether to check if one of candle's own ops slows `backward` down.
    pub(crate) looks_at_graph: bool,
    /// The processes that take this step together, each on its part of the batch.
    pub(crate) ranks: Option<&'a Ranks>,
    /// This process's part of the mean over the batch, `0.0..=1.0`.
    pub(crate) part: f64,
}

/// The results of a step: numbers that a GPU may still be computing.
pub(crate) struct Found {
    pub(crate) loss: Tensor,
    /// `None` if the step gave no logits.
    pub(crate) logits: Option<Tensor>,
    pub(crate) right: Right,
    /// `None` if the step was skipped because its scaled gradients were not finite.
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
    /// Forward, backward, update. `Ok(Err(_))` if it is already known that a value is not finite.
    pub(crate) fn run(
        &self,
        batch: &Batch,
        optimizer: &mut dyn Optimizer,
        loss_scale: Option<&mut LossScale>,
        own: Option<&mut (dyn TrainStep + '_)>,
        hook: Option<&mut dyn LayerHook>,
        looks: &mut Looks<'_>,
    ) -> Result<Result<Found, NotFinite>> {
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
        let updated = match loss_scale {
            None => Ok(Some(self.update(&loss, optimizer, looks)?)),
            Some(loss_scale) => self.update_scaled(&loss, optimizer, loss_scale, looks)?,
        };
        // Values that are kept must not keep the graph alive.
        let (loss, logits) = (loss.detach(), logits.map(|logits| logits.detach()));
        let right = Right::of(batch, self.target_kind)?;
        Ok(updated.map(|updated| Found { loss, logits, right, updated, foreign_op }))
    }

    /// The step's pass, without a hook.
    pub(crate) fn pass(&self) -> Pass<'_> {
        // Other images on another rank: they get other random numbers.
        let of_rank = self.ranks.map_or(0, |ranks| ranks.rank() as u64);
        let pass = Pass::train_step(self.seed ^ of_rank.wrapping_mul(APART), self.number);
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

    fn update(
        &self,
        loss: &Tensor,
        optimizer: &mut dyn Optimizer,
        looks: &mut Looks<'_>,
    ) -> Result<Updated> {
        let grads = self.backward(loss, &loss.ones_like()?)?;
        self.look(looks, (loss, &grads), 1.0)?;
        self.update_by(&grads, self.grad_scale(&grads, None)?.as_ref(), optimizer)
    }

    /// The gradients of `loss * seed`, over the batches of all ranks.
    fn backward(&self, loss: &Tensor, seed: &Tensor) -> Result<GradStore> {
        match self.ranks {
            None => Ok(backward_from(loss, seed)?),
            Some(ranks) => ranks.backward(loss, &(seed * self.part)?),
        }
    }

    /// Updates by the gradients of a scaled loss. `Ok(None)` if they are not finite and so were not
    /// applied.
    fn update_scaled(
        &self,
        loss: &Tensor,
        optimizer: &mut dyn Optimizer,
        loss_scale: &mut LossScale,
        looks: &mut Looks<'_>,
    ) -> Result<Result<Option<Updated>, NotFinite>> {
        let scale = loss_scale.factor();
        let seed = (loss.ones_like()? * scale)?;
        let grads = self.backward(loss, &seed)?;
        let found = GradScale::new(
            &self.gradients(&grads),
            self.grad_clip_norm,
            Some(&seed.to_dtype(DType::F32)?),
        )?;
        let factor = found.factor()?;
        loss_scale.update(factor.is_some());
        if let Some(factor) = factor {
            self.look(looks, (loss, &grads), scale)?;
            return Ok(Ok(Some(optimizer.update(&grads, factor)?)));
        }
        Ok(self.check_scale(loss_scale, scale, &grads)?.map(|()| None))
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

    fn look(
        &self,
        looks: &mut Looks<'_>,
        loss_and_gradients: (&Tensor, &GradStore),
        scale: f64,
    ) -> Result<()> {
        let learning = self.model.parameters().trainable();
        looks.look(self.number, &learning, loss_and_gradients, scale)
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
