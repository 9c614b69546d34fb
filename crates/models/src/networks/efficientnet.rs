//! EfficientNet (Tan and Le 2019, <https://arxiv.org/abs/1905.11946>) and EfficientNetV2 (Tan and Le 2021,
//! <https://arxiv.org/abs/2104.00298>) in torchvision's form, and EfficientNet-Lite in timm's.

mod config;
pub(super) mod lite;

use candle_core::{Result, Tensor};
use candle_vision_ops::Activation;

pub use self::config::{EfficientNetConfig, EfficientNetStage};
pub use self::lite::{EfficientNetLite, EfficientNetLiteConfig};
use super::config::{backbone_and_head, divisible};
use super::inverted_residual::{InvertedResidual, Shortcut};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    ConvNorm, ConvNormOptions, Dropout, GlobalAvgPool, Linear, LinearOptions, SqueezeExcitation,
    SqueezeExcitationOptions, StochasticDepth, images_to_features,
};
use crate::timm::Shapes;
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass, TimmNames, timm};

const HEAD: &str = "classifier.1";
/// What timm's batch norms add to the variance.
const TIMM_EPS: f64 = 1e-5;

pub(super) fn efficientnet_b0() -> NetworkEntry {
    v1("efficientnet_b0", EfficientNetConfig::b0, 224).summary("Tan and Le 2019, B0")
}

pub(super) fn efficientnet_b1() -> NetworkEntry {
    v1("efficientnet_b1", EfficientNetConfig::b1, 240).summary("Tan and Le 2019, B1")
}

pub(super) fn efficientnet_b2() -> NetworkEntry {
    v1("efficientnet_b2", EfficientNetConfig::b2, 288).summary("Tan and Le 2019, B2")
}

pub(super) fn efficientnet_b3() -> NetworkEntry {
    v1("efficientnet_b3", EfficientNetConfig::b3, 300).summary("Tan and Le 2019, B3")
}

pub(super) fn efficientnet_b4() -> NetworkEntry {
    v1("efficientnet_b4", EfficientNetConfig::b4, 380).summary("Tan and Le 2019, B4")
}

pub(super) fn efficientnet_b5() -> NetworkEntry {
    v1("efficientnet_b5", EfficientNetConfig::b5, 456).summary("Tan and Le 2019, B5")
}

pub(super) fn efficientnet_b6() -> NetworkEntry {
    v1("efficientnet_b6", EfficientNetConfig::b6, 528).summary("Tan and Le 2019, B6")
}

pub(super) fn efficientnet_b7() -> NetworkEntry {
    v1("efficientnet_b7", EfficientNetConfig::b7, 600).summary("Tan and Le 2019, B7")
}

pub(super) fn efficientnet_v2_s() -> NetworkEntry {
    efficientnet("efficientnet_v2_s", EfficientNetConfig::v2_s, 384)
        .summary("Tan and Le 2021, version 2, small")
        .cam_layer("features.7.2")
}

pub(super) fn efficientnet_v2_m() -> NetworkEntry {
    efficientnet("efficientnet_v2_m", EfficientNetConfig::v2_m, 480)
        .summary("Tan and Le 2021, version 2, medium")
        .cam_layer("features.8.2")
}

pub(super) fn efficientnet_v2_l() -> NetworkEntry {
    efficientnet("efficientnet_v2_l", EfficientNetConfig::v2_l, 480)
        .summary("Tan and Le 2021, version 2, large")
        .cam_layer("features.8.2")
}

fn v1(name: &str, config: fn() -> EfficientNetConfig, side: usize) -> NetworkEntry {
    efficientnet(name, config, side).cam_layer("features.8.2")
}

fn efficientnet(name: &str, config: fn() -> EfficientNetConfig, side: usize) -> NetworkEntry {
    torchvision(name, move |spec, vb| EfficientNet::new(config().spec(spec), vb))
        .family("efficientnet")
        .input([3, side, side])
        .head(HEAD)
}

