//! MNASNet (Tan et al. 2018, <https://arxiv.org/abs/1807.11626>), torchvision's form of the network B1.

use candle_core::{Result, Tensor};
use candle_vision_ops::Activation;

use super::config::{backbone_and_head, divisible, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    ConvNorm, ConvNormOptions, Dropout, GlobalAvgPool, Linear, LinearOptions, images_to_features,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass, TimmNames, timm};

const HEAD: &str = "classifier.1";
const CAM_LAYER: &str = "layers.16";
const LAST_CHANNELS: usize = 1280;
/// The share of a batch in the running statistics. TensorFlow counts the other share.
const MOMENTUM: f64 = 1.0 - 0.9997;

pub(super) fn mnasnet0_5() -> NetworkEntry {
    mnasnet("mnasnet0_5", 0.5).summary("Tan et al. 2018, network B1, half as wide")
}

pub(super) fn mnasnet0_75() -> NetworkEntry {
    mnasnet("mnasnet0_75", 0.75).summary("Tan et al. 2018, network B1, 0.75 times as wide")
}

pub(super) fn mnasnet1_0() -> NetworkEntry {
    mnasnet("mnasnet1_0", 1.0).summary("Tan et al. 2018, network B1, found by architecture search")
}

pub(super) fn mnasnet1_3() -> NetworkEntry {
    mnasnet("mnasnet1_3", 1.3).summary("Tan et al. 2018, network B1, 1.3 times as wide")
}

fn mnasnet(name: &str, alpha: f64) -> NetworkEntry {
    torchvision(name, move |spec, vb| MnasNet::new(MnasNetConfig::new(alpha).spec(spec), vb))
        .family("mnasnet")
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// Channels of the stem, of the separable convolution behind it, and of the six stacks, at `alpha` 1.
const CHANNELS: [usize; 8] = [32, 16, 24, 40, 80, 96, 192, 320];

/// Kernel, first stride, expansion and blocks of each stack.
const STACKS: [(usize, usize, usize, usize); 6] =
    [(3, 2, 3, 3), (5, 2, 3, 3), (5, 2, 6, 3), (3, 1, 6, 2), (5, 2, 6, 4), (3, 1, 6, 1)];

/// The sizes of a [`MnasNet`].
///
/// ```
/// use candle_vision_models::MnasNetConfig;
///
/// let config = MnasNetConfig::new(0.35).num_classes(10).dropout(0.1);
/// assert!(config.scaled_stem);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MnasNetConfig {
    /// What the channels of the paper's network are multiplied by.
    pub alpha: f64,
    /// Whether the stem is scaled too. Default `true`, which is torchvision's version 2. Files of version 1 have the
    /// stem of `alpha` 1.
    pub scaled_stem: bool,
    /// Probability of dropout before the classifier where the spec names none. Default 0.2.
    pub dropout: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl MnasNetConfig {
    /// The paper's network, `alpha` times as wide. It is called `mnasnet`; one that is to be built again from a
    /// checkpoint needs a [`NetworkEntry`] and takes its spec from there.
    pub fn new(alpha: f64) -> Self {
        Self { alpha, scaled_stem: true, dropout: 0.2, spec: ModelSpec::new("mnasnet", 1000) }
    }

    /// Sets whether the stem is scaled too.
    pub fn scaled_stem(mut self, scaled_stem: bool) -> Self {
        self.scaled_stem = scaled_stem;
        self
    }

    /// Sets the probability of dropout before the classifier, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    fn channels(&self) -> [usize; 8] {
        let mut channels = CHANNELS.map(|channels| divisible(channels as f64 * self.alpha, 8));
        if !self.scaled_stem {
            channels[..2].copy_from_slice(&CHANNELS[..2]);
        }
        channels
    }
}

of_spec!(MnasNet, MnasNetConfig);

/// `layers.0..16`, of which `layers.8..13` are stacks of inverted residuals, and `classifier.1`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{MnasNet, MnasNetConfig, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = MnasNet::new(MnasNetConfig::new(0.5).num_classes(10), vb)?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 1280, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct MnasNet {
    spec: ModelSpec,
    parameters: Parameters,
    /// A convolution, and a separable one.
    stem: [ConvNorm; 3],
    stacks: Vec<Stack>,
    last: ConvNorm,
    avgpool: GlobalAvgPool,
    dropout: Dropout,
    classifier: Linear,
}

/// `options` with torchvision's momentum; the convolution is at `number` of `vb`, its norm and its activation follow.
fn layer(options: ConvNormOptions, number: usize, vb: &ParameterBuilder) -> Result<ConvNorm> {
    let [conv, bn, relu] = [0, 1, 2].map(|i| (number + i).to_string());
    ConvNorm::new(options.momentum(MOMENTUM).names(&conv, &bn, &relu), vb.clone())
}

fn conv(from: usize, to: usize, kernel: usize) -> ConvNormOptions {
    ConvNormOptions::new(from, to, kernel)
}

/// A 1x1 convolution without an activation.
fn project(from: usize, to: usize) -> ConvNormOptions {
    conv(from, to, 1).activation(Activation::Identity)
}

/// Expand, filter each channel, project; with a shortcut where the shape stays.
struct InvertedResidual {
    path: String,
    expand: ConvNorm,
    filter: ConvNorm,
    project: ConvNorm,
    shortcut: bool,
}

