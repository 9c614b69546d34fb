//! LeNet-5 (LeCun et al. 1998, <http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf>), in the form that textbooks have:
//! average pools without parameters, all maps of `S2` connected to all of `C3`, and a linear layer as the output.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, AvgPool2dConfig};

use super::config::{backbone_and_head, of_spec};
use super::{InputSizes, NetworkEntry, check, row};
use crate::layers::{AvgPool2d, Conv2d, Conv2dOptions, Linear, Tanh, flatten, images_to_features};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "fc3";
const CAM_LAYER: &str = "tanh2";
/// Side of the images in the paper, in pixels.
const SIDE: usize = 32;

pub(super) fn lenet5() -> NetworkEntry {
    row("lenet5", |spec, vb| LeNet::new(LeNetConfig::lenet5().spec(spec), vb))
        .family("lenet")
        .summary("LeCun et al. 1998, two 5x5 convolutions, tanh; for 28x28 grey images")
        .input([1, 28, 28])
        .sizes(InputSizes::fixed_from(8))
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// The sizes of a [`LeNet`].
///
/// ```
/// use candle_vision_models::LeNetConfig;
///
/// assert_eq!(LeNetConfig::lenet5().spec.input, [1, 28, 28]);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LeNetConfig {
    /// Name, classes and image size. Default: MNIST's 10 classes of 28x28 grey pixels.
    pub spec: ModelSpec,
}

impl LeNetConfig {
    /// For MNIST.
    pub fn lenet5() -> Self {
        Self { spec: ModelSpec::new("lenet5", 10).input([1, 28, 28]) }
    }
}

impl Default for LeNetConfig {
    fn default() -> Self {
        Self::lenet5()
    }
}

of_spec!(LeNet, LeNetConfig);

/// `conv1` (6 channels, 5x5), `conv2` (16 channels, 5x5), each with tanh and a 2x2 average pool, then `fc1` (120
/// units), `fc2` (84 units) and `fc3`.
///
/// The paper's images have 32x32 pixels. Smaller ones get a margin of zeros up to that size from the first
/// convolution, as the paper's 28x28 digits had one: the parameters are the same for either.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{LeNet, LeNetConfig, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = LeNet::new(LeNetConfig::lenet5(), vb)?;
/// assert_eq!(model.parameters().count(), 61_706);
/// let digits = Tensor::zeros((2, 1, 28, 28), DType::F32, &Device::Cpu)?;
/// assert_eq!(model.forward(&digits, &mut Pass::eval())?.dims(), [2, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct LeNet {
    spec: ModelSpec,
    parameters: Parameters,
    stages: [Stage; 2],
    hidden: [(Linear, Tanh); 2],
    fc3: Linear,
}

/// A convolution with its tanh, and a 2x2 average pool.
struct Stage {
    conv: Conv2d,
    tanh: String,
    pool: AvgPool2d,
}

impl Stage {
    fn new(options: Conv2dOptions, number: usize, vb: &ParameterBuilder) -> Result<Self> {
        let at = |name: &str| vb.pp(format!("{name}{number}"));
        Ok(Self {
            conv: Conv2d::new(options, at("conv"))?,
            tanh: at("tanh").path().to_owned(),
            pool: AvgPool2d::new(AvgPool2dConfig::new(2), at("pool")),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.conv.forward_activated(x, Activation::Tanh, &self.tanh, pass)?;
        self.pool.forward(&x, pass)
    }
}

/// The side of a map behind both stages, for an image of `side` pixels with its margin.
fn reduced(side: usize) -> usize {
    ((side - 4) / 2 - 4) / 2
}

impl LeNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, or a name is taken.
    pub fn new(config: LeNetConfig, vb: ParameterBuilder) -> Result<Self> {
        let LeNetConfig { spec } = config;
        check(&spec)?;
        let [channels, height, width] = spec.input;
        let [down, right] = [height, width].map(|side| SIDE.saturating_sub(side));
        let margin = [down / 2, down - down / 2, right / 2, right - right / 2];
        let features = 16 * reduced(height.max(SIDE)) * reduced(width.max(SIDE));
        let conv = Conv2dOptions::new;
        Ok(Self {
            stages: [
                Stage::new(conv(channels, 6, 5).padding(margin), 1, &vb)?,
                Stage::new(conv(6, 16, 5), 2, &vb)?,
            ],
            hidden: [
                (Linear::new((features, 120), vb.pp("fc1"))?, Tanh::new(vb.pp("tanh3"))),
                (Linear::new((120, 84), vb.pp("fc2"))?, Tanh::new(vb.pp("tanh4"))),
            ],
            fc3: Linear::new((84, spec.num_classes), vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = images_to_features(images, self.spec.input[0])?;
        for stage in &self.stages {
            x = stage.forward(&x, pass)?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = flatten(x)?;
        for (linear, tanh) in &self.hidden {
            x = tanh.forward(&linear.forward(&x, pass)?, pass)?;
        }
        self.fc3.logits(&x, pass)
    }
}

impl Model for LeNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }
}
