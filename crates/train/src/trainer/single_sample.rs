//! A batch of one sample, on which a network with batch norm may not be trainable.

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::{KeptValues, Pass};
use candle_vision_ops::in_pool;

use super::Trainer;
use crate::freeze::{freeze, release};
use crate::{Error, Result};

impl Trainer<'_> {
    /// Fails if an epoch ends in a batch of one sample and the network cannot be trained on it. Otherwise
    /// the error would come only after hours of training.
    pub(super) fn check_last_batch(&self) -> Result<()> {
        let Some(number) = self.lonely_batch() else { return Ok(()) };
        // A real batch, because its shape matters. An image that cannot be read is reported elsewhere.
        let batch = self.train.epoch_from(self.position.epoch - 1, number).next();
        let Some(Ok(batch)) = batch else { return Ok(()) };
        // Another rank may be the one with a single sample. All of them find out.
        let one = batch.images.narrow(0, 0, 1)?;
        let released = self.frozen.iter().flatten().filter(|_| self.is_unfrozen_later());
        let released: Vec<_> = released.cloned().collect();
        release(self.model, &released)?;
        let refused = self.refused_alone(&one);
        freeze(self.model, &released)?;
        match refused? {
            Some(source) => Err(self.single_sample(Some(self.train.samples_per_epoch()), source)),
            None => Ok(()),
        }
    }

    /// If the batch of a failed step has one sample, explains the error by that.
    pub(super) fn explain_single(&self, batch: &Batch, error: Error) -> Error {
        if batch.indices.len() != 1 || self.normalises_across_ranks() {
            return error;
        }
        match self.refused_alone(&batch.images) {
            Ok(Some(source)) => {
                let is_whole = self.lonely_batch().is_some();
                let samples = is_whole.then(|| self.train.samples_per_epoch());
                self.single_sample(samples, source)
            }
            _ => error,
        }
    }

    fn single_sample(&self, samples: Option<usize>, source: candle_core::Error) -> Error {
        let batch_size = self.train.config().batch_size;
        let (ranks, source) = (self.number_of_ranks(), Box::new(source));
        Error::SingleSample { samples, batch_size, ranks, source }
    }

    fn number_of_ranks(&self) -> usize {
        self.ranks.as_ref().map_or(1, |ranks| ranks.communicator().size())
    }

    /// Whether batch norm never sees a sample alone, because it takes those of all ranks.
    pub(super) fn normalises_across_ranks(&self) -> bool {
        self.number_of_ranks() > 1 && self.config.distributed.synchronises_batch_norm()
    }

    /// The number of the batch of each epoch in which a rank has one sample, if there is one.
    fn lonely_batch(&self) -> Option<usize> {
        if self.normalises_across_ranks() {
            return None;
        }
        // All batches but the last have as many samples. Ranks share a batch evenly.
        let candidates = [0, self.batches().saturating_sub(1)];
        let least = |number: &usize| self.train.batch_len_of_all(*number) / self.number_of_ranks();
        candidates.into_iter().find(|number| least(number) == 1)
    }

    /// Whether the frozen part of the network learns before the run ends.
    fn is_unfrozen_later(&self) -> bool {
        self.config.freeze.as_ref().is_some_and(|freeze| freeze.epochs < self.config.epochs)
    }

    /// The error of a training pass if it fails for this one sample but succeeds for two copies of it. In
    /// that case the batch size is the cause, whichever layer reports the error.
    fn refused_alone(&self, one: &Tensor) -> Result<Option<candle_core::Error>> {
        let Err(error) = self.tried(one)? else { return Ok(None) };
        let two = Tensor::cat(&[one, one], 0)?;
        Ok(self.tried(&two)?.is_ok().then_some(error))
    }

    /// Tries a training pass and drops its results. Running statistics stay as before.
    fn tried(&self, images: &Tensor) -> Result<TensorResult<()>> {
        let buffers = KeptValues::of(self.model.parameters().buffers())?;
        let (model, precision) = (self.model, self.config.precision);
        let frozen_batch_norm = self.frozen_batch_norm();
        let tried = in_pool(|| {
            let pass = Pass::train(0).precision(precision);
            model.forward(images, &mut pass.frozen_batch_norm(frozen_batch_norm)).map(|_| ())
        });
        buffers.put_back()?;
        Ok(tried)
    }
}