/// torchvision's EfficientNets of both versions: `features.0..` and `classifier.1`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{
///     EfficientNet, EfficientNetConfig, EfficientNetStage, Model, Parameters, Pass,
/// };
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let stages = [EfficientNetStage::fused(1, 1, 8, 1), EfficientNetStage::new(4, 3, 2, 16, 2)];
/// let config = EfficientNetConfig::new(8, &stages).num_classes(10);
/// let model = EfficientNet::new(config, vb)?;
/// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 64, 8, 8]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct EfficientNet {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    stages: Vec<Stage>,
    last: ConvNorm,
    avgpool: GlobalAvgPool,
    dropout: Dropout,
    classifier: Linear,
    cam_layer: String,
    norm_eps: f64,
}

/// Blocks of one width.
struct Stage {
    path: String,
    blocks: Vec<InvertedResidual>,
}

impl Stage {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = pass.input(&self.path, x)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        pass.output(&self.path, x)
    }
}

/// What a block is made from.
struct BlockOptions<'a> {
    config: &'a EfficientNetConfig,
    stage: EfficientNetStage,
    from: usize,
    stride: usize,
    /// Probability with which training leaves out the branch.
    probability: f64,
}

impl BlockOptions<'_> {
    /// A convolution with batch norm and `activation`, the children 0, 1 and 2 of `vb`.
    fn conv_norm(
        &self,
        options: ConvNormOptions,
        activation: Activation,
        vb: ParameterBuilder,
    ) -> Result<ConvNorm> {
        ConvNorm::new(self.config.normed(options).activation(activation), vb)
    }

    fn build(&self, vb: ParameterBuilder) -> Result<InvertedResidual> {
        let EfficientNetStage { fused, channels, .. } = self.stage;
        let inner = vb.pp("block");
        let expanded = divisible((self.from * self.stage.expansion) as f64, 8);
        let filters = if fused {
            vec![self.fused_filter(expanded, inner.pp(0))?]
        } else {
            self.filters(expanded, &inner)?
        };
        let mut next = filters.len();
        let mut squeeze_excitation = None;
        if !fused {
            let options = SqueezeExcitationOptions::new(expanded, (self.from / 4).max(1))
                .activation(Activation::Silu)
                .fan_out_init()
                .bias_init(Init::Constant(0.0));
            squeeze_excitation = Some(SqueezeExcitation::new(options, inner.pp(next))?);
            next += 1;
        }
        let mut project = None;
        if !fused || expanded != self.from {
            let options = ConvNormOptions::new(expanded, channels, 1);
            project = Some(self.conv_norm(options, Activation::Identity, inner.pp(next))?);
        }
        Ok(InvertedResidual {
            filters,
            squeeze_excitation,
            project,
            shortcut: self.shortcut(&vb)?,
            path: vb.path().to_owned(),
        })
    }

    /// The expansion, if there is one, and the depthwise convolution.
    fn filters(&self, expanded: usize, inner: &ParameterBuilder) -> Result<Vec<ConvNorm>> {
        let mut options = Vec::new();
        if expanded != self.from {
            options.push(ConvNormOptions::new(self.from, expanded, 1));
        }
        let depthwise = ConvNormOptions::new(expanded, expanded, self.stage.kernel);
        options.push(depthwise.stride(self.stride).groups(expanded));
        let layers = options.into_iter().enumerate();
        layers.map(|(i, options)| self.conv_norm(options, Activation::Silu, inner.pp(i))).collect()
    }

    /// One convolution in place of both. Without an expansion it is the whole block.
    fn fused_filter(&self, expanded: usize, vb: ParameterBuilder) -> Result<ConvNorm> {
        let EfficientNetStage { kernel, channels, .. } = self.stage;
        let to = if expanded == self.from { channels } else { expanded };
        let options = ConvNormOptions::new(self.from, to, kernel).stride(self.stride);
        self.conv_norm(options, Activation::Silu, vb)
    }

    fn shortcut(&self, vb: &ParameterBuilder) -> Result<Shortcut> {
        if self.stride != 1 || self.from != self.stage.channels {
            return Ok(Shortcut::None);
        }
        let depth = StochasticDepth::new(self.probability, vb.pp("stochastic_depth"))?;
        Ok(Shortcut::StochasticDepth(depth))
    }
}

