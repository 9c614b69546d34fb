//! Residual networks (He et al. 2015, <https://arxiv.org/abs/1512.03385>), their wide form
//! (Zagoruyko and Komodakis 2016) and ResNeXt (Xie et al. 2016).

use candle_core::{Result, Tensor};
use candle_vision_ops::MaxPool2dConfig;

use super::config::{backbone_and_head, of_spec};
use super::residual::{ResNetBlock, Stage};
use super::{NetworkEntry, check, row, torchvision};
use crate::layers::{
    ConvNorm, ConvNormOptions, GlobalAvgPool, Linear, MaxPool2d, images_to_features,
};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "fc";
const STEM: &str = "conv1.weight";
const CAM_LAYER: &str = "layer4";

pub(super) fn resnet18() -> NetworkEntry {
    resnet("resnet18", ResNetConfig::resnet18).summary("He et al. 2015, 18 layers")
}

pub(super) fn resnet34() -> NetworkEntry {
    resnet("resnet34", ResNetConfig::resnet34).summary("He et al. 2015, 34 layers")
}

pub(super) fn resnet50() -> NetworkEntry {
    resnet("resnet50", ResNetConfig::resnet50)
        .summary("He et al. 2015, 50 layers, bottleneck blocks")
}

pub(super) fn resnet101() -> NetworkEntry {
    resnet("resnet101", ResNetConfig::resnet101)
        .summary("He et al. 2015, 101 layers, bottleneck blocks")
}

pub(super) fn resnet152() -> NetworkEntry {
    resnet("resnet152", ResNetConfig::resnet152)
        .summary("He et al. 2015, 152 layers, bottleneck blocks")
}

pub(super) fn resnext50_32x4d() -> NetworkEntry {
    resnet("resnext50_32x4d", ResNetConfig::resnext50_32x4d)
        .summary("Xie et al. 2016, 50 layers, 32 groups")
}

pub(super) fn resnext101_32x8d() -> NetworkEntry {
    resnet("resnext101_32x8d", ResNetConfig::resnext101_32x8d)
        .summary("Xie et al. 2016, 101 layers, 32 groups, twice as wide")
}

pub(super) fn resnext101_64x4d() -> NetworkEntry {
    resnet("resnext101_64x4d", ResNetConfig::resnext101_64x4d)
        .summary("Xie et al. 2016, 101 layers, 64 groups")
}

pub(super) fn wide_resnet50_2() -> NetworkEntry {
    resnet("wide_resnet50_2", ResNetConfig::wide_resnet50_2)
        .summary("Zagoruyko and Komodakis 2016, 50 layers, twice as wide")
}

pub(super) fn wide_resnet101_2() -> NetworkEntry {
    resnet("wide_resnet101_2", ResNetConfig::wide_resnet101_2)
        .summary("Zagoruyko and Komodakis 2016, 101 layers, twice as wide")
}

