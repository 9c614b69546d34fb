//! MobileNetV3 (Howard et al. 2019, <https://arxiv.org/abs/1905.02244>), torchvision's form.

use candle_core::{Result, Tensor};
use candle_vision_ops::Activation;

use super::config::{backbone_and_head, divisible, of_spec};
use super::inverted_residual::{InvertedResidual, Shortcut};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    ConvNorm, ConvNormOptions, Dropout, GlobalAvgPool, Hardswish, Linear, LinearOptions,
    SqueezeExcitation, SqueezeExcitationOptions, images_to_features,
};
use crate::timm::{Shapes, shapes_of};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass, TimmNames, timm};

const HEAD: &str = "classifier.3";
const STEM_CHANNELS: usize = 16;
/// What batch norms add to the variance, here and in timm.
const EPS: f64 = 1e-3;
const TIMM_EPS: f64 = 1e-5;

pub(super) fn mobilenet_v3_small() -> NetworkEntry {
    mobilenet_v3("mobilenet_v3_small", MobileNetV3Config::small)
        .summary("Howard et al. 2019, small, inverted residuals with squeeze and excitation")
        .cam_layer("features.12.2")
}

pub(super) fn mobilenet_v3_large() -> NetworkEntry {
    mobilenet_v3("mobilenet_v3_large", MobileNetV3Config::large)
        .summary("Howard et al. 2019, large, inverted residuals with squeeze and excitation")
        .cam_layer("features.16.2")
}

fn mobilenet_v3(name: &str, config: fn() -> MobileNetV3Config) -> NetworkEntry {
    torchvision(name, move |spec, vb| MobileNetV3::new(config().spec(spec), vb))
        .family("mobilenet_v3")
        .head(HEAD)
}

/// A block of a [`MobileNetV3`]: a row of the paper's tables 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MobileNetV3Block {
    /// Side of the depthwise kernel.
    pub kernel: usize,
    /// Channels between the expansion and the projection.
    pub expanded: usize,
    /// Channels that go out.
    pub channels: usize,
    /// Stride of the depthwise convolution.
    pub stride: usize,
    /// Whether the block has squeeze and excitation.
    pub squeeze_excitation: bool,
    /// Hard swish, or ReLU.
    pub activation: Activation,
}

impl MobileNetV3Block {
    /// A block with ReLU and without squeeze and excitation.
    pub const fn new(kernel: usize, expanded: usize, channels: usize, stride: usize) -> Self {
        let (squeeze_excitation, activation) = (false, Activation::Relu);
        Self { kernel, expanded, channels, stride, squeeze_excitation, activation }
    }

    /// The same with squeeze and excitation.
    pub const fn squeeze_excitation(self) -> Self {
        Self { squeeze_excitation: true, ..self }
    }

    /// The same with hard swish.
    pub const fn hard_swish(self) -> Self {
        Self { activation: Activation::HardSwish, ..self }
    }
}

/// Table 2.
const SMALL: [MobileNetV3Block; 11] = [
    MobileNetV3Block::new(3, 16, 16, 2).squeeze_excitation(),
    MobileNetV3Block::new(3, 72, 24, 2),
    MobileNetV3Block::new(3, 88, 24, 1),
    MobileNetV3Block::new(5, 96, 40, 2).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 240, 40, 1).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 240, 40, 1).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 120, 48, 1).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 144, 48, 1).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 288, 96, 2).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 576, 96, 1).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 576, 96, 1).squeeze_excitation().hard_swish(),
];

/// Table 1.
const LARGE: [MobileNetV3Block; 15] = [
    MobileNetV3Block::new(3, 16, 16, 1),
    MobileNetV3Block::new(3, 64, 24, 2),
    MobileNetV3Block::new(3, 72, 24, 1),
    MobileNetV3Block::new(5, 72, 40, 2).squeeze_excitation(),
    MobileNetV3Block::new(5, 120, 40, 1).squeeze_excitation(),
    MobileNetV3Block::new(5, 120, 40, 1).squeeze_excitation(),
    MobileNetV3Block::new(3, 240, 80, 2).hard_swish(),
    MobileNetV3Block::new(3, 200, 80, 1).hard_swish(),
    MobileNetV3Block::new(3, 184, 80, 1).hard_swish(),
    MobileNetV3Block::new(3, 184, 80, 1).hard_swish(),
    MobileNetV3Block::new(3, 480, 112, 1).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(3, 672, 112, 1).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 672, 160, 2).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 960, 160, 1).squeeze_excitation().hard_swish(),
    MobileNetV3Block::new(5, 960, 160, 1).squeeze_excitation().hard_swish(),
];

