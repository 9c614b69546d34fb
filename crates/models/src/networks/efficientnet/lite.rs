//! EfficientNet-Lite: EfficientNets for devices that have neither SiLU nor squeeze and excitation.
//!
//! Google published them without a paper
//! (<https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite>). timm has the weights, in
//! networks that it calls `tf_efficientnet_lite0` and so on. Paths of parameters and preprocessing are timm's.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, Padding2d};

use super::super::config::{backbone_and_head, divisible, of_spec};
use super::super::inverted_residual::{InvertedResidual, Shortcut};
use super::super::published::{EvalPreprocessing, PublishedWeights, ResizeInterpolation};
use super::super::{NetworkEntry, check, imagenet_classes, row};
use super::config::B0;
use super::{EfficientNetStage, Stage, classifier};
use crate::layers::{
    ConvNorm, ConvNormOptions, Dropout, GlobalAvgPool, Linear, StochasticDepth, images_to_features,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "classifier";
const CAM_LAYER: &str = "bn2.act";
const STEM_CHANNELS: usize = 32;
const LAST_CHANNELS: usize = 1280;

pub(in super::super) fn efficientnet_lite0() -> NetworkEntry {
    lite(
        EfficientNetLiteConfig::lite0,
        Published {
            name: "efficientnet_lite0",
            side: 224,
            resize: 256,
            accuracy: [0.748_30, 0.921_72],
            costs: (4_652_008, 385_187_552),
            bytes: 18_800_000,
        },
    )
    .summary("Tan and Le 2019, EfficientNet-Lite0, timm's form")
}

pub(in super::super) fn efficientnet_lite1() -> NetworkEntry {
    lite(
        EfficientNetLiteConfig::lite1,
        Published {
            name: "efficientnet_lite1",
            side: 240,
            resize: 272,
            accuracy: [0.766_44, 0.932_30],
            costs: (5_416_680, 600_185_232),
            bytes: 21_900_000,
        },
    )
    .summary("Tan and Le 2019, EfficientNet-Lite1, timm's form")
}

pub(in super::super) fn efficientnet_lite2() -> NetworkEntry {
    lite(
        EfficientNetLiteConfig::lite2,
        Published {
            name: "efficientnet_lite2",
            side: 260,
            resize: 292,
            accuracy: [0.774_64, 0.937_50],
            costs: (6_092_072, 859_736_272),
            bytes: 24_600_000,
        },
    )
    .summary("Tan and Le 2019, EfficientNet-Lite2, timm's form")
}

/// What timm says of its weights: `default_cfgs` in `timm/models/efficientnet.py`, and `results-imagenet.csv`.
struct Published {
    name: &'static str,
    side: usize,
    /// The side divided by timm's `crop_pct`.
    resize: usize,
    /// Top-1 and top-5.
    accuracy: [f64; 2],
    /// Parameters and multiply-adds.
    costs: (usize, u64),
    bytes: u64,
}

fn lite(config: fn() -> EfficientNetLiteConfig, published: Published) -> NetworkEntry {
    let Published { name, side, resize, accuracy: [top1, top5], costs, bytes } = published;
    let preprocessing = EvalPreprocessing::IMAGENET
        .sizes(resize, side)
        .interpolation(ResizeInterpolation::Bicubic)
        .normalize([0.5; 3], [0.5; 3]);
    // The accuracies are those of `results/results-imagenet.csv` in <https://github.com/huggingface/pytorch-image-models>.
    // The hub names the checksum of a file itself when the file is fetched.
    let url = format!("https://huggingface.co/timm/tf_{name}.in1k/resolve/main/model.safetensors");
    let weights = PublishedWeights::new("in1k", name, 1000)
        .url(&url, "")
        .source("Google's weights by timm, Apache-2.0")
        .accuracy(top1)
        .top5_accuracy(top5)
        .costs(costs.0, costs.1)
        .bytes(bytes)
        .preprocessing(preprocessing);
    row(name, move |spec, vb| EfficientNetLite::new(config().spec(spec), vb))
        .family("efficientnet_lite")
        .input([3, side, side])
        .weights(weights)
        .classes(imagenet_classes())
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// The sizes of an [`EfficientNetLite`].
///
/// ```
/// use candle_vision_models::EfficientNetLiteConfig;
///
/// let lite1 = EfficientNetLiteConfig::lite1().num_classes(10);
/// assert_eq!((lite1.stages[1].layers, lite1.stages[6].layers), (3, 1));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EfficientNetLiteConfig {
    /// The stages in their order. None of them is fused.
    pub stages: Vec<EfficientNetStage>,
    /// Probability of dropout before the classifier where the spec names none. Default 0.2.
    pub dropout: f64,
    /// Probability with which training leaves out the branch of the last block; it grows from 0 at the first block
    /// on. Default 0.2.
    pub stochastic_depth: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes at the published size.
    pub spec: ModelSpec,
}

impl EfficientNetLiteConfig {
    /// EfficientNet-B0's stages with `width` times as many channels and `depth` times as many blocks. The stem, the
    /// last convolution, and the number of blocks of the first and the last stage stay as they are.
    pub fn scaled(width: f64, depth: f64) -> Self {
        let mut stages = B0.map(|stage| stage.scaled(width, depth));
        for end in [0, B0.len() - 1] {
            stages[end].layers = B0[end].layers;
        }
        let spec = ModelSpec::new("efficientnet_lite", 1000);
        Self { stages: stages.to_vec(), dropout: 0.2, stochastic_depth: 0.2, spec }
    }

    /// EfficientNet-Lite0, for images of 224x224 pixels.
    pub fn lite0() -> Self {
        Self::scaled(1.0, 1.0).called("efficientnet_lite0")
    }

    /// EfficientNet-Lite1, for images of 240x240 pixels.
    pub fn lite1() -> Self {
        Self::scaled(1.0, 1.1).called("efficientnet_lite1")
    }

    /// EfficientNet-Lite2, for images of 260x260 pixels.
    pub fn lite2() -> Self {
        Self::scaled(1.1, 1.2).dropout(0.3).called("efficientnet_lite2")
    }

    /// Sets the probability of dropout before the classifier, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Sets the probability with which training leaves out the branch of the last block, a fraction in `0.0..1.0`.
    pub fn stochastic_depth(mut self, probability: f64) -> Self {
        self.stochastic_depth = probability;
        self
    }

    fn called(mut self, name: &str) -> Self {
        self.spec = ModelSpec::new(name, self.spec.num_classes);
        self
    }
}

of_spec!(EfficientNetLite, EfficientNetLiteConfig);

/// timm's EfficientNet-Lite: `conv_stem`, `bn1`, `blocks.STAGE.BLOCK`, `conv_head`, `bn2` and `classifier`. A batch
/// norm of timm's holds its activation; here the activation is a layer behind it, such as `bn1.act`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{EfficientNetLite, EfficientNetLiteConfig, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let config = EfficientNetLiteConfig::scaled(0.25, 0.5).num_classes(10);
/// let model = EfficientNetLite::new(config, vb)?;
/// let images = Tensor::zeros((1, 3, 33, 33), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 1280, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct EfficientNetLite {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    stages: Vec<Stage>,
    last: ConvNorm,
    avgpool: GlobalAvgPool,
    dropout: Dropout,
    classifier: Linear,
}

