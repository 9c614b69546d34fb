//! SqueezeNet (Iandola et al. 2016, <https://arxiv.org/abs/1602.07360>), torchvision's two versions.

use candle_core::{DType, Result, Tensor};
use candle_vision_ops::{Activation, MaxPool2dConfig, cast, cat};

use super::config::{backbone_and_head, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{Conv2d, Conv2dOptions, Dropout, GlobalAvgPool, MaxPool2d, images_to_features};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "classifier.1";
const CAM_LAYER: &str = "features.12";

pub(super) fn squeezenet1_0() -> NetworkEntry {
    squeezenet("squeezenet1_0", SqueezeNetConfig::v1_0)
        .summary("Iandola et al. 2016, version 1.0: the paper's")
}

pub(super) fn squeezenet1_1() -> NetworkEntry {
    squeezenet("squeezenet1_1", SqueezeNetConfig::v1_1)
        .summary("Iandola et al. 2016, version 1.1: less than half the multiply-adds")
}

fn squeezenet(name: &str, config: fn() -> SqueezeNetConfig) -> NetworkEntry {
    torchvision(name, move |spec, vb| SqueezeNet::new(config().spec(spec), vb))
        .family("squeezenet")
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// Which form a [`SqueezeNet`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqueezeNetVersion {
    /// The paper's: a 7x7 stem of 96 channels.
    V1_0,
    /// A 3x3 stem of 64 channels, and smaller maps from the third block on.
    V1_1,
}

/// Channels between the two halves of the eight fire blocks, and a quarter of the channels that come out.
const FIRES: [(usize, usize); 8] =
    [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)];

impl SqueezeNetVersion {
    /// The stem of `channels`. It begins with PyTorch's padding, which is none.
    fn stem(self, channels: usize) -> Conv2dOptions {
        match self {
            Self::V1_0 => conv(channels, 96, 7).stride(2),
            Self::V1_1 => conv(channels, 64, 3).stride(2),
        }
    }

    /// The fire blocks, counted from 0, that a max pool comes before.
    fn pooled(self) -> [usize; 3] {
        match self {
            Self::V1_0 => [0, 3, 7],
            Self::V1_1 => [0, 2, 4],
        }
    }
}

/// A convolution with torchvision's initial values.
fn conv(from: usize, to: usize, kernel: usize) -> Conv2dOptions {
    let bound = (6.0 / (from * kernel * kernel) as f64).sqrt();
    let init = Init::Uniform { low: -bound, high: bound };
    Conv2dOptions::new(from, to, kernel).init(init).bias_init(Init::Constant(0.0))
}

/// The sizes of a [`SqueezeNet`].
///
/// ```
/// use candle_vision_models::{SqueezeNetConfig, SqueezeNetVersion};
///
/// assert_eq!(SqueezeNetConfig::v1_1().num_classes(10).version, SqueezeNetVersion::V1_1);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SqueezeNetConfig {
    /// Which form it has.
    pub version: SqueezeNetVersion,
    /// Probability of dropout before the classifier where the spec names none. Default 0.5.
    pub dropout: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl SqueezeNetConfig {
    /// Version 1.0, the paper's.
    pub fn v1_0() -> Self {
        let spec = ModelSpec::new("squeezenet1_0", 1000);
        Self { version: SqueezeNetVersion::V1_0, dropout: 0.5, spec }
    }

    /// Version 1.1.
    pub fn v1_1() -> Self {
        let spec = ModelSpec::new("squeezenet1_1", 1000);
        Self { version: SqueezeNetVersion::V1_1, dropout: 0.5, spec }
    }

    /// Sets the probability of dropout before the classifier, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }
}

of_spec!(SqueezeNet, SqueezeNetConfig);

