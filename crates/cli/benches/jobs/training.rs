//! Training steps, made of public calls as a user's loop has them.

use anyhow::{Context, Result};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use candle_vision::distributed::Buckets;
use candle_vision::models::{AuxiliaryOutputs, Precision};
use candle_vision::ops::{
    Captured, CrossEntropyConfig, Targets, add, backward, cross_entropy, in_pool, scale,
};
use candle_vision::prelude::{Model, Pass, PreparedLayers};
use candle_vision::train::backward_across_ranks;
use candle_vision::train::optim::{Adam, Optimizer, Sgd, UpdateRule, Updated};

use crate::measure::Clock;
use crate::noise;
use crate::ranks;
use crate::work::{Learns, Network, Outcome, Rule};

/// A network in training.
pub(crate) struct Training {
    model: Box<dyn Model>,
    optimizer: Box<dyn Optimizer>,
    precision: Precision,
    /// Of the layers that do not learn.
    prepared: PreparedLayers,
}

impl Training {
    fn new(network: &Network, learns: Learns, device: &Device) -> Result<Self> {
        let model = network.build(device)?;
        if learns == Learns::Head {
            model.parameters().freeze("")?;
            model.parameters().unfreeze(model.head())?;
        }
        let parameters = model.parameters().trainable();
        let optimizer: Box<dyn Optimizer> = match network.rule {
            Rule::Sgd => Box::new(Sgd::new(0.01).momentum(0.9).optimizer(parameters)?),
            Rule::Adam => Box::new(Adam::new(0.001).weight_decay(0.0001).optimizer(parameters)?),
        };
        let prepared = PreparedLayers::new();
        Ok(Self { model, optimizer, precision: network.precision, prepared })
    }

    /// Forward, loss, backward and update, as the trainer does them: a card may not have begun any of
    /// it when this returns.
    fn step(&mut self, number: usize, images: &Tensor, labels: &Tensor) -> Result<Updated> {
        let grads = self.gradients(number, images, labels)?;
        Ok(self.optimizer.update(&grads, 1.0)?)
    }

    fn gradients(&self, number: usize, images: &Tensor, labels: &Tensor) -> Result<GradStore> {
        Ok(backward(&self.loss(number, images, labels)?)?)
    }

    /// A step by the gradients of all processes.
    pub(crate) fn step_together(
        &mut self,
        number: usize,
        images: &Tensor,
        labels: &Tensor,
        (ranks, buckets): (usize, &mut Buckets),
    ) -> Result<Updated> {
        let loss = self.loss(number, images, labels)?;
        let part = loss.ones_like()?.affine(1.0 / ranks as f64, 0.0)?;
        let grads = backward_across_ranks(&loss, &part, buckets)?;
        Ok(self.optimizer.update(&grads, 1.0)?)
    }

    fn loss(&self, number: usize, images: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let pass = Pass::train(number as u64).precision(self.precision);
        let pass = pass.with_kernels_in_order(self.model.parameters())?;
        let mut pass = pass.with_prepared(&self.prepared);
        let AuxiliaryOutputs { logits, auxiliary } =
            self.model.forward_auxiliary(images, &mut pass)?;
        let loss = |logits: &Tensor| {
            cross_entropy(logits, Targets::Labels(labels), &CrossEntropyConfig::default())
        };
        let mut sum = loss(&logits)?;
        for (logits, weight) in auxiliary {
            sum = add(&sum, &scale(&loss(&logits)?, weight)?)?;
        }
        Ok(sum)
    }
}

/// Plain steps before one is captured, as the trainer takes them.
const PLAIN_STEPS: usize = 3;

/// Training whose step a card repeats from a graph after a few plain ones, as the trainer does.
struct Repeated {
    training: Training,
    captured: Option<CapturedStep>,
}

