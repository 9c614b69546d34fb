//! One hidden layer.

use candle_core::{Result, Tensor, bail};

use super::config::of_spec;
use super::{InputSizes, NetworkEntry, check, row};
use crate::layers::{Linear, Relu};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

pub(super) fn mlp() -> NetworkEntry {
    row("mlp", |spec, vb| Mlp::new(MlpConfig::new().spec(spec), vb))
        .summary("one hidden layer of 128 units on the flattened image")
        .input([1, 28, 28])
        .sizes(InputSizes::fixed_from(1))
        .head("layer2")
}

/// The sizes of an [`Mlp`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MlpConfig {
    /// Units of the hidden layer. Default 128.
    pub hidden: usize,
    /// Name, classes and image size. Default: 10 classes of 28x28 pixels in one channel.
    pub spec: ModelSpec,
}

impl MlpConfig {
    /// 128 hidden units for MNIST.
    pub fn new() -> Self {
        Self { hidden: 128, spec: ModelSpec::new("mlp", 10) }
    }

    /// Sets the units of the hidden layer.
    pub fn hidden(mut self, hidden: usize) -> Self {
        self.hidden = hidden;
        self
    }
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self::new()
    }
}

of_spec!(Mlp, MlpConfig);

/// Flattened image, `layer1`, ReLU, `layer2`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{Mlp, MlpConfig, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = Mlp::new(MlpConfig::new().hidden(32), vb)?;
/// let images = Tensor::zeros((5, 1, 28, 28), DType::F32, &Device::Cpu)?;
/// assert_eq!(model.forward(&images, &mut Pass::eval())?.dims(), [5, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct Mlp {
    spec: ModelSpec,
    parameters: Parameters,
    layer1: Linear,
    relu: Relu,
    layer2: Linear,
}

impl Mlp {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes or no pixels, or a name is taken.
    pub fn new(config: MlpConfig, vb: ParameterBuilder) -> Result<Self> {
        let MlpConfig { hidden, spec } = config;
        check(&spec)?;
        let inputs = spec.input.iter().product();
        Ok(Self {
            layer1: Linear::new((inputs, hidden), vb.pp("layer1"))?,
            relu: Relu::new(vb.pp("relu")),
            layer2: Linear::new((hidden, spec.num_classes), vb.pp("layer2"))?,
            spec,
            parameters: vb.parameters(),
        })
    }
}

impl Model for Mlp {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.forward_head(&self.forward_features(images, pass)?, pass)
    }

    fn forward_features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        if images.rank() != 4 || images.dims()[1..] != self.spec.input {
            let [channels, height, width] = self.spec.input;
            bail!(
                "this mlp takes images of [batch, {channels}, {height}, {width}], got {:?}",
                images.dims()
            )
        }
        // Channel-first order, as `torch.flatten`.
        let x = images.contiguous()?.flatten_from(1)?;
        self.relu.forward(&self.layer1.forward(&x, pass)?, pass)
    }

    fn forward_head(&self, features: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.layer2.logits(features, pass)
    }

    fn head(&self) -> &str {
        "layer2"
    }
}
