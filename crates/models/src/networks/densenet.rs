//! DenseNet (Huang et al. 2016, <https://arxiv.org/abs/1608.06993>), torchvision's DenseNet-BC.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, AvgPool2dConfig, MaxPool2dConfig, cat};

use super::config::{backbone_and_head, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    AvgPool2d, BatchNorm2d, Conv2d, Conv2dOptions, ConvNorm, ConvNormOptions, Dropout,
    GlobalAvgPool, Linear, LinearOptions, MaxPool2d, images_to_features,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "classifier";
/// What pytorch-grad-cam recommends: the last norm, before its ReLU.
const CAM_LAYER: &str = "features.norm5";

pub(super) fn densenet121() -> NetworkEntry {
    densenet("densenet121", DenseNetConfig::densenet121).summary("Huang et al. 2016, 121 layers")
}

pub(super) fn densenet161() -> NetworkEntry {
    densenet("densenet161", DenseNetConfig::densenet161)
        .summary("Huang et al. 2016, 161 layers, 48 new channels a layer")
}

pub(super) fn densenet169() -> NetworkEntry {
    densenet("densenet169", DenseNetConfig::densenet169).summary("Huang et al. 2016, 169 layers")
}

pub(super) fn densenet201() -> NetworkEntry {
    densenet("densenet201", DenseNetConfig::densenet201).summary("Huang et al. 2016, 201 layers")
}

fn densenet(name: &str, config: fn() -> DenseNetConfig) -> NetworkEntry {
    torchvision(name, move |spec, vb| DenseNet::new(config().spec(spec), vb))
        .family("densenet")
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// The sizes of a [`DenseNet`].
///
/// ```
/// use candle_vision_models::DenseNetConfig;
///
/// let small = DenseNetConfig::new([2, 2, 2, 2]).growth_rate(12).init_features(24);
/// assert_eq!((small.growth_rate, small.bn_size), (12, 4));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DenseNetConfig {
    /// Layers of each of the four blocks.
    pub layers: [usize; 4],
    /// Channels that each layer adds, the paper's `k`. Default 32.
    pub growth_rate: usize,
    /// Channels of the stem. Default 64.
    pub init_features: usize,
    /// Channels between the two convolutions of a layer, as a multiple of the growth rate. Default 4.
    pub bn_size: usize,
    /// Probability of dropout behind each layer where the spec names none. Default 0, that of torchvision's networks.
    pub dropout: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl DenseNetConfig {
    /// `layers` layers in the four blocks. The network is called `densenet`; one that is to be built again from a
    /// checkpoint needs a [`NetworkEntry`] and takes its spec from there.
    pub fn new(layers: [usize; 4]) -> Self {
        let spec = ModelSpec::new("densenet", 1000);
        Self { layers, growth_rate: 32, init_features: 64, bn_size: 4, dropout: 0.0, spec }
    }

    /// DenseNet-121.
    pub fn densenet121() -> Self {
        Self::new([6, 12, 24, 16]).called("densenet121")
    }

    /// DenseNet-161: 48 new channels a layer, and a stem of 96.
    pub fn densenet161() -> Self {
        Self::new([6, 12, 36, 24]).growth_rate(48).init_features(96).called("densenet161")
    }

    /// DenseNet-169.
    pub fn densenet169() -> Self {
        Self::new([6, 12, 32, 32]).called("densenet169")
    }

    /// DenseNet-201.
    pub fn densenet201() -> Self {
        Self::new([6, 12, 48, 32]).called("densenet201")
    }

    /// Sets the channels that each layer adds.
    pub fn growth_rate(mut self, growth_rate: usize) -> Self {
        self.growth_rate = growth_rate;
        self
    }

    /// Sets the channels of the stem.
    pub fn init_features(mut self, init_features: usize) -> Self {
        self.init_features = init_features;
        self
    }

    /// Sets the channels between the two convolutions of a layer, as a multiple of the growth rate.
    pub fn bn_size(mut self, bn_size: usize) -> Self {
        self.bn_size = bn_size;
        self
    }

    /// Sets the probability of dropout behind each layer, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    fn called(mut self, name: &str) -> Self {
        self.spec.architecture = name.to_owned();
        self
    }
}

of_spec!(DenseNet, DenseNetConfig);

/// `features.conv0`, `features.denseblock1..4` with transitions between them, `features.norm5` and `classifier`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{DenseNet, DenseNetConfig, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let config = DenseNetConfig::new([2, 2, 2, 2]).growth_rate(12).init_features(24).num_classes(10);
/// let model = DenseNet::new(config, vb)?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 48, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct DenseNet {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    pool: MaxPool2d,
    blocks: Vec<(DenseBlock, Option<Transition>)>,
    norm: NormRelu,
    avgpool: GlobalAvgPool,
    classifier: Linear,
}