/// The sizes of a [`MobileNetV3`].
///
/// ```
/// use candle_vision_models::MobileNetV3Config;
///
/// let narrow = MobileNetV3Config::large().width(0.75).num_classes(10);
/// assert_eq!((narrow.blocks.len(), narrow.hidden), (15, 1280));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MobileNetV3Config {
    /// The blocks in their order.
    pub blocks: Vec<MobileNetV3Block>,
    /// Features between the two linear layers of the classifier.
    pub hidden: usize,
    /// Factor of all these numbers of channels, which are then rounded to multiples of 8. Default 1.
    pub width: f64,
    /// Probability of dropout before the last layer where the spec names none. Default 0.2.
    pub dropout: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl MobileNetV3Config {
    /// A network of `blocks`. It is called `mobilenet_v3`. One that is to be built again from a checkpoint needs a
    /// [`NetworkEntry`] and takes its spec from there.
    pub fn new(blocks: &[MobileNetV3Block], hidden: usize) -> Self {
        let spec = ModelSpec::new("mobilenet_v3", 1000);
        Self { blocks: blocks.to_vec(), hidden, width: 1.0, dropout: 0.2, spec }
    }

    /// MobileNetV3-Small.
    pub fn small() -> Self {
        Self::new(&SMALL, 1024).called("mobilenet_v3_small")
    }

    /// MobileNetV3-Large.
    pub fn large() -> Self {
        Self::new(&LARGE, 1280).called("mobilenet_v3_large")
    }

    /// Sets the factor of the numbers of channels.
    pub fn width(mut self, width: f64) -> Self {
        self.width = width;
        self
    }

    /// Sets the probability of dropout before the last layer, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    fn called(mut self, name: &str) -> Self {
        self.spec.architecture = name.to_owned();
        self
    }

    fn scaled(&self, channels: usize) -> usize {
        divisible(channels as f64 * self.width, 8)
    }
}

of_spec!(MobileNetV3, MobileNetV3Config);

/// torchvision's MobileNetV3: `features.0..` and `classifier.0..3`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{MobileNetV3, MobileNetV3Config, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = MobileNetV3::new(MobileNetV3Config::small().width(0.25).num_classes(10), vb)?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 144, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct MobileNetV3 {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    blocks: Vec<InvertedResidual>,
    last: ConvNorm,
    avgpool: GlobalAvgPool,
    hidden: Linear,
    hardswish: Hardswish,
    dropout: Dropout,
    classifier: Linear,
    cam_layer: String,
}

/// A convolution with the batch norm that all MobileNetV3 have, the children 0, 1 and 2 of `vb`.
fn conv_norm(
    options: ConvNormOptions,
    activation: Activation,
    vb: ParameterBuilder,
) -> Result<ConvNorm> {
    ConvNorm::new(options.eps(EPS).momentum(0.01).activation(activation), vb)
}

/// A layer of the classifier; its weight begins small.
fn linear(from: usize, to: usize, vb: ParameterBuilder) -> Result<Linear> {
    let options = LinearOptions::new(from, to).init(Init::Normal { mean: 0.0, std: 0.01 });
    Linear::new(options.bias_init(Init::Constant(0.0)), vb)
}

/// `block` with its final numbers of channels, for maps of `from` channels.
fn inverted_residual(
    from: usize,
    block: MobileNetV3Block,
    vb: ParameterBuilder,
) -> Result<InvertedResidual> {
    let MobileNetV3Block { kernel, expanded, channels, stride, activation, .. } = block;
    let inner = vb.pp("block");
    let mut filters = Vec::new();
    if expanded != from {
        filters.push(conv_norm(
            ConvNormOptions::new(from, expanded, 1),
            activation,
            inner.pp(filters.len()),
        )?);
    }
    let depthwise = ConvNormOptions::new(expanded, expanded, kernel).stride(stride);
    filters.push(conv_norm(depthwise.groups(expanded), activation, inner.pp(filters.len()))?);
    let next = filters.len();
    let squeeze_excitation = if block.squeeze_excitation {
        let options = SqueezeExcitationOptions::new(expanded, divisible((expanded / 4) as f64, 8))
            .scale_activation(Activation::HardSigmoid)
            .fan_out_init()
            .bias_init(Init::Constant(0.0));
        Some(SqueezeExcitation::new(options, inner.pp(next))?)
    } else {
        None
    };
    let project = ConvNormOptions::new(expanded, channels, 1);
    let vb_project = inner.pp(next + usize::from(squeeze_excitation.is_some()));
    Ok(InvertedResidual {
        path: vb.path().to_owned(),
        filters,
        squeeze_excitation,
        project: Some(conv_norm(project, Activation::Identity, vb_project)?),
        shortcut: if stride == 1 && from == channels { Shortcut::Sum } else { Shortcut::None },
    })
}

