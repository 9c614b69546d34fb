//! The training steps of an epoch. They are begun one after the other and read when the device is done.

use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_vision_data::Batch;
use candle_vision_models::FrozenBatchNorm;
use candle_vision_ops::in_pool;

use super::Trainer;
use crate::accumulation::Accumulated;
use crate::callback::{Event, StopReason};
use crate::captured_step::{Left, Ran};
use crate::gradient_norms::{GradientNorm, GradientRecord};
use crate::loaders::BatchNumbers;
use crate::loss::{Mean, divided_by};
use crate::loss_scale::LossScale;
use crate::ranks::{Ranks, Together};
use crate::record::BatchRecord;
use crate::session::Session;
use crate::training_step::{Found, NotFinite, Outcome, Step};
use crate::unread::Reading;
use crate::{Error, Result};

/// A step that was begun.
pub(super) struct Begun {
    batches: Vec<Seen>,
    step: usize,
    /// Number of its last batch in the epoch, from 1.
    batch: usize,
    lr: f64,
    /// The norms of its gradients, if they are recorded.
    gradients: Option<GradientRecord>,
}

/// A batch of a step.
pub(super) struct Seen {
    found: Found,
    /// Number of its images.
    samples: usize,
    /// What it counts in the mean over the step: the number of its images, or their class weights.
    weight: f64,
}

/// A step of which not all batches have come.
#[derive(Default)]
pub(super) struct Unfinished {
    batches: Vec<Seen>,
    /// What the gradients so far are divided by, until it is known what the images of all batches on all ranks count: the
    /// number of these images, with those that cannot be read.
    expected: f64,
    accumulated: Accumulated,
}

/// What the images of a batch count in the mean over its step.
struct Weight {
    of_batch: f64,
    /// Whether it is the sum of class weights.
    is_of_labels: bool,
}

/// What this process measured in a step.
#[derive(Default)]
struct OfStep {
    /// The loss.
    mean: Mean,
    /// The loss of the only batch so far: a sum and a quotient would round it.
    only: Option<f64>,
    batches: usize,
    samples: usize,
    /// `None` if it is not known.
    correct: Option<usize>,
}

impl OfStep {
    fn add(&mut self, found: Outcome, samples: usize, weight: f64) {
        self.mean.add(found.loss * divided_by(weight), weight);
        self.only = (self.batches == 0).then_some(found.loss);
        let before = if self.batches == 0 { Some(0) } else { self.correct };
        self.correct = before.zip(found.correct).map(|(before, correct)| before + correct);
        self.samples += samples;
        self.batches += 1;
    }

    fn loss(&self) -> f64 {
        self.only.unwrap_or_else(|| self.mean.value())
    }
}

fn with_gradients(ran: std::result::Result<(Found, GradStore), NotFinite>) -> Ran {
    ran.map(|(found, grads)| (found, Left::Gradients(grads)))
}

