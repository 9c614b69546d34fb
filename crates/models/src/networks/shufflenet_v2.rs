//! ShuffleNet v2 (Ma et al. 2018, <https://arxiv.org/abs/1807.11164>), torchvision's form.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, MaxPool2dConfig, cat, channel_shuffle, split};

use super::config::{backbone_and_head, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    ConvNorm, ConvNormOptions, GlobalAvgPool, Linear, MaxPool2d, images_to_features,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "fc";
const CAM_LAYER: &str = "conv5.2";

pub(super) fn shufflenet_v2_x0_5() -> NetworkEntry {
    shufflenet("shufflenet_v2_x0_5", ShuffleNetV2Config::x0_5)
        .summary("Ma et al. 2018, half as wide")
}

pub(super) fn shufflenet_v2_x1_0() -> NetworkEntry {
    shufflenet("shufflenet_v2_x1_0", ShuffleNetV2Config::x1_0)
        .summary("Ma et al. 2018, shuffled channels")
}

pub(super) fn shufflenet_v2_x1_5() -> NetworkEntry {
    shufflenet("shufflenet_v2_x1_5", ShuffleNetV2Config::x1_5)
        .summary("Ma et al. 2018, 1.5 times as wide")
}

pub(super) fn shufflenet_v2_x2_0() -> NetworkEntry {
    shufflenet("shufflenet_v2_x2_0", ShuffleNetV2Config::x2_0)
        .summary("Ma et al. 2018, twice as wide")
}

fn shufflenet(name: &str, config: fn() -> ShuffleNetV2Config) -> NetworkEntry {
    torchvision(name, move |spec, vb| ShuffleNetV2::new(config().spec(spec), vb))
        .family("shufflenet_v2")
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// The sizes of a [`ShuffleNetV2`].
///
/// ```
/// use candle_vision_models::ShuffleNetV2Config;
///
/// let narrow = ShuffleNetV2Config::new([24, 24, 48, 96, 256]);
/// assert_eq!(narrow.layers, [4, 8, 4]);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ShuffleNetV2Config {
    /// Blocks of each of the three stages. Default 4, 8 and 4.
    pub layers: [usize; 3],
    /// Channels of the stem, of the three stages, and of the last convolution. Those of the stages are even.
    pub channels: [usize; 5],
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl ShuffleNetV2Config {
    /// Channels of the stem, of the three stages, and of the last convolution. The network is called `shufflenet_v2`;
    /// one that is to be built again from a checkpoint needs a [`NetworkEntry`] and takes its spec from there.
    pub fn new(channels: [usize; 5]) -> Self {
        Self { layers: [4, 8, 4], channels, spec: ModelSpec::new("shufflenet_v2", 1000) }
    }

    /// Half as wide as [`Self::x1_0`].
    pub fn x0_5() -> Self {
        Self::new([24, 48, 96, 192, 1024]).called("shufflenet_v2_x0_5")
    }

    /// The width of the paper's comparisons.
    pub fn x1_0() -> Self {
        Self::new([24, 116, 232, 464, 1024]).called("shufflenet_v2_x1_0")
    }

    /// 1.5 times as wide as [`Self::x1_0`].
    pub fn x1_5() -> Self {
        Self::new([24, 176, 352, 704, 1024]).called("shufflenet_v2_x1_5")
    }

    /// Twice as wide as [`Self::x1_0`].
    pub fn x2_0() -> Self {
        Self::new([24, 244, 488, 976, 2048]).called("shufflenet_v2_x2_0")
    }

    /// Sets the blocks of each of the three stages.
    pub fn layers(mut self, layers: [usize; 3]) -> Self {
        self.layers = layers;
        self
    }

    fn called(mut self, name: &str) -> Self {
        self.spec.architecture = name.to_owned();
        self
    }
}

of_spec!(ShuffleNetV2, ShuffleNetV2Config);

/// `conv1`, `stage2..4`, `conv5` and `fc`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{Model, Parameters, Pass, ShuffleNetV2, ShuffleNetV2Config};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = ShuffleNetV2::new(ShuffleNetV2Config::x0_5().num_classes(10), vb)?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 1024, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct ShuffleNetV2 {
    spec: ModelSpec,
    parameters: Parameters,
    conv1: ConvNorm,
    maxpool: MaxPool2d,
    stages: Vec<Stage>,
    conv5: ConvNorm,
    avgpool: GlobalAvgPool,
    fc: Linear,
}

/// A convolution with PyTorch's initial values, and its norm.
fn conv(from: usize, to: usize, kernel: usize) -> ConvNormOptions {
    ConvNormOptions::new(from, to, kernel).init(Init::fan_in_uniform(from * kernel * kernel))
}

/// A 3x3 convolution of each channel by itself, without an activation.
fn depthwise(channels: usize, stride: usize) -> ConvNormOptions {
    let conv = conv(channels, channels, 3).groups(channels).init(Init::fan_in_uniform(9));
    conv.stride(stride).activation(Activation::Identity)
}

/// Figure 3 (c) and (d) of the paper: half of the channels pass by, or go through a short branch where the map is
/// halved; the other half goes through three convolutions.
struct Block {
    path: String,
    branch1: Option<[ConvNorm; 2]>,
    branch2: [ConvNorm; 3],
    /// Channels of a half.
    half: usize,
}

impl Block {
    fn new(from: usize, to: usize, stride: usize, vb: ParameterBuilder) -> Result<Self> {
        let half = to / 2;
        let branch1 = if stride > 1 {
            let vb = vb.pp("branch1");
            Some([
                ConvNorm::new(depthwise(from, stride).names("0", "1", ""), vb.clone())?,
                ConvNorm::new(conv(from, half, 1).names("2", "3", "4"), vb)?,
            ])
        } else {
            None
        };
        let from = if stride > 1 { from } else { half };
        let vb2 = vb.pp("branch2");
        let branch2 = [
            ConvNorm::new(conv(from, half, 1), vb2.clone())?,
            ConvNorm::new(depthwise(half, stride).names("3", "4", ""), vb2.clone())?,
            ConvNorm::new(conv(half, half, 1).names("5", "6", "7"), vb2)?,
        ];
        Ok(Self { path: vb.path().to_owned(), branch1, branch2, half })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let (first, mut second) = match &self.branch1 {
            Some([filter, project]) => {
                let y = filter.forward(&x, pass)?;
                (project.forward(&y, pass)?, x)
            }
            None => {
                let mut halves = split(&x, 3, &[self.half, self.half])?.into_iter();
                (halves.next().unwrap_or_else(|| x.clone()), halves.next().unwrap_or(x))
            }
        };
        for conv in &self.branch2 {
            second = conv.forward(&second, pass)?;
        }
        let y = channel_shuffle(&cat(&[first, second], 3)?, 2)?;
        pass.output(&self.path, y)
    }
}

/// Blocks of one width; the first halves the map.
struct Stage {
    path: String,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(from: usize, to: usize, blocks: usize, vb: ParameterBuilder) -> Result<Self> {
        let block = |i| {
            let (from, stride) = if i == 0 { (from, 2) } else { (to, 1) };
            Block::new(from, to, stride, vb.pp(i))
        };
        let blocks = (0..blocks).map(block).collect::<Result<_>>()?;
        Ok(Self { path: vb.path().to_owned(), blocks })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = pass.input(&self.path, x)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        pass.output(&self.path, x)
    }
}

impl ShuffleNetV2 {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, a stage has an odd number of channels or no block, or a name is taken.
    pub fn new(config: ShuffleNetV2Config, vb: ParameterBuilder) -> Result<Self> {
        let ShuffleNetV2Config { layers, channels, spec } = config;
        check(&spec)?;
        let [stem, of_stages @ .., last] = channels;
        if of_stages.iter().any(|channels| !channels.is_multiple_of(2)) || layers.contains(&0) {
            candle_core::bail!(
                "`{}`: each stage has a block and an even number of channels, got {layers:?} and {of_stages:?}",
                spec.architecture
            )
        }
        let conv1 = ConvNorm::new(conv(spec.input[0], stem, 3).stride(2), vb.pp("conv1"))?;
        let mut from = stem;
        let mut stages = Vec::new();
        for (i, (to, blocks)) in of_stages.into_iter().zip(layers).enumerate() {
            stages.push(Stage::new(from, to, blocks, vb.pp(format!("stage{}", i + 2)))?);
            from = to;
        }
        let pool = MaxPool2dConfig::new(3).stride(2).padding(1);
        Ok(Self {
            maxpool: MaxPool2d::new(pool, vb.pp("maxpool")),
            conv5: ConvNorm::new(conv(from, last, 1), vb.pp("conv5"))?,
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            fc: Linear::new((last, spec.num_classes), vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
            conv1,
            stages,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let x = self.conv1.forward(&x, pass)?;
        let mut x = self.maxpool.forward(&x, pass)?;
        for stage in &self.stages {
            x = stage.forward(&x, pass)?;
        }
        self.conv5.forward(&x, pass)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.fc.logits(&self.avgpool.forward(x, pass)?, pass)
    }
}

impl Model for ShuffleNetV2 {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }
}
