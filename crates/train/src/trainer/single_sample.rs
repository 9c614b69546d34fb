//! A batch of one sample, on which a network with batch norm may not be trainable.

use candle_core::{Result as TensorResult, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::{ParameterKind, Pass};
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
        let released = self.frozen.iter().flatten().filter(|_| self.is_unfrozen_later());
        let released: Vec<_> = released.cloned().collect();
        release(self.model, &released)?;
        let refused = self.refused_alone(&batch);
        freeze(self.model, &released)?;
        match refused? {
            Some(source) => Err(self.single_sample(Some(self.train.samples_per_epoch()), source)),
            None => Ok(()),
        }
    }

    /// If the batch of a failed step has one sample, explains the error by that.
    pub(super) fn explain_single(&self, batch: &Batch, error: Error) -> Error {
        match self.refused_alone(batch) {
            Ok(Some(source)) => {
                let is_whole = self.lonely_batch().is_some();
                let samples = is_whole.then(|| self.train.samples_per_epoch());
                self.single_sample(samples, source)
            }
            _ => error,
        }
    }

    fn single_sample(&self, samples: Option<usize>, source: candle_core::Error) -> Error {
        Error::SingleSample { samples, batch_size: self.train.config().batch_size, source }
    }

    /// The number of the one-sample batch that each epoch has, if there is one.
    fn lonely_batch(&self) -> Option<usize> {
        let (samples, size) = (self.train.samples_per_epoch(), self.train.config().batch_size);
        let (all, used) = (self.train.batches_per_epoch(), self.batches());
        match size {
            1 => Some(0),
            _ => (samples % size == 1 && !self.train.config().drop_last && used == all)
                .then_some(all - 1),
        }
    }

    /// Whether the frozen part of the network learns before the run ends.
    fn is_unfrozen_later(&self) -> bool {
        self.config.freeze.as_ref().is_some_and(|freeze| freeze.epochs < self.config.epochs)
    }

    /// The error of a training pass if it fails for this one sample but succeeds for two copies of it. In
    /// that case the batch size is the cause, whichever layer reports the error.
    fn refused_alone(&self, batch: &Batch) -> Result<Option<candle_core::Error>> {
        if batch.indices.len() != 1 {
            return Ok(None);
        }
        let Err(error) = self.tried(&batch.images)? else { return Ok(None) };
        let two = Tensor::cat(&[&batch.images, &batch.images], 0)?;
        Ok(self.tried(&two)?.is_ok().then_some(error))
    }

    /// Tries a training pass and drops its results. Running statistics stay as before.
    fn tried(&self, images: &Tensor) -> Result<TensorResult<()>> {
        let buffers = self.model.parameters().all().into_iter();
        let buffers = buffers.filter(|parameter| parameter.kind() == ParameterKind::Buffer);
        let saved = buffers.map(|buffer| {
            let values = buffer.detached().copy()?;
            Ok((buffer, values))
        });
        let saved: Vec<_> = saved.collect::<Result<_>>()?;
        let (model, precision) = (self.model, self.config.precision);
        let frozen_batch_norm = self.frozen_batch_norm();
        let tried = in_pool(|| {
            let pass = Pass::train(0).precision(precision);
            model.forward(images, &mut pass.frozen_batch_norm(frozen_batch_norm)).map(|_| ())
        });
        for (buffer, values) in saved {
            buffer.set(&values)?;
        }
        Ok(tried)
    }
}