impl Trainer<'_> {
    /// Trains until the epoch's last batch or until the run ends. Returns why the run ends, if it does.
    pub(super) fn train_epoch(&mut self, session: &mut Session<'_>) -> Result<Option<StopReason>> {
        let epoch = self.position.epoch;
        let left = self.batches().saturating_sub(self.position.batch);
        let mut numbers = BatchNumbers::new(self.train, epoch - 1, self.position.batch);
        let before = self.before_steps();
        let mut clock = Instant::now();
        // A step that an error ended is begun anew.
        self.unfinished = Unfinished::default();
        let mut batches =
            self.train.epoch_from(epoch - 1, self.position.batch).take(left).peekable();
        while let Some(batch) = batches.next() {
            match batch {
                Ok(batch) => {
                    self.check_gradients(&batch)?;
                    let is_full = self.unfinished.batches.len() + 1 == self.config.accumulate;
                    // A batch whose images are all broken never comes, so the number alone does not tell which is the last.
                    let is_last = is_full || batches.peek().is_none();
                    self.begin_batch(&batch, numbers.of(&batch) + 1, is_last)?;
                    if let Some(reason) = self.capture.take_reason() {
                        session.notify(&Event::NotCaptured { reason: &reason })?;
                    }
                }
                Err(error) => {
                    self.read_steps(session, &mut clock)?;
                    return Err(error.into());
                }
            }
            // A run ends, is saved and is resumed between steps.
            if !self.unfinished.batches.is_empty() {
                continue;
            }
            if !self.unread.is_due() && session.stop_reason().is_none() {
                continue;
            }
            self.read_steps(session, &mut clock)?;
            if let Some(reason) = session.stop_reason() {
                return Ok(Some(reason));
            }
        }
        self.read_steps(session, &mut clock)?;
        session.notify_skipped([self.train, self.val])?;
        if self.position.samples == 0 {
            return Err(Error::NoBatches { split: "training" });
        }
        self.tell_of_ranks(session, before)?;
        Ok(None)
    }

    /// Begins a batch, and takes its step if it `is_last` of those that make one. A GPU may not have started it when this
    /// returns.
    fn begin_batch(&mut self, batch: &Batch, number: usize, is_last: bool) -> Result<()> {
        let samples = batch.indices.len();
        let mut unfinished = std::mem::take(&mut self.unfinished);
        if unfinished.batches.is_empty() {
            unfinished.expected = self.samples_of_step(number, samples) as f64;
        }
        let weight = self.weight_of(batch, unfinished.batches.is_empty() && is_last)?;
        let mut so_far = std::mem::take(&mut unfinished.accumulated);
        let mut divisor = unfinished.expected;
        if is_last {
            let before = unfinished.batches.iter().map(|seen| seen.weight).sum::<f64>();
            let of_step = self.weight_of_step(before + weight.of_batch, &weight, divisor)?;
            divisor = divided_by(of_step);
            if divisor != unfinished.expected {
                so_far.scale(unfinished.expected / divisor);
            }
        }
        let part = divided_by(weight.of_batch) / divisor;
        let step = Step {
            model: self.model,
            loss: self.loss.as_ref(),
            target_kind: self.target_kind,
            precision: self.config.precision,
            frozen_batch_norm: self.frozen_batch_norm(),
            prepared: &self.prepared,
            grad_clip_norm: self.config.grad_clip_norm,
            seed: self.config.seed,
            number: self.position.step + 1,
            pass_number: self.position.step * self.config.accumulate + unfinished.batches.len() + 1,
            looks_first: self.unread.reading() == Reading::AtOnce,
            looks_at_graph: self.slow_backward.is_none(),
            ranks: self.ranks.as_ref(),
            part,
            is_last,
            accumulates: self.config.accumulate > 1,
            scales_loss: self.loss_scale.is_some(),
        };
        let lr = self.lr.set(self.optimizer.as_mut(), self.position.step);
        let obstacle = self.obstacle_to_capture();
        let (optimizer, mut scale) = (self.optimizer.as_mut(), self.loss_scale.as_mut());
        let own = self.train_step.as_deref_mut();
        // The first step of an epoch. A run that was stopped within the epoch had it before.
        let wanted = self.config.gradient_norms && self.position.batch == 0;
        let mut norms = wanted.then(Vec::new);
        let capture = &mut self.capture;
        // The host reads those gradients.
        let is_plain = wanted;
        let factor = scale.as_deref().map(LossScale::factor);
        let learning = self.model.parameters().trainable();
        let ran = match &mut self.hooks {
            None => in_pool(|| {
                if !is_plain {
                    let scale = scale.as_deref_mut();
                    let obstacle = obstacle.as_deref();
                    let ran = capture.run(&step, batch, &so_far, optimizer, scale, obstacle)?;
                    if let Some(ran) = ran {
                        return Ok(ran);
                    }
                }
                step.run(batch, so_far, factor, own, None).map(with_gradients)
            }),
            // The forward pass may use another thread of the pool, which a hook need not allow.
            Some(hooks) => {
                capture.stay_plain(&step, "hooks are attached")?;
                hooks.with(step.number, |hook| {
                    step.run(batch, so_far, factor, own, Some(hook)).map(with_gradients)
                })
            }
        };
        let (mut found, left) = match ran {
            Ok(Ok(found)) => found,
            Ok(Err(cause)) => return Err(self.diverged(number, lr, cause)),
            Err(error) => return Err(self.explain_single(batch, error)),
        };
        let mut so_far = Accumulated::default();
        let grads = match left {
            Left::Taken => None,
            Left::Gradients(grads) if is_last => Some(grads),
            Left::Sums(sums) if is_last => Some(sums.into_gradients()?),
            Left::Gradients(grads) => {
                so_far = Accumulated::of(&grads, &learning);
                None
            }
            Left::Sums(sums) => {
                so_far = sums;
                None
            }
        };
        if let Some(grads) = &grads {
            let update = || step.update(grads, &found.loss, optimizer, scale, norms.as_mut());
            match in_pool(update)? {
                Ok(updated) => found.updated = updated,
                Err(cause) => return Err(self.diverged(number, lr, cause)),
            }
        }
        self.slow_backward = self.slow_backward.or(Some(found.foreign_op.is_some()));
        unfinished.batches.push(Seen { found, samples, weight: weight.of_batch });
        if is_last {
            return self.end_step(unfinished.batches, number, lr, norms);
        }
        unfinished.accumulated = so_far;
        self.unfinished = unfinished;
        Ok(())
    }

    /// Number of images that the step which begins with batch `number` has on all ranks, before images that cannot be read are
    /// left out.
    fn samples_of_step(&self, number: usize, samples: usize) -> usize {
        let batches = self.config.accumulate;
        if self.ranks.is_none() && batches == 1 {
            return samples;
        }
        let end = (number - 1 + batches).min(self.batches());
        (number - 1..end).map(|batch| self.train.batch_len_of_all(batch)).sum()
    }

    /// Notes a step that was begun with its last batch.
    fn end_step(
        &mut self,
        batches: Vec<Seen>,
        batch: usize,
        lr: f64,
        norms: Option<Vec<GradientNorm>>,
    ) -> Result<()> {
        let steps = self.config.epochs * self.steps();
        let position = &mut self.position;
        position.step += 1;
        position.batch = batch;
        if let Some(averages) = &self.averages {
            averages.after_step(position.step, steps)?;
        }
        let (epoch, step) = (position.epoch, position.step);
        let gradients = norms.map(|norms| GradientRecord { epoch, step, norms });
        self.unread.push(Begun { batches, step, batch, lr, gradients });
        Ok(())
    }

    /// What the images of this process's batch count.
    fn weight_of(&self, batch: &Batch, is_whole_step: bool) -> Result<Weight> {
        let images = batch.indices.len() as f64;
        // A training step of the program's own and a loss of targets take the mean over images.
        let takes_labels = self.train_step.is_none() && batch.targets.is_none();
        // A card would have to give the labels back. They are asked for where something depends on them.
        let is_wanted = self.ranks.is_some() || !is_whole_step;
        let of_labels =
            if takes_labels && is_wanted { self.loss.divisor(&batch.labels)? } else { None };
        Ok(Weight { of_batch: of_labels.unwrap_or(images), is_of_labels: of_labels.is_some() })
    }

    /// What the images of a step count on all ranks, of which this one has `own`.
    fn weight_of_step(&self, own: f64, weight: &Weight, expected: f64) -> Result<f64> {
        match &self.ranks {
            None => Ok(own),
            // All ranks know this number, so they need not meet.
            Some(_) if !weight.is_of_labels => Ok(expected),
            Some(ranks) => ranks.sum(own),
        }
    }

    /// Why a CUDA device cannot repeat this run's steps from a graph.
    fn obstacle_to_capture(&self) -> Option<String> {
        if let Some(reason) = self.ranks.as_ref().and_then(Ranks::obstacle_to_capture) {
            return Some(reason);
        }
        if self.ranks.is_some() && self.config.distributed.shards_optimizer_state() {
            return Some("each process has a part of the optimizer's state".to_owned());
        }
        self.train_step.is_some().then(|| "the training step is the program's own".to_owned())
    }

    /// Waits for all steps that were begun and records their results. Nothing may be saved before, because
    /// the network has already taken those steps.
    fn read_steps(&mut self, session: &mut Session<'_>, clock: &mut Instant) -> Result<()> {
        for begun in self.unread.take() {
            let Begun { batches, step, batch, lr, gradients } = begun;
            let mut own = OfStep::default();
            for Seen { found, samples, weight } in batches {
                if let Some(op) = &found.foreign_op {
                    session.notify(&Event::SlowBackward { op })?;
                }
                let outcome = found.read()?.map_err(|cause| self.diverged(batch, lr, cause))?;
                own.add(outcome, samples, weight);
            }
            let (outcome, samples, waited) = self.of_all_ranks(session, own)?;
            let position = &mut self.position;
            position.loss_sum += outcome.loss * samples as f64;
            match outcome.correct {
                Some(correct) => position.correct += correct,
                None => position.unanswered += samples,
            }
            position.samples += samples;
            position.seconds += clock.elapsed().as_secs_f64();
            *clock = Instant::now();
            let (epoch, loss) = (position.epoch, outcome.loss);
            if let Some(record) = gradients {
                session.notify(&Event::GradientNorms { record: &record })?;
                self.gradients.push(record);
            }
            self.history.batches.push(BatchRecord { step, epoch, loss, lr });
            self.tell_of_batch(session, batch, samples, &waited)?;
        }
        Ok(())
    }

    /// What all ranks measured in a step in which this one measured `own`, and how long each waited so far.
    fn of_all_ranks(
        &self,
        session: &mut Session<'_>,
        own: OfStep,
    ) -> Result<(Outcome, usize, Vec<f64>)> {
        let OfStep { samples, correct, .. } = own;
        let Some(ranks) = &self.ranks else {
            return Ok((Outcome { loss: own.loss(), correct }, samples, Vec::new()));
        };
        let stop = session.own_stop_reason();
        let Together { samples, loss, correct, stop, waited } =
            ranks.together(samples, own.mean, correct, stop)?;
        session.share(stop);
        Ok((Outcome { loss, correct }, samples, waited))
    }

    fn diverged(&self, batch: usize, lr: f64, cause: NotFinite) -> Error {
        let NotFinite { what, parameter } = cause;
        Error::Diverged { epoch: self.position.epoch, batch, what, lr, parameter }
    }

    pub(super) fn frozen_batch_norm(&self) -> FrozenBatchNorm {
        self.config.freeze.as_ref().map(|freeze| freeze.batch_norm).unwrap_or_default()
    }

    fn tell_of_batch(
        &self,
        session: &mut Session<'_>,
        batch: usize,
        samples: usize,
        waited: &[f64],
    ) -> Result<()> {
        session.notify_skipped([self.train, self.val])?;
        let Some(record) = self.history.batches.last() else {
            return Ok(());
        };
        session.notify(&Event::BatchEnd {
            record,
            batch,
            batches: self.batches(),
            samples,
            accuracy: self.position.accuracy(),
            waited,
        })
    }
}
