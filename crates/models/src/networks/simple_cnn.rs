//! The small convolutional network for CIFAR-10.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, MaxPool2dConfig, max_pool2d};

use super::config::{backbone_and_head, of_spec};
use super::{InputSizes, NetworkEntry, check_three_halvings, row};
use crate::layers::{Conv2d, Conv2dOptions, Linear, Relu, flatten, images_to_features};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

pub(super) fn simple_cnn() -> NetworkEntry {
    row("simple_cnn", |spec, vb| SimpleCnn::new(SimpleCnnConfig::new().spec(spec), vb))
        .summary("three 3x3 convolutions with pooling, two linear layers; for 32x32 images")
        .input([3, 32, 32])
        .sizes(InputSizes::fixed_from(8))
        .head("fc2")
        .cam_layer("conv3")
}

/// The sizes of a [`SimpleCnn`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SimpleCnnConfig {
    /// Name, classes and image size. Default: 10 classes of 32x32 pixels in three channels.
    pub spec: ModelSpec,
}

impl SimpleCnnConfig {
    /// For CIFAR-10.
    pub fn new() -> Self {
        Self { spec: ModelSpec::new("simple_cnn", 10) }
    }
}

impl Default for SimpleCnnConfig {
    fn default() -> Self {
        Self::new()
    }
}

of_spec!(SimpleCnn, SimpleCnnConfig);

/// `conv1..3` (32, 64, 128 channels, 3x3, ReLU, 2x2 max pool), `fc1` (512 units), `fc2`.
pub struct SimpleCnn {
    spec: ModelSpec,
    parameters: Parameters,
    conv1: Conv2d,
    conv2: Conv2d,
    conv3: Conv2d,
    fc1: Linear,
    relu: Relu,
    fc2: Linear,
}

impl SimpleCnn {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, images have less than 8x8 pixels, or a name is taken.
    pub fn new(config: SimpleCnnConfig, vb: ParameterBuilder) -> Result<Self> {
        let spec = config.spec;
        check_three_halvings(&spec)?;
        let [channels, height, width] = spec.input;
        let conv =
            |name, from, to| Conv2d::new(Conv2dOptions::new(from, to, 3).padding(1), vb.pp(name));
        Ok(Self {
            conv1: conv("conv1", channels, 32)?,
            conv2: conv("conv2", 32, 64)?,
            conv3: conv("conv3", 64, 128)?,
            fc1: Linear::new((128 * (height / 8) * (width / 8), 512), vb.pp("fc1"))?,
            relu: Relu::new(vb.pp("relu")),
            fc2: Linear::new((512, spec.num_classes), vb.pp("fc2"))?,
            spec,
            parameters: vb.parameters(),
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = images_to_features(images, self.spec.input[0])?;
        let convs = [&self.conv1, &self.conv2, &self.conv3];
        for (conv, relu) in convs.into_iter().zip(["relu1", "relu2", "relu3"]) {
            x = conv.forward_activated(&x, Activation::Relu, relu, pass)?;
            x = max_pool2d(&x, &MaxPool2dConfig::new(2))?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.fc1.forward(&flatten(x)?, pass)?;
        self.fc2.logits(&self.relu.forward(&x, pass)?, pass)
    }
}

impl Model for SimpleCnn {
    backbone_and_head!();

    fn head(&self) -> &str {
        "fc2"
    }

    fn cam_layer(&self) -> Option<&str> {
        Some("conv3")
    }
}