/// Batch norm and ReLU in one.
struct NormRelu(BatchNorm2d, String);

impl NormRelu {
    fn new(channels: usize, names: [&str; 2], vb: &ParameterBuilder) -> Result<Self> {
        let [norm, relu] = names.map(|name| vb.pp(name));
        Ok(Self(BatchNorm2d::new(channels, norm)?, relu.path().to_owned()))
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.0.forward_activated(x, Activation::Relu, &self.1, pass)
    }
}

/// Sizes that all layers of a network have in common.
#[derive(Clone, Copy)]
struct Growth {
    rate: usize,
    inner: usize,
    dropout: f64,
}

/// The new channels that all channels so far give.
struct DenseLayer {
    path: String,
    norm1: NormRelu,
    /// The 1x1 convolution with the norm behind it, which is that before `conv2`.
    conv1: ConvNorm,
    conv2: Conv2d,
    dropout: Option<Dropout>,
}

impl DenseLayer {
    fn new(from: usize, growth: Growth, vb: ParameterBuilder) -> Result<Self> {
        let Growth { rate, inner, dropout } = growth;
        let norm1 = NormRelu::new(from, ["norm1", "relu1"], &vb)?;
        let conv1 = ConvNormOptions::new(from, inner, 1).init(Init::fan_in_normal(from));
        let conv1 = ConvNorm::new(conv1.names("conv1", "norm2", "relu2"), vb.clone())?;
        let conv2 = Conv2dOptions::new(inner, rate, 3).padding(1).bias(false);
        Ok(Self {
            conv2: Conv2d::new(conv2.init(Init::fan_in_normal(9 * inner)), vb.pp("conv2"))?,
            dropout: (dropout > 0.0).then(|| Dropout::new(dropout, vb.pp("dropout"))),
            path: vb.path().to_owned(),
            norm1,
            conv1,
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let x = self.norm1.forward(&x, pass)?;
        let x = self.conv1.forward(&x, pass)?;
        let mut x = self.conv2.forward(&x, pass)?;
        if let Some(dropout) = &self.dropout {
            x = dropout.forward(&x, pass)?;
        }
        pass.output(&self.path, x)
    }
}

/// Layers, each of which sees what came in and what all before it have added.
struct DenseBlock {
    path: String,
    layers: Vec<DenseLayer>,
}

impl DenseBlock {
    fn new(from: usize, layers: usize, growth: Growth, vb: ParameterBuilder) -> Result<Self> {
        let layer = |i| {
            let vb = vb.pp(format!("denselayer{}", i + 1));
            DenseLayer::new(from + i * growth.rate, growth, vb)
        };
        let layers = (0..layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { path: vb.path().to_owned(), layers })
    }

    /// Each layer appends to what is there already, instead of joining all the parts again as torchvision does. As
    /// many elements are copied, but one gradient goes back to the last joined map, instead of one to each part.
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = pass.input(&self.path, x)?;
        for layer in &self.layers {
            let new = layer.forward(&x, pass)?;
            x = cat(&[x, new], 3)?;
        }
        pass.output(&self.path, x)
    }
}

/// Halves the channels and the map.
struct Transition {
    path: String,
    norm: NormRelu,
    conv: Conv2d,
    pool: AvgPool2d,
}

impl Transition {
    fn new(from: usize, vb: ParameterBuilder) -> Result<Self> {
        let conv = Conv2dOptions::new(from, from / 2, 1).bias(false);
        Ok(Self {
            path: vb.path().to_owned(),
            norm: NormRelu::new(from, ["norm", "relu"], &vb)?,
            conv: Conv2d::new(conv.init(Init::fan_in_normal(from)), vb.pp("conv"))?,
            pool: AvgPool2d::new(AvgPool2dConfig::new(2), vb.pp("pool")),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let x = self.norm.forward(&x, pass)?;
        let x = self.conv.forward(&x, pass)?;
        let y = self.pool.forward(&x, pass)?;
        pass.output(&self.path, y)
    }
}

impl DenseNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, or a name is taken.
    pub fn new(config: DenseNetConfig, vb: ParameterBuilder) -> Result<Self> {
        let DenseNetConfig { layers, growth_rate, init_features, bn_size, dropout, spec } = config;
        check(&spec)?;
        let channels = spec.input[0];
        let features = vb.pp("features");
        let stem = ConvNormOptions::new(channels, init_features, 7).stride(2);
        let stem = stem.init(Init::fan_in_normal(49 * channels)).names("conv0", "norm0", "relu0");
        let stem = ConvNorm::new(stem, features.clone())?;
        let dropout = spec.dropout.unwrap_or(dropout);
        let growth = Growth { rate: growth_rate, inner: bn_size * growth_rate, dropout };
        let (mut blocks, mut from) = (Vec::new(), init_features);
        for (count, number) in layers.into_iter().zip(1..) {
            let block = features.pp(format!("denseblock{number}"));
            let block = DenseBlock::new(from, count, growth, block)?;
            from += count * growth_rate;
            let transition = if number < layers.len() {
                let vb = features.pp(format!("transition{number}"));
                from /= 2;
                Some(Transition::new(2 * from, vb)?)
            } else {
                None
            };
            blocks.push((block, transition));
        }
        let classifier = LinearOptions::new(from, spec.num_classes).bias_init(Init::Constant(0.0));
        let pool = MaxPool2dConfig::new(3).stride(2).padding(1);
        Ok(Self {
            pool: MaxPool2d::new(pool, features.pp("pool0")),
            norm: NormRelu::new(from, ["norm5", "relu5"], &features)?,
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            classifier: Linear::new(classifier, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
            stem,
            blocks,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let x = self.stem.forward(&x, pass)?;
        let mut x = self.pool.forward(&x, pass)?;
        for (block, transition) in &self.blocks {
            x = block.forward(&x, pass)?;
            if let Some(transition) = transition {
                x = transition.forward(&x, pass)?;
            }
        }
        self.norm.forward(&x, pass)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.classifier.logits(&self.avgpool.forward(x, pass)?, pass)
    }
}

/// The present name of `...denselayer1.norm.1.weight` and the like: `...denselayer1.norm1.weight`. torchvision's
/// published files have these names from the time when a module's name could have a dot.
fn current_name(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let [.., layer, kind, number, _] = parts[..] else {
        return None;
    };
    let is_old = layer.starts_with("denselayer")
        && ["norm", "relu", "conv"].contains(&kind)
        && ["1", "2"].contains(&number);
    let at = name.len() - number.len() - parts.last()?.len() - 2;
    is_old.then(|| format!("{}{}", &name[..at], &name[at + 1..]))
}

impl Model for DenseNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }

    fn rename_weight(&self, name: &str) -> Option<String> {
        current_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::current_name;

    #[test]
    fn names_lose_the_dot_that_they_had() {
        let layer = "features.denseblock1.denselayer12";
        for (old, new) in
            [("norm.1.running_mean", "norm1.running_mean"), ("conv.2.weight", "conv2.weight")]
        {
            let expected = Some(format!("module.{layer}.{new}"));
            assert_eq!(current_name(&format!("module.{layer}.{old}")), expected);
            assert_eq!(current_name(&format!("{layer}.{new}")), None);
        }
        for name in
            ["features.norm5.weight", "features.transition1.conv.weight", "conv.1.weight", ""]
        {
            assert_eq!(current_name(name), None, "{name}");
        }
    }
}
