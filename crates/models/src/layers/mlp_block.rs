//! The two linear layers of a transformer block.

use candle_core::{Result, Tensor};

use super::{Dropout, Gelu, Linear, LinearOptions};
use crate::{Init, ParameterBuilder, Pass};

/// The sizes of an [`MlpBlock`], its names and its initial values.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MlpBlockOptions {
    /// Features of a token.
    pub features: usize,
    /// Features between the two layers.
    pub hidden_features: usize,
    /// Probability of dropout behind each layer. Default 0.
    pub dropout: f64,
    /// The names of the first layer, the activation, its dropout, the second layer and its dropout. Default
    /// torchvision's, `0` to `4`.
    pub names: [&'static str; 5],
    /// What the weights and the biases begin with. If `None`, [`Init::xavier_uniform`] and a normal distribution
    /// with a standard deviation of 1e-6, as in torchvision's `MLPBlock`.
    pub init: Option<[Init; 2]>,
}

impl MlpBlockOptions {
    /// torchvision's names and initial values.
    pub fn new(features: usize, hidden_features: usize) -> Self {
        let names = ["0", "1", "2", "3", "4"];
        Self { features, hidden_features, dropout: 0.0, names, init: None }
    }

    /// Sets the names to those of timm's `Mlp`: `fc1`, `act`, `drop1`, `fc2`, `drop2`.
    pub fn timm_names(self) -> Self {
        Self { names: ["fc1", "act", "drop1", "fc2", "drop2"], ..self }
    }

    /// Sets the probability of dropout behind each layer, a fraction in `0.0..1.0`.
    pub fn dropout(self, dropout: f64) -> Self {
        Self { dropout, ..self }
    }

    /// Sets what the weights and the biases begin with.
    pub fn init(self, weight: Init, bias: Init) -> Self {
        Self { init: Some([weight, bias]), ..self }
    }
}

/// A linear layer, GELU and another linear layer, each followed by dropout: torchvision's `MLPBlock`, timm's `Mlp`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::layers::{MlpBlock, MlpBlockOptions};
/// use candle_vision_models::{Parameters, Pass};
///
/// let parameters = Parameters::new();
/// let vb = parameters.builder(0, DType::F32, &Device::Cpu);
/// let mlp = MlpBlock::new(MlpBlockOptions::new(8, 32).timm_names(), vb.pp("mlp"))?;
/// assert_eq!(parameters.get("mlp.fc1.weight").unwrap().var().dims(), [32, 8]);
/// let x = Tensor::ones((1, 5, 8), DType::F32, &Device::Cpu)?;
/// assert_eq!(mlp.forward(&x, &mut Pass::eval())?.dims(), [1, 5, 8]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct MlpBlock {
    path: String,
    first: Linear,
    gelu: Gelu,
    second: Linear,
    dropouts: [Dropout; 2],
}

impl MlpBlock {
    /// The block with new parameters.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn new(options: MlpBlockOptions, vb: ParameterBuilder) -> Result<Self> {
        let MlpBlockOptions { features, hidden_features, dropout, names, init } = options;
        let xavier = Init::xavier_uniform(features, hidden_features);
        let [weight, bias] = init.unwrap_or([xavier, Init::Normal { mean: 0.0, std: 1e-6 }]);
        let linear = |from, to, name| {
            Linear::new(LinearOptions::new(from, to).init(weight).bias_init(bias), vb.pp(name))
        };
        Ok(Self {
            path: vb.path().to_owned(),
            first: linear(features, hidden_features, names[0])?,
            gelu: Gelu::new(vb.pp(names[1])),
            second: linear(hidden_features, features, names[3])?,
            dropouts: [names[2], names[4]].map(|name| Dropout::new(dropout, vb.pp(name))),
        })
    }

    /// `[.., features]` to the same shape.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let [first_dropout, second_dropout] = &self.dropouts;
        let x = self.gelu.forward(&self.first.forward(&x, pass)?, pass)?;
        let x = self.second.forward(&first_dropout.forward(&x, pass)?, pass)?;
        let x = second_dropout.forward(&x, pass)?;
        pass.output(&self.path, x)
    }
}