/// A step in a graph. Its gradients lie in the graph's memory, so they are dropped before it.
struct CapturedStep {
    /// The optimizer asks which there are.
    grads: GradStore,
    _updated: Updated,
    work: Captured,
    /// What it reads. `[batch, height, width, channels]`.
    images: Tensor,
    labels: Tensor,
}

impl Repeated {
    fn new(training: Training) -> Self {
        Self { training, captured: None }
    }

    /// A step on a batch that may lie elsewhere each time.
    fn step(&mut self, number: usize, images: &Tensor, labels: &Tensor) -> Result<()> {
        if number >= PLAIN_STEPS
            && let Some(captured) = &self.captured
        {
            captured.images.slice_set(&images.permute((0, 2, 3, 1))?, 0, 0)?;
            captured.labels.slice_set(labels, 0, 0)?;
        }
        self.step_on_the_same(number, images, labels)
    }

    /// A step on the batch of the step before.
    fn step_on_the_same(&mut self, number: usize, images: &Tensor, labels: &Tensor) -> Result<()> {
        let Self { training, captured } = self;
        if number < PLAIN_STEPS {
            return training.step(number, images, labels).map(drop);
        }
        if let Some(captured) = captured {
            let (optimizer, grads) = (&mut training.optimizer, &captured.grads);
            return Ok(captured.work.launch_with(|| optimizer.update(grads, 1.0).map(drop))?);
        }
        let device = images.device();
        let (images, labels) = (images.permute((0, 2, 3, 1))?.copy()?, labels.copy()?);
        let ((grads, _updated), work) = Captured::new(device, || {
            let grads = training.gradients(number, &images.permute((0, 3, 1, 2))?, &labels)?;
            let updated = training.optimizer.update(&grads, 1.0)?;
            Ok::<_, anyhow::Error>((grads, updated))
        })?;
        *captured = Some(CapturedStep { grads, _updated, work, images, labels });
        Ok(())
    }
}

/// Training on one batch again and again.
pub(crate) fn train(clock: &Clock, network: &Network, learns: Learns) -> Result<Outcome> {
    let mut training = Training::new(network, learns, &clock.device)?;
    let (images, labels) = (network.images(&clock.device)?, network.labels(&clock.device)?);
    if let Some(ranks) = &clock.ranks {
        return ranks::train(clock, ranks, training, &images, &labels);
    }
    let times = clock.measure(|number| in_pool(|| training.step(number, &images, &labels)))?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// The same on a card that repeats a captured step, as the trainer does. A CPU takes plain steps.
pub(crate) fn train_captured(clock: &Clock, network: &Network) -> Result<Outcome> {
    if !clock.repeats_steps() {
        return train(clock, network, Learns::All);
    }
    let mut training = Repeated::new(Training::new(network, Learns::All, &clock.device)?);
    let (images, labels) = (network.images(&clock.device)?, network.labels(&clock.device)?);
    let times =
        clock.measure(|number| in_pool(|| training.step_on_the_same(number, &images, &labels)))?;
    Ok(Outcome::Measured { times, images: network.count() })
}

/// Training on what a loader makes of images in memory: what it takes longer than [`train_captured`] is spent
/// waiting for data.
pub(crate) fn train_loaded(clock: &Clock, network: &Network) -> Result<Outcome> {
    let mut training = Repeated::new(Training::new(network, Learns::All, &clock.device)?);
    let loader = noise::loader(network.batch, network.classes, &clock.device)?;
    let (mut epoch, mut batches) = (0, loader.epoch(0));
    let times = clock.measure(|number| {
        let batch = match batches.next() {
            Some(batch) => batch?,
            None => {
                epoch += 1;
                batches = loader.epoch(epoch);
                batches.next().context("an epoch has batches")??
            }
        };
        let (images, labels) = (&batch.images, &batch.labels);
        if clock.repeats_steps() {
            in_pool(|| training.step(number, images, labels))
        } else {
            in_pool(|| training.training.step(number, images, labels)).map(drop)
        }
    })?;
    Ok(Outcome::Measured { times, images: network.count() })
}