/// `features.0`, eight fire blocks up to `features.12`, and the 1x1 convolution `classifier.1`, whose maps are
/// averaged after a ReLU: no logit is negative.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{Model, Parameters, Pass, SqueezeNet, SqueezeNetConfig};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = SqueezeNet::new(SqueezeNetConfig::v1_1().num_classes(10), vb)?;
/// let images = Tensor::zeros((1, 3, 48, 48), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 512, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct SqueezeNet {
    spec: ModelSpec,
    parameters: Parameters,
    stem: Activated,
    blocks: Vec<Block>,
    dropout: Dropout,
    classifier: Activated,
    avgpool: GlobalAvgPool,
    dtype: DType,
}

/// A convolution and the path of its ReLU.
struct Activated(Conv2d, String);

impl Activated {
    fn new(options: Conv2dOptions, conv: ParameterBuilder, relu: ParameterBuilder) -> Result<Self> {
        Ok(Self(Conv2d::new(options, conv)?, relu.path().to_owned()))
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.forward_activated(x, Activation::Relu, &self.1, pass)
    }
}

/// Few channels, then 1x1 and 3x3 convolutions side by side.
struct Fire {
    path: String,
    squeeze: Activated,
    expand1x1: Activated,
    expand3x3: Activated,
}

impl Fire {
    fn new(from: usize, squeezed: usize, expanded: usize, vb: ParameterBuilder) -> Result<Self> {
        let layer = |options: Conv2dOptions, name: &str| {
            Activated::new(options, vb.pp(name), vb.pp(format!("{name}_activation")))
        };
        Ok(Self {
            path: vb.path().to_owned(),
            squeeze: layer(conv(from, squeezed, 1), "squeeze")?,
            expand1x1: layer(conv(squeezed, expanded, 1), "expand1x1")?,
            expand3x3: layer(conv(squeezed, expanded, 3).padding(1), "expand3x3")?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let x = self.squeeze.forward(&x, pass)?;
        let one = self.expand1x1.forward(&x, pass)?;
        let three = self.expand3x3.forward(&x, pass)?;
        pass.output(&self.path, cat(&[one, three], 3)?)
    }
}

/// A fire block, after a max pool where there is one.
struct Block {
    pool: Option<MaxPool2d>,
    fire: Fire,
}

impl SqueezeNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, or a name is taken.
    pub fn new(config: SqueezeNetConfig, vb: ParameterBuilder) -> Result<Self> {
        let SqueezeNetConfig { version, dropout, spec } = config;
        check(&spec)?;
        let vf = vb.pp("features");
        let stem = version.stem(spec.input[0]);
        let pool = MaxPool2dConfig::new(3).stride(2).ceil_mode(true);
        let (mut blocks, mut from, mut number) = (Vec::new(), stem.out_channels, 2);
        let stem = Activated::new(stem, vf.pp(0), vf.pp(1))?;
        for (i, (squeezed, expanded)) in FIRES.into_iter().enumerate() {
            let pool = version.pooled().contains(&i).then(|| {
                number += 1;
                MaxPool2d::new(pool, vf.pp(number - 1))
            });
            let fire = Fire::new(from, squeezed, expanded, vf.pp(number))?;
            blocks.push(Block { pool, fire });
            (from, number) = (2 * expanded, number + 1);
        }
        let init = Init::Normal { mean: 0.0, std: 0.01 };
        let head = conv(from, spec.num_classes, 1).init(init);
        Ok(Self {
            dropout: Dropout::new(spec.dropout.unwrap_or(dropout), vb.pp("classifier.0")),
            classifier: Activated::new(head, vb.pp(HEAD), vb.pp("classifier.2"))?,
            avgpool: GlobalAvgPool::new(vb.pp("classifier.3")),
            dtype: vb.dtype(),
            parameters: vb.parameters(),
            spec,
            stem,
            blocks,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for Block { pool, fire } in &self.blocks {
            if let Some(pool) = pool {
                x = pool.forward(&x, pass)?;
            }
            x = fire.forward(&x, pass)?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.dropout.forward(x, pass)?;
        let x = self.classifier.forward(&x, pass)?;
        // The logits have the number type of the parameters, whatever the precision of the pass.
        self.avgpool.forward(&cast(&x, self.dtype)?, pass)
    }
}

impl Model for SqueezeNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }
}
