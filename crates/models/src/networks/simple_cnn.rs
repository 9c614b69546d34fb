//! The small convolutional network for CIFAR-10.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Conv2dConfig, MaxPool2dConfig, max_pool2d};

use super::require_three_halvings;
use crate::layers::{Conv2d, Linear, flatten, images_to_features, relu_at};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// `conv1..3` (32, 64, 128 channels, 3x3, relu, 2x2 max pool), `fc1` (512 units), `fc2`.
pub struct SimpleCnn {
    spec: ModelSpec,
    parameters: Parameters,
    conv1: Conv2d,
    conv2: Conv2d,
    conv3: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl SimpleCnn {
    pub(super) fn new(
        spec: ModelSpec,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let [channels, height, width] = spec.input;
        require_three_halvings(&spec)?;
        let conv = |name, from, to| {
            Conv2d::new(from, to, [3, 3], Conv2dConfig::default().padding(1), vb.pp(name))
        };
        Ok(Self {
            conv1: conv("conv1", channels, 32)?,
            conv2: conv("conv2", 32, 64)?,
            conv3: conv("conv3", 64, 128)?,
            fc1: Linear::new(128 * (height / 8) * (width / 8), 512, vb.pp("fc1"))?,
            fc2: Linear::new(512, spec.num_classes, vb.pp("fc2"))?,
            spec,
            parameters,
        })
    }
}

impl Model for SimpleCnn {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = images_to_features(images, self.spec.input[0])?;
        let convs = [&self.conv1, &self.conv2, &self.conv3];
        for (conv, relu) in convs.into_iter().zip(["relu1", "relu2", "relu3"]) {
            x = conv.forward_relu(&x, relu, pass)?;
            x = max_pool2d(&x, &MaxPool2dConfig::new(2))?;
        }
        let x = self.fc1.forward(&flatten(&x)?, pass)?;
        let x = relu_at("relu", &x, pass)?;
        self.fc2.logits(&x, pass)
    }

    fn head(&self) -> &'static str {
        "fc2"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        Some("conv3")
    }
}
