//! Dropout with a seeded mask.

use candle_core::{Result, Tensor};
use candle_vision_ops::dropout;

use crate::{ParameterBuilder, Pass};

/// `torch.nn.Dropout`: in a training pass, drops each element with a probability and scales the
/// others up; otherwise does nothing.
#[derive(Debug, Clone)]
pub struct Dropout {
    path: String,
    probability: f64,
}

impl Dropout {
    /// Drops with `probability`, a fraction in `0.0..1.0`. The layer has no parameters; hooks see it at the
    /// path of `vb`.
    pub fn new(probability: f64, vb: ParameterBuilder) -> Self {
        Self { path: vb.path().to_owned(), probability }
    }

    /// A tensor of the shape of `x`, which may be any.
    ///
    /// # Errors
    /// If the probability is not in `0.0..1.0`, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let y = if pass.is_train() && self.probability > 0.0 {
            dropout(x, self.probability, pass.generator())?
        } else {
            x.clone()
        };
        pass.output(&self.path, y)
    }
}
