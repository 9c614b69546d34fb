//! One hidden layer.

use candle_core::{Result, Tensor, bail};

use crate::layers::{Linear, relu_at};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HIDDEN: usize = 128;

/// Flattened image, `layer1` with 128 units, relu, `layer2`.
pub struct Mlp {
    spec: ModelSpec,
    parameters: Parameters,
    layer1: Linear,
    layer2: Linear,
}

impl Mlp {
    pub(super) fn new(
        spec: ModelSpec,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let inputs = spec.input.iter().product();
        Ok(Self {
            layer1: Linear::new(inputs, HIDDEN, vb.pp("layer1"))?,
            layer2: Linear::new(HIDDEN, spec.num_classes, vb.pp("layer2"))?,
            spec,
            parameters,
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
        if images.rank() != 4 || images.dims()[1..] != self.spec.input {
            let [channels, height, width] = self.spec.input;
            bail!(
                "this mlp takes images of [batch, {channels}, {height}, {width}], got {:?}",
                images.dims()
            )
        }
        // Channel-first order, as `torch.flatten`.
        let x = images.contiguous()?.flatten_from(1)?;
        let x = self.layer1.forward(&x, pass)?;
        let x = relu_at("relu", &x, pass)?;
        self.layer2.logits(&x, pass)
    }

    fn head(&self) -> &'static str {
        "layer2"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        None
    }
}