impl MobileNetV3 {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, or a name is taken.
    pub fn new(config: MobileNetV3Config, vb: ParameterBuilder) -> Result<Self> {
        check(&config.spec)?;
        let features = vb.pp("features");
        let mut from = config.scaled(STEM_CHANNELS);
        let stem = ConvNormOptions::new(config.spec.input[0], from, 3).stride(2);
        let stem = conv_norm(stem, Activation::HardSwish, features.pp(0))?;
        let mut blocks = Vec::new();
        for block in &config.blocks {
            let [expanded, channels] = [block.expanded, block.channels].map(|n| config.scaled(n));
            let block = MobileNetV3Block { expanded, channels, ..*block };
            blocks.push(inverted_residual(from, block, features.pp(blocks.len() + 1))?);
            from = channels;
        }
        let vb_last = features.pp(blocks.len() + 1);
        let cam_layer = vb_last.pp(2).path().to_owned();
        let last =
            conv_norm(ConvNormOptions::new(from, 6 * from, 1), Activation::HardSwish, vb_last)?;
        let (classifier, hidden) = (vb.pp("classifier"), config.scaled(config.hidden));
        let MobileNetV3Config { spec, dropout, .. } = config;
        Ok(Self {
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            hidden: linear(6 * from, hidden, classifier.pp(0))?,
            hardswish: Hardswish::new(classifier.pp(1)),
            dropout: Dropout::new(spec.dropout.unwrap_or(dropout), classifier.pp(2)),
            classifier: linear(hidden, spec.num_classes, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
            stem,
            blocks,
            last,
            cam_layer,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        self.last.forward(&x, pass)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.avgpool.forward(x, pass)?;
        let x = self.hidden.forward(&x, pass)?;
        let x = self.hardswish.forward(&x, pass)?;
        let x = self.dropout.forward(&x, pass)?;
        self.classifier.logits(&x, pass)
    }
}

/// Channels of the output of block `i`.
fn output_channels(i: usize, shapes: &Shapes) -> usize {
    let kernel = |layer: usize| shapes.get(&format!("features.{i}.block.{layer}.0.weight"));
    (0..4).rev().find_map(kernel).and_then(|shape| shape.first().copied()).unwrap_or(0)
}

/// timm's name of a parameter. `stages` has timm's stage and number of each block.
fn timm_name(path: &[&str], stages: &[(usize, usize)], shapes: &Shapes) -> Option<String> {
    Some(match path {
        ["classifier", "0", field] => format!("conv_head.{field}"),
        ["classifier", "3", field] => format!("classifier.{field}"),
        ["features", "0", "0", field] => format!("conv_stem.{field}"),
        ["features", "0", "1", field] => format!("bn1.{field}"),
        // The last convolution is a stage of its own.
        ["features", _, "0", field] => format!("blocks.{}.0.conv.{field}", stages.last()?.0 + 1),
        ["features", _, "1", field] => format!("blocks.{}.0.bn1.{field}", stages.last()?.0 + 1),
        ["features", number, "block", inner @ ..] => {
            let inner =
                timm::inverted_residual(&format!("features.{number}.block"), inner, shapes)?;
            let (stage, block) = stages.get(number.parse::<usize>().ok()? - 1)?;
            format!("blocks.{stage}.{block}.{inner}")
        }
        _ => return None,
    })
}

impl Model for MobileNetV3 {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(&self.cam_layer)
    }

    fn timm_names(&self) -> Option<TimmNames> {
        let shapes = shapes_of(&self.parameters);
        let channels = (1..=self.blocks.len()).map(|i| output_channels(i, &shapes));
        let stages = timm::stages(channels);
        let names =
            TimmNames::of(&self.parameters, |path, shapes| timm_name(path, &stages, shapes));
        // What torchvision has as a linear layer is a convolution of single pixels there.
        let hidden = "classifier.0.weight";
        let shape = shapes.get(hidden).map(|shape| [&shape[..], &[1, 1]].concat());
        let names = names.eps(TIMM_EPS, EPS);
        Some(names.shape(hidden, shape.unwrap_or_default()))
    }
}
