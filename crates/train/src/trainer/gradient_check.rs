//! A look, before the first step of a run, at whether every parameter that should learn gets a gradient.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::{KeptValues, Parameter, Precision, PreparedLayers};
use candle_vision_ops::{in_pool, sum_of_squares};

use super::Trainer;
use crate::accumulation::Accumulated;
use crate::training_step::{Step, scalar};
use crate::{Error, Result};

/// Images of a pass. They are few, so the check takes a small part of the time and the memory of a step.
const IMAGES: usize = 8;

/// A layer that dropout or stochastic depth leaves out gets no gradient in that pass. It hardly is left out so often.
const PASSES: usize = 3;

/// Paths of parameters without a gradient that they could learn from.
#[derive(Default)]
struct Without {
    missing: Vec<String>,
    zero: Vec<String>,
    not_finite: Vec<String>,
}

impl Without {
    fn of(learning: &[Parameter], gradients: &GradStore) -> Result<Self> {
        let mut found = Self::default();
        for parameter in learning {
            let size = gradients.get(parameter.var()).map(sum_of_squares).transpose()?;
            let kind = match size {
                None => &mut found.missing,
                Some(0.0) => &mut found.zero,
                Some(size) if !size.is_finite() => &mut found.not_finite,
                Some(_) => continue,
            };
            kind.push(parameter.path().to_owned());
        }
        Ok(found)
    }

    /// Those that had none in an earlier pass either. Numbers that are not finite count in the first only, because some weights of
    /// later ones are made up.
    fn and_before(mut self, before: &Self) -> Self {
        let had_none = |path: &String| before.missing.contains(path) || before.zero.contains(path);
        self.missing.retain(had_none);
        self.zero.retain(had_none);
        self.not_finite.clear();
        self
    }

    /// Whether further passes would change nothing.
    fn is_known(&self) -> bool {
        !self.not_finite.is_empty() || self.missing.is_empty() && self.zero.is_empty()
    }
}

impl Trainer<'_> {
    /// Looks at the gradients of a few images of the batch, unless this was done since the network began to learn as it does.
    /// Afterwards everything is as before.
    ///
    /// # Errors
    /// [`Error::NoGradient`] if parameters get none, one of zero whatever the images are, or one that is not finite.
    pub(super) fn check_gradients(&mut self, batch: &Batch) -> Result<()> {
        if !std::mem::take(&mut self.checks_gradients) {
            return Ok(());
        }
        let parameters = self.model.parameters();
        let buffers = KeptValues::of(parameters.buffers())?;
        let own_state = match &self.train_step {
            None => None,
            Some(own) => Some(own.state()).filter(|state| !state.is_empty()),
        };
        let own_state = own_state.map(copied).transpose()?;
        let asleep = KeptValues::of(parameters.trainable().into_iter().filter(is_zero))?;
        let found = self.without_gradients(batch, &asleep);
        buffers.put_back()?;
        asleep.put_back()?;
        if let (Some(own), Some(state)) = (&mut self.train_step, own_state) {
            own.load_state(&state)?;
        }
        let Without { missing, zero, not_finite } = found?;
        match [&missing, &zero, &not_finite].iter().all(|paths| paths.is_empty()) {
            true => Ok(()),
            false => Err(Error::NoGradient { missing, zero, not_finite }),
        }
    }

    /// Makes passes until every parameter had a gradient. From the second on, those of `asleep` have small values in place of
    /// zeros: a layer whose weights begin at zero (the last batch norm of a residual block, a layer scale) keeps the layers
    /// before it at a gradient of zero until it has learned something.
    fn without_gradients(&mut self, batch: &Batch, asleep: &KeptValues) -> Result<Without> {
        let learning = self.model.parameters().trainable();
        let mut found: Option<Without> = None;
        for pass in 0..PASSES {
            let few = few(batch, pass)?;
            let gradients = self.gradients_of(&few, pass)?;
            if found.as_ref().is_some_and(Without::is_known) {
                continue;
            }
            let Some(gradients) = gradients else { continue };
            let without = Without::of(&learning, &gradients)?;
            let without = match &found {
                None => without,
                Some(before) => without.and_before(before),
            };
            // Ranks whose batch norms meet make all passes together.
            if without.is_known() && !self.normalises_across_ranks() {
                return Ok(without);
            }
            if found.replace(without).is_none() {
                for parameter in asleep.parameters() {
                    parameter.set(&small_values(parameter.var())?)?;
                }
            }
        }
        Ok(found.unwrap_or_default())
    }

    /// The gradients of a batch in `f32`. `None` if its loss says nothing about the parameters: it is not finite, or zero.
    fn gradients_of(&mut self, batch: &Batch, pass: usize) -> Result<Option<GradStore>> {
        let meet = self.normalises_across_ranks();
        let step = Step {
            model: self.model,
            loss: self.loss.as_ref(),
            target_kind: self.target_kind,
            precision: Precision::F32,
            frozen_batch_norm: self.frozen_batch_norm(),
            prepared: &PreparedLayers::new(),
            grad_clip_norm: None,
            seed: self.config.seed,
            number: self.position.step + 1,
            pass_number: pass + 1,
            looks_first: !meet,
            looks_at_graph: false,
            ranks: self.ranks.as_ref().filter(|_| meet),
            part: 1.0,
            // The gradients are this process's own.
            is_last: !meet,
            accumulates: false,
            scales_loss: false,
        };
        let own = self.train_step.as_deref_mut();
        let ran = in_pool(|| step.run(batch, Accumulated::default(), None, own, None));
        match ran {
            Ok(Ok((found, gradients))) => {
                let loss = scalar(&found.loss)?;
                Ok(Some(gradients).filter(|_| loss.is_finite() && loss != 0.0))
            }
            Ok(Err(_)) => Ok(None),
            Err(error) => Err(self.explain_single(batch, error)),
        }
    }
}

/// Some images of the batch, other ones in each pass if it has enough.
fn few(batch: &Batch, pass: usize) -> candle_core::Result<Batch> {
    let samples = batch.indices.len();
    let count = samples.min(IMAGES);
    let first = (pass * count).min(samples - count);
    let part = |tensor: &Tensor| tensor.narrow(0, first, count);
    let mut images = part(&batch.images)?;
    if images.dtype().is_float() {
        images = images.to_dtype(DType::F32)?;
    }
    Ok(Batch {
        images,
        labels: part(&batch.labels)?,
        targets: batch.targets.as_ref().map(part).transpose()?,
        indices: batch.indices[first..first + count].to_vec(),
    })
}

fn is_zero(parameter: &Parameter) -> bool {
    sum_of_squares(&parameter.detached()).is_ok_and(|squares| squares == 0.0)
}

/// Values from 0.005 to 0.015 without a pattern that sums could cancel.
fn small_values(like: &Tensor) -> Result<Tensor> {
    let value = |place: usize| {
        let hash = (place as u32).wrapping_mul(2_654_435_769);
        0.005 + 0.01 * hash as f32 / u32::MAX as f32
    };
    let values: Vec<f32> = (0..like.elem_count()).map(value).collect();
    Ok(Tensor::from_vec(values, like.shape(), like.device())?.to_dtype(like.dtype())?)
}

fn copied(state: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    state.into_iter().map(|(name, tensor)| Ok((name, tensor.copy()?))).collect()
}