impl EfficientNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, the probability of stochastic depth is no fraction, or a name is taken.
    pub fn new(config: EfficientNetConfig, vb: ParameterBuilder) -> Result<Self> {
        check(&config.spec)?;
        let features = vb.pp("features");
        let conv_norm =
            |options, vb| ConvNorm::new(config.normed(options).activation(Activation::Silu), vb);
        let mut from = config.stem_channels;
        let stem = ConvNormOptions::new(config.spec.input[0], from, 3).stride(2);
        let stem = conv_norm(stem, features.pp(0))?;
        let total: usize = config.stages.iter().map(|stage| stage.layers).sum();
        let (mut stages, mut number) = (Vec::new(), 0);
        for &stage in &config.stages {
            let (vb, mut blocks) = (features.pp(stages.len() + 1), Vec::new());
            for i in 0..stage.layers {
                let stride = if i == 0 { stage.stride } else { 1 };
                let probability = config.stochastic_depth * number as f64 / total as f64;
                let options = BlockOptions { config: &config, stage, from, stride, probability };
                blocks.push(options.build(vb.pp(i))?);
                (from, number) = (stage.channels, number + 1);
            }
            stages.push(Stage { path: vb.path().to_owned(), blocks });
        }
        let vb_last = features.pp(stages.len() + 1);
        let cam_layer = vb_last.pp(2).path().to_owned();
        let last = conv_norm(ConvNormOptions::new(from, config.last_channels, 1), vb_last)?;
        let EfficientNetConfig { spec, dropout, last_channels, norm_eps, .. } = config;
        Ok(Self {
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            dropout: Dropout::new(spec.dropout.unwrap_or(dropout), vb.pp("classifier.0")),
            classifier: classifier(last_channels, spec.num_classes, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
            stem,
            stages,
            last,
            cam_layer,
            norm_eps,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for stage in &self.stages {
            x = stage.forward(&x, pass)?;
        }
        self.last.forward(&x, pass)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.avgpool.forward(x, pass)?;
        let x = self.dropout.forward(&x, pass)?;
        self.classifier.logits(&x, pass)
    }
}

/// The last layer; its weight begins by the number of classes.
fn classifier(features: usize, classes: usize, vb: ParameterBuilder) -> Result<Linear> {
    let options = LinearOptions::new(features, classes).init(Init::fan_in_uniform(classes));
    Linear::new(options.bias_init(Init::Constant(0.0)), vb)
}

/// timm's name of a parameter. `last` is the number of the last convolution among the features.
fn timm_name(path: &[&str], last: &str, shapes: &Shapes) -> Option<String> {
    Some(match path {
        ["classifier", "1", field] => format!("classifier.{field}"),
        ["features", "0", "0", field] => format!("conv_stem.{field}"),
        ["features", "0", "1", field] => format!("bn1.{field}"),
        ["features", place, "0", field] if *place == last => format!("conv_head.{field}"),
        ["features", place, "1", field] if *place == last => format!("bn2.{field}"),
        ["features", place, number, "block", inner @ ..] => {
            let block = format!("features.{place}.{number}.block");
            let inner = timm::inverted_residual(&block, inner, shapes)?;
            format!("blocks.{}.{number}.{inner}", place.parse::<usize>().ok()? - 1)
        }
        _ => return None,
    })
}

impl Model for EfficientNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(&self.cam_layer)
    }

    fn timm_names(&self) -> Option<TimmNames> {
        let last = (self.stages.len() + 1).to_string();
        let names = TimmNames::of(&self.parameters, |path, shapes| timm_name(path, &last, shapes));
        Some(names.eps(TIMM_EPS, self.norm_eps))
    }
}