pub(super) fn resnet18_32() -> NetworkEntry {
    row("resnet18_32", |spec, vb| ResNet::new(ResNetConfig::resnet18_32().spec(spec), vb))
        .summary("ResNet-18 for 32x32 images: a 3x3 stem of stride 1 and no pool behind it")
        .family("resnet")
        .input([3, 32, 32])
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

fn resnet(name: &str, config: fn() -> ResNetConfig) -> NetworkEntry {
    torchvision(name, move |spec, vb| ResNet::new(config().spec(spec), vb))
        .family("resnet")
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// The sizes of a [`ResNet`].
///
/// ```
/// use candle_vision_models::{ResNetBlock, ResNetConfig};
///
/// let resnet26 = ResNetConfig::bottleneck([2, 2, 2, 2]).num_classes(10);
/// assert_eq!(resnet26.block, ResNetBlock::BOTTLENECK);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ResNetConfig {
    /// What the stages consist of.
    pub block: ResNetBlock,
    /// Blocks of each of the four stages.
    pub layers: [usize; 4],
    /// Whether the stem is that for small images: a 3x3 convolution of stride 1 and no pool. It takes the centre of
    /// published 7x7 kernels. Default false.
    pub small_images: bool,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl ResNetConfig {
    /// `layers` blocks of the kind `block` in the four stages. The network is called `resnet`; one that is
    /// to be built again from a checkpoint needs a [`NetworkEntry`] and takes its spec from there.
    pub fn new(block: ResNetBlock, layers: [usize; 4]) -> Self {
        Self { block, layers, small_images: false, spec: ModelSpec::new("resnet", 1000) }
    }

    /// Blocks of two 3x3 convolutions.
    pub fn basic(layers: [usize; 4]) -> Self {
        Self::new(ResNetBlock::Basic, layers)
    }

    /// Blocks of a 1x1, a 3x3 and a 1x1 convolution.
    pub fn bottleneck(layers: [usize; 4]) -> Self {
        Self::new(ResNetBlock::BOTTLENECK, layers)
    }

    /// ResNet-18.
    pub fn resnet18() -> Self {
        Self::basic([2, 2, 2, 2]).called("resnet18")
    }

    /// ResNet-18 for CIFAR's 32x32 images, 10 classes.
    pub fn resnet18_32() -> Self {
        let spec = ModelSpec::new("resnet18_32", 10);
        Self { small_images: true, spec, ..Self::resnet18() }
    }

    /// ResNet-34.
    pub fn resnet34() -> Self {
        Self::basic([3, 4, 6, 3]).called("resnet34")
    }

    /// ResNet-50.
    pub fn resnet50() -> Self {
        Self::bottleneck([3, 4, 6, 3]).called("resnet50")
    }

    /// ResNet-101.
    pub fn resnet101() -> Self {
        Self::bottleneck([3, 4, 23, 3]).called("resnet101")
    }

    /// ResNet-152.
    pub fn resnet152() -> Self {
        Self::bottleneck([3, 8, 36, 3]).called("resnet152")
    }

    /// ResNeXt-50 with 32 groups of 4 channels.
    pub fn resnext50_32x4d() -> Self {
        Self::grouped(32, 4, [3, 4, 6, 3]).called("resnext50_32x4d")
    }

    /// ResNeXt-101 with 32 groups of 8 channels.
    pub fn resnext101_32x8d() -> Self {
        Self::grouped(32, 8, [3, 4, 23, 3]).called("resnext101_32x8d")
    }

    /// ResNeXt-101 with 64 groups of 4 channels.
    pub fn resnext101_64x4d() -> Self {
        Self::grouped(64, 4, [3, 4, 23, 3]).called("resnext101_64x4d")
    }

    /// ResNet-50 with 3x3 convolutions that are twice as wide.
    pub fn wide_resnet50_2() -> Self {
        Self::grouped(1, 128, [3, 4, 6, 3]).called("wide_resnet50_2")
    }

    /// ResNet-101 with 3x3 convolutions that are twice as wide.
    pub fn wide_resnet101_2() -> Self {
        Self::grouped(1, 128, [3, 4, 23, 3]).called("wide_resnet101_2")
    }

    fn grouped(groups: usize, width_per_group: usize, layers: [usize; 4]) -> Self {
        Self::new(ResNetBlock::Bottleneck { groups, width_per_group }, layers)
    }

    /// Sets whether the stem is that for small images.
    pub fn small_images(mut self, small_images: bool) -> Self {
        self.small_images = small_images;
        self
    }

    fn called(mut self, name: &str) -> Self {
        self.spec.architecture = name.to_owned();
        self
    }
}

of_spec!(ResNet, ResNetConfig);

/// torchvision's ResNets: `conv1`, `bn1`, `layer1..4`, `fc`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{Model, Parameters, Pass, ResNet, ResNetConfig};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = ResNet::new(ResNetConfig::resnet18().num_classes(10), vb)?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 512, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct ResNet {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    /// `None` in the form for small images.
    maxpool: Option<MaxPool2d>,
    layers: Vec<Stage>,
    avgpool: GlobalAvgPool,
    fc: Linear,
}

impl ResNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, channels cannot be split into the groups, or a name is taken.
    pub fn new(config: ResNetConfig, vb: ParameterBuilder) -> Result<Self> {
        let ResNetConfig { block, layers: blocks, small_images, spec } = config;
        check(&spec)?;
        let stem = match small_images {
            true => ConvNormOptions::new(spec.input[0], 64, 3),
            false => ConvNormOptions::new(spec.input[0], 64, 7).stride(2),
        };
        let stem = ConvNorm::new(stem.names("conv1", "bn1", "relu"), vb.clone())?;
        let pool = MaxPool2dConfig::new(3).stride(2).padding(1);
        let mut from = 64;
        let mut layers = Vec::new();
        for (i, path) in ["layer1", "layer2", "layer3", CAM_LAYER].into_iter().enumerate() {
            let stride = if i == 0 { 1 } else { 2 };
            layers.push(Stage::new(block, from, 64 << i, blocks[i], stride, vb.pp(path))?);
            if blocks[i] > 0 {
                from = block.out_channels(64 << i);
            }
        }
        Ok(Self {
            maxpool: (!small_images).then(|| MaxPool2d::new(pool, vb.pp("maxpool"))),
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            fc: Linear::new((from, spec.num_classes), vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
            stem,
            layers,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        if let Some(maxpool) = &self.maxpool {
            x = maxpool.forward(&x, pass)?;
        }
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.fc.logits(&self.avgpool.forward(x, pass)?, pass)
    }
}

impl Model for ResNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }

    fn adapt_weight(&self, path: &str, tensor: &Tensor) -> Result<Option<Tensor>> {
        match tensor.dims() {
            [_, _, 7, 7] if path == STEM && self.maxpool.is_none() => {
                Ok(Some(tensor.narrow(2, 2, 3)?.narrow(3, 2, 3)?.contiguous()?))
            }
            _ => Ok(None),
        }
    }
}