/// A convolution and a batch norm with TensorFlow's settings and timm's names, without an activation.
fn conv_norm(options: ConvNormOptions, conv: &str, bn: &str) -> ConvNormOptions {
    let [height, width] = options.conv.kernel;
    let fan_out = options.conv.out_channels / options.conv.config.groups * height * width;
    options
        .padding(Padding2d::SameTf)
        .init(Init::fan_out_normal(fan_out))
        .eps(1e-3)
        .activation(Activation::Identity)
        .names(conv, bn, "")
}

/// The same with ReLU6, which timm keeps within the batch norm.
fn activated(
    options: ConvNormOptions,
    conv: &str,
    bn: &str,
    vb: &ParameterBuilder,
) -> Result<ConvNorm> {
    let layer = ConvNorm::new(conv_norm(options, conv, bn), vb.clone())?;
    Ok(layer.activated(Activation::Relu6, vb.pp(bn).pp("act")))
}

/// A block for maps of `from` channels; without an expansion its layers have names of their own.
fn block(
    from: usize,
    stage: EfficientNetStage,
    stride: usize,
    probability: f64,
    vb: ParameterBuilder,
) -> Result<InvertedResidual> {
    let expanded = divisible((from * stage.expansion) as f64, 8);
    let depthwise = ConvNormOptions::new(expanded, expanded, stage.kernel);
    let depthwise = depthwise.stride(stride).groups(expanded);
    let project = ConvNormOptions::new(expanded, stage.channels, 1);
    let (filters, project) = if stage.expansion == 1 {
        let filters = vec![activated(depthwise, "conv_dw", "bn1", &vb)?];
        (filters, conv_norm(project, "conv_pw", "bn2"))
    } else {
        let expand = ConvNormOptions::new(from, expanded, 1);
        let expand = activated(expand, "conv_pw", "bn1", &vb)?;
        let filters = vec![expand, activated(depthwise, "conv_dw", "bn2", &vb)?];
        (filters, conv_norm(project, "conv_pwl", "bn3"))
    };
    let shortcut = if stride == 1 && from == stage.channels {
        Shortcut::StochasticDepth(StochasticDepth::new(probability, vb.pp("drop_path"))?)
    } else {
        Shortcut::None
    };
    let path = vb.path().to_owned();
    let project = Some(ConvNorm::new(project, vb)?);
    Ok(InvertedResidual { path, filters, squeeze_excitation: None, project, shortcut })
}

impl EfficientNetLite {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, the probability of stochastic depth is no fraction, or a name is taken.
    pub fn new(config: EfficientNetLiteConfig, vb: ParameterBuilder) -> Result<Self> {
        let EfficientNetLiteConfig { stages, dropout, stochastic_depth, spec } = config;
        check(&spec)?;
        let stem = ConvNormOptions::new(spec.input[0], STEM_CHANNELS, 3).stride(2);
        let stem = activated(stem, "conv_stem", "bn1", &vb)?;
        let total: usize = stages.iter().map(|stage| stage.layers).sum();
        let (mut built, mut from, mut number) = (Vec::new(), STEM_CHANNELS, 0);
        for stage in stages {
            let (vb, mut blocks) = (vb.pp("blocks").pp(built.len()), Vec::new());
            for i in 0..stage.layers {
                let stride = if i == 0 { stage.stride } else { 1 };
                let probability = stochastic_depth * number as f64 / total as f64;
                blocks.push(block(from, stage, stride, probability, vb.pp(i))?);
                (from, number) = (stage.channels, number + 1);
            }
            built.push(Stage { path: vb.path().to_owned(), blocks });
        }
        let last = ConvNormOptions::new(from, LAST_CHANNELS, 1);
        Ok(Self {
            stem,
            stages: built,
            last: activated(last, "conv_head", "bn2", &vb)?,
            avgpool: GlobalAvgPool::new(vb.pp("global_pool")),
            dropout: Dropout::new(spec.dropout.unwrap_or(dropout), vb.pp("dropout")),
            classifier: classifier(LAST_CHANNELS, spec.num_classes, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
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

impl Model for EfficientNetLite {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }
}
