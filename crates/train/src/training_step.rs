//! One step of training, and what is said when it fails.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::{FrozenBatchNorm, Model, Parameter, Pass};
use candle_vision_ops::{Generator, backward, sum_of_squares};
use rand::SeedableRng;

use crate::criterion::Criterion;
use crate::metrics::count_in_top_k;
use crate::optim::{Optimizer, grad_norm};
use crate::{Error, Result};

/// Keeps dropout's numbers apart from those that others draw from the same seed.
const PURPOSE: u64 = 0x4452_4F50_4F55_5421;

/// What a step needs besides its batch.
pub(crate) struct Step<'a> {
    pub(crate) model: &'a dyn Model,
    pub(crate) criterion: &'a Criterion,
    pub(crate) frozen_batch_norm: FrozenBatchNorm,
    pub(crate) grad_clip_norm: Option<f64>,
    pub(crate) seed: u64,
    /// Number of the step in the whole run: names the step's random numbers.
    pub(crate) number: usize,
}

/// What a step found before it changed anything.
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    pub(crate) correct: usize,
    pub(crate) samples: usize,
}

/// Why a step came to no finite end.
pub(crate) struct NotFinite {
    pub(crate) what: String,
    pub(crate) parameter: Option<String>,
}

impl Step<'_> {
    /// Forward, backward, update. `Ok(Err(_))` if the loss or a parameter is not finite.
    pub(crate) fn run(
        &self,
        batch: &Batch,
        optimizer: &mut Optimizer,
    ) -> Result<Result<Outcome, NotFinite>> {
        let mut pass = Pass::train(self.generator()).frozen_batch_norm(self.frozen_batch_norm);
        let logits = self.model.forward(&batch.images, &mut pass)?;
        let loss = self.criterion.loss(&logits, &batch.labels)?;
        let value = loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !value.is_finite() {
            let parameter = self.first_not_finite(&loss)?;
            return Ok(Err(NotFinite { what: format!("the loss is {value}"), parameter }));
        }
        let correct = count_in_top_k(&logits, &batch.labels, 1)?;
        let grads = backward(&loss)?;
        let scale = self.clipping(&grads)?;
        match optimizer.step_scaled(&grads, scale) {
            Ok(()) => Ok(Ok(Outcome { loss: value, correct, samples: batch.indices.len() })),
            Err(Error::NotFinite { parameter }) => Ok(Err(NotFinite {
                what: format!("the loss is {value} but a parameter is not finite"),
                parameter: Some(parameter),
            })),
            Err(error) => Err(error),
        }
    }

    fn generator(&self) -> Generator {
        let mut generator = Generator::seed_from_u64(self.seed ^ PURPOSE);
        generator.set_stream(self.number as u64);
        generator
    }

    /// The factor that brings the gradients down to the largest norm, as PyTorch's
    /// `clip_grad_norm_`.
    fn clipping(&self, grads: &GradStore) -> Result<f64> {
        let Some(largest) = self.grad_clip_norm else {
            return Ok(1.0);
        };
        let norm = grad_norm(&self.model.parameters().trainable(), grads)?;
        Ok((largest / (norm + 1e-6)).min(1.0))
    }

    /// The first parameter whose values are not finite, else the first whose gradient is not.
    fn first_not_finite(&self, loss: &Tensor) -> Result<Option<String>> {
        let all = self.model.parameters().all();
        if let Some(path) = first(&all, |parameter| Some(parameter.detached()))? {
            return Ok(Some(path));
        }
        let grads = backward(loss)?;
        first(&all, |parameter| grads.get(parameter.var()).cloned())
    }
}

fn first(
    parameters: &[Parameter],
    tensor: impl Fn(&Parameter) -> Option<Tensor>,
) -> Result<Option<String>> {
    for parameter in parameters.iter().filter(|parameter| parameter.var().dtype().is_float()) {
        // Squares of f32 cannot overflow in f64.
        let Some(tensor) = tensor(parameter) else {
            continue;
        };
        if !sum_of_squares(&tensor)?.is_finite() {
            return Ok(Some(parameter.path().to_owned()));
        }
    }
    Ok(None)
}