impl InvertedResidual {
    fn new(
        [from, to]: [usize; 2],
        kernel: usize,
        stride: usize,
        expansion: usize,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let (inner, layers) = (from * expansion, vb.pp("layers"));
        let filter = conv(inner, inner, kernel).stride(stride).groups(inner);
        Ok(Self {
            path: vb.path().to_owned(),
            expand: layer(conv(from, inner, 1), 0, &layers)?,
            filter: layer(filter, 3, &layers)?,
            project: layer(project(inner, to), 6, &layers)?,
            shortcut: stride == 1 && from == to,
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let y = self.filter.forward(&self.expand.forward(x, pass)?, pass)?;
        let y = if self.shortcut {
            self.project.forward_residual(&y, x, pass)?
        } else {
            self.project.forward(&y, pass)?
        };
        pass.output(&self.path, y)
    }
}

/// Blocks of one width; the first may halve the map.
struct Stack {
    path: String,
    blocks: Vec<InvertedResidual>,
}

impl Stack {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = pass.input(&self.path, x)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        pass.output(&self.path, x)
    }
}

impl MnasNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If `alpha` is not above 0, there are no classes, or a name is taken.
    pub fn new(config: MnasNetConfig, vb: ParameterBuilder) -> Result<Self> {
        let [stem, separable, of_stacks @ ..] = config.channels();
        let MnasNetConfig { alpha, dropout, spec, .. } = config;
        check(&spec)?;
        if !(alpha > 0.0 && alpha.is_finite()) {
            candle_core::bail!("`{}`: alpha is above 0, got {alpha}", spec.architecture)
        }
        let layers = vb.pp("layers");
        let first = [
            layer(conv(spec.input[0], stem, 3).stride(2), 0, &layers)?,
            layer(conv(stem, stem, 3).groups(stem), 3, &layers)?,
            layer(project(stem, separable), 6, &layers)?,
        ];
        let (mut stacks, mut from) = (Vec::new(), separable);
        for (i, (to, (kernel, stride, expansion, blocks))) in
            of_stacks.into_iter().zip(STACKS).enumerate()
        {
            let vb = layers.pp(8 + i);
            let block = |j| {
                let (from, stride) = if j == 0 { (from, stride) } else { (to, 1) };
                InvertedResidual::new([from, to], kernel, stride, expansion, vb.pp(j))
            };
            let blocks = (0..blocks).map(block).collect::<Result<_>>()?;
            stacks.push(Stack { path: vb.path().to_owned(), blocks });
            from = to;
        }
        // PyTorch's `kaiming_uniform_` by the fan out, for a sigmoid.
        let bound = (3.0 / spec.num_classes as f64).sqrt();
        let classifier = LinearOptions::new(LAST_CHANNELS, spec.num_classes)
            .init(Init::Uniform { low: -bound, high: bound })
            .bias_init(Init::Constant(0.0));
        Ok(Self {
            last: layer(conv(from, LAST_CHANNELS, 1), 14, &layers)?,
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            dropout: Dropout::new(spec.dropout.unwrap_or(dropout), vb.pp("classifier.0")),
            classifier: Linear::new(classifier, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            stem: first,
            spec,
            stacks,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = images_to_features(images, self.spec.input[0])?;
        for conv in &self.stem {
            x = conv.forward(&x, pass)?;
        }
        for stack in &self.stacks {
            x = stack.forward(&x, pass)?;
        }
        self.last.forward(&x, pass)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.avgpool.forward(x, pass)?;
        let x = self.dropout.forward(&x, pass)?;
        self.classifier.logits(&x, pass)
    }
}

/// timm's name of a parameter.
fn timm_name(path: &[&str]) -> Option<String> {
    // Convolutions, norms and activations are numbered through.
    let in_block = |convs: usize, place: &str, field: &str| {
        let place: usize = place.parse().ok()?;
        timm::in_block(convs, convs == 2, place / 3, place.is_multiple_of(3), field)
    };
    Some(match path {
        ["classifier", "1", field] => format!("classifier.{field}"),
        ["layers", "0", field] => format!("conv_stem.{field}"),
        ["layers", "1", field] => format!("bn1.{field}"),
        ["layers", "14", field] => format!("conv_head.{field}"),
        ["layers", "15", field] => format!("bn2.{field}"),
        ["layers", place, field] => {
            let place = place.parse::<usize>().ok()?.checked_sub(3)?.to_string();
            format!("blocks.0.0.{}", in_block(2, &place, field)?)
        }
        ["layers", stack, block, "layers", place, field] => {
            let stage = stack.parse::<usize>().ok()?.checked_sub(7)?;
            format!("blocks.{stage}.{block}.{}", in_block(3, place, field)?)
        }
        _ => return None,
    })
}

impl Model for MnasNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }

    fn timm_names(&self) -> Option<TimmNames> {
        Some(TimmNames::of(&self.parameters, |path, _| timm_name(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::MnasNetConfig;

    /// `torchvision.models.mnasnet._get_depths`
    #[test]
    fn channels_are_torchvisions() {
        let channels = |alpha| MnasNetConfig::new(alpha).channels();
        assert_eq!(channels(0.5), [16, 8, 16, 24, 40, 48, 96, 160]);
        assert_eq!(channels(0.75), [24, 16, 24, 32, 64, 72, 144, 240]);
        assert_eq!(channels(1.0), super::CHANNELS);
        assert_eq!(channels(1.3), [40, 24, 32, 56, 104, 128, 248, 416]);
        let first = MnasNetConfig::new(0.5).scaled_stem(false).channels();
        assert_eq!(first[..3], [32, 16, 16]);
    }
}
