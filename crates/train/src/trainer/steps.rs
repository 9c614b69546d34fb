//! The training steps of an epoch. They are begun one after the other and read when the device is done.

use std::time::Instant;

use candle_vision_data::Batch;
use candle_vision_models::FrozenBatchNorm;
use candle_vision_ops::in_pool;

use super::Trainer;
use crate::callback::{Event, StopReason};
use crate::gradient_norms::{GradientRecord, Looks};
use crate::loaders::BatchNumbers;
use crate::ranks::Together;
use crate::record::BatchRecord;
use crate::session::Session;
use crate::training_step::{Found, NotFinite, Outcome, Step};
use crate::unread::Reading;
use crate::{Error, Result};

/// A step that was begun.
pub(super) struct Begun {
    found: Found,
    step: usize,
    /// Number of the batch in the epoch, from 1.
    batch: usize,
    lr: f64,
    /// Number of images in the batch.
    samples: usize,
    /// What this process's loss counts beside those of the others.
    weight: f64,
    /// The norms of its gradients, if they are recorded.
    gradients: Option<GradientRecord>,
}

impl Trainer<'_> {
    /// Trains until the epoch's last batch or until the run ends. Returns why the run ends, if it does.
    pub(super) fn train_epoch(&mut self, session: &mut Session<'_>) -> Result<Option<StopReason>> {
        let epoch = self.position.epoch;
        let left = self.batches().saturating_sub(self.position.batch);
        let mut numbers = BatchNumbers::new(self.train, epoch - 1, self.position.batch);
        let before = self.before_steps();
        let mut clock = Instant::now();
        for batch in self.train.epoch_from(epoch - 1, self.position.batch).take(left) {
            match batch {
                Ok(batch) => {
                    self.begin_step(&batch, numbers.of(&batch) + 1)?;
                    if let Some(reason) = self.capture.take_reason() {
                        session.notify(&Event::NotCaptured { reason: &reason })?;
                    }
                }
                Err(error) => {
                    self.read_steps(session, &mut clock)?;
                    return Err(error.into());
                }
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

    /// Begins one step. A GPU may not have started it when this returns.
    fn begin_step(&mut self, batch: &Batch, number: usize) -> Result<()> {
        let (weight, part) = self.weight_and_part(batch, number)?;
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
            looks_first: self.unread.reading() == Reading::AtOnce,
            looks_at_graph: self.slow_backward.is_none(),
            ranks: self.ranks.as_ref(),
            part,
        };
        let lr = self.lr.lr_of_step(self.position.step);
        self.optimizer.set_lr(lr);
        let obstacle = self.obstacle_to_capture();
        let (optimizer, mut scale) = (self.optimizer.as_mut(), self.loss_scale.as_mut());
        let own = self.train_step.as_deref_mut();
        // The first batch of an epoch. A run that was stopped within the epoch had it before.
        let wanted = self.config.gradient_norms && self.position.batch == 0;
        let norms = wanted.then(Vec::new);
        let mut looks = Looks { check: self.gradient_check.as_mut(), norms };
        let capture = &mut self.capture;
        // The host reads those gradients.
        let is_plain = looks.looks_at(step.number);
        let found = match &mut self.hooks {
            None => in_pool(|| {
                if !is_plain {
                    let scale = scale.as_deref_mut();
                    if let Some(found) = capture.run(&step, batch, optimizer, scale, obstacle)? {
                        return Ok(found);
                    }
                }
                step.run(batch, optimizer, scale, own, None, &mut looks)
            }),
            // The forward pass may use another thread of the pool, which a hook need not allow.
            Some(hooks) => hooks.with(step.number, |hook| {
                step.run(batch, optimizer, scale, own, Some(hook), &mut looks)
            }),
        };
        let norms = looks.norms;
        let found = found.map_err(|error| self.explain_single(batch, error))?;
        let found = found.map_err(|cause| self.diverged(number, lr, cause))?;
        self.slow_backward = self.slow_backward.or(Some(found.foreign_op.is_some()));
        let batches = self.batches();
        let position = &mut self.position;
        position.step += 1;
        position.batch = number;
        if let Some(averages) = &self.averages {
            averages.after_step(position.step, self.config.epochs * batches)?;
        }
        let (epoch, step, samples) = (position.epoch, position.step, batch.indices.len());
        let gradients = norms.map(|norms| GradientRecord { epoch, step, norms });
        self.unread.push(Begun { found, step, batch: number, lr, samples, weight, gradients });
        Ok(())
    }

    /// What this process's loss of a batch counts, and its part of what those of all count, `0.0..=1.0`.
    fn weight_and_part(&self, batch: &Batch, number: usize) -> Result<(f64, f64)> {
        let images = batch.indices.len() as f64;
        let Some(ranks) = &self.ranks else { return Ok((images, 1.0)) };
        // A training step of the program's own and a loss of targets take the mean over images.
        let takes_labels = self.train_step.is_none() && batch.targets.is_none();
        let divisor = if takes_labels { self.loss.divisor(&batch.labels)? } else { None };
        Ok(match divisor {
            // All ranks know this number, so they need not meet.
            None => (images, images / self.train.batch_len_of_all(number - 1).max(1) as f64),
            Some(divisor) => (divisor, divisor / ranks.sum(divisor)?),
        })
    }

    /// Why a CUDA device cannot repeat this run's steps from a graph.
    fn obstacle_to_capture(&self) -> Option<&'static str> {
        if self.ranks.is_some() {
            return Some("the gradients of several processes are summed");
        }
        self.train_step.is_some().then_some("the training step is the program's own")
    }

    /// Waits for all steps that were begun and records their results. Nothing may be saved before, because
    /// the network has already taken those steps.
    fn read_steps(&mut self, session: &mut Session<'_>, clock: &mut Instant) -> Result<()> {
        for begun in self.unread.take() {
            let Begun { found, step, batch, lr, samples, weight, gradients } = begun;
            if let Some(op) = &found.foreign_op {
                session.notify(&Event::SlowBackward { op })?;
            }
            let own = found.read()?.map_err(|cause| self.diverged(batch, lr, cause))?;
            let (outcome, samples) = self.of_all_ranks(session, own, samples, weight)?;
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
            self.tell_of_batch(session, batch, samples)?;
        }
        Ok(())
    }

    /// What all ranks measured in a step in which this one measured `own`.
    fn of_all_ranks(
        &self,
        session: &mut Session<'_>,
        own: Outcome,
        samples: usize,
        weight: f64,
    ) -> Result<(Outcome, usize)> {
        let Some(ranks) = &self.ranks else { return Ok((own, samples)) };
        let stop = session.own_stop_reason();
        let Together { samples, loss, correct, stop } =
            ranks.together(samples, (own.loss, weight), own.correct, stop)?;
        session.share(stop);
        Ok((Outcome { loss, correct }, samples))
    }

    fn diverged(&self, batch: usize, lr: f64, cause: NotFinite) -> Error {
        let NotFinite { what, parameter } = cause;
        Error::Diverged { epoch: self.position.epoch, batch, what, lr, parameter }
    }

    pub(super) fn frozen_batch_norm(&self) -> FrozenBatchNorm {
        self.config.freeze.as_ref().map(|freeze| freeze.batch_norm).unwrap_or_default()
    }

    fn tell_of_batch(&self, session: &mut Session<'_>, batch: usize, samples: usize) -> Result<()> {
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
        })
    }
}
