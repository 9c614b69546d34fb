//! ConvNeXt (Liu et al. 2022, <https://arxiv.org/abs/2201.03545>), torchvision's form.

use candle_core::{Result, Tensor};
use candle_vision_ops::{add, flatten, mul, reshape};

use super::config::{backbone_and_head, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    AdaptiveAvgPool2d, Conv2d, Conv2dOptions, Gelu, LayerNorm, LayerNormOptions, Linear,
    LinearOptions, StochasticDepth, images_to_features,
};
use crate::{Init, Model, ModelSpec, Parameter, ParameterBuilder, Parameters, Pass, TimmNames};

const HEAD: &str = "classifier.2";
const CAM_LAYER: &str = "features.7";

pub(super) fn convnext_tiny() -> NetworkEntry {
    convnext("convnext_tiny", ConvNeXtConfig::tiny).summary("Liu et al. 2022, tiny")
}

pub(super) fn convnext_small() -> NetworkEntry {
    convnext("convnext_small", ConvNeXtConfig::small).summary("Liu et al. 2022, small")
}

pub(super) fn convnext_base() -> NetworkEntry {
    convnext("convnext_base", ConvNeXtConfig::base).summary("Liu et al. 2022, base")
}

pub(super) fn convnext_large() -> NetworkEntry {
    convnext("convnext_large", ConvNeXtConfig::large).summary("Liu et al. 2022, large")
}

fn convnext(name: &str, config: fn() -> ConvNeXtConfig) -> NetworkEntry {
    torchvision(name, move |spec, vb| ConvNeXt::new(config().spec(spec), vb))
        .family("convnext")
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// The sizes of a [`ConvNeXt`].
///
/// ```
/// use candle_vision_models::ConvNeXtConfig;
///
/// let tiny = ConvNeXtConfig::tiny().stochastic_depth(0.0).num_classes(10);
/// assert_eq!((tiny.channels, tiny.layers), ([96, 192, 384, 768], [3, 3, 9, 3]));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConvNeXtConfig {
    /// Channels of each of the four stages.
    pub channels: [usize; 4],
    /// Blocks of each stage.
    pub layers: [usize; 4],
    /// What the factors of the branches' channels begin with (layer scale). Default 1e-6.
    pub layer_scale: f64,
    /// Probability with which training leaves out the branch of the last block; it grows from 0 at the first block
    /// on. Default 0.
    pub stochastic_depth: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl ConvNeXtConfig {
    /// Stages of `layers` blocks with `channels`. The network is called `convnext`. One that is to be built again from
    /// a checkpoint needs a [`NetworkEntry`] and takes its spec from there.
    pub fn new(channels: [usize; 4], layers: [usize; 4]) -> Self {
        let spec = ModelSpec::new("convnext", 1000);
        Self { channels, layers, layer_scale: 1e-6, stochastic_depth: 0.0, spec }
    }

    /// ConvNeXt-T.
    pub fn tiny() -> Self {
        let tiny = Self::new([96, 192, 384, 768], [3, 3, 9, 3]);
        tiny.stochastic_depth(0.1).called("convnext_tiny")
    }

    /// ConvNeXt-S.
    pub fn small() -> Self {
        let small = Self::new([96, 192, 384, 768], [3, 3, 27, 3]);
        small.stochastic_depth(0.4).called("convnext_small")
    }

    /// ConvNeXt-B.
    pub fn base() -> Self {
        let base = Self::new([128, 256, 512, 1024], [3, 3, 27, 3]);
        base.stochastic_depth(0.5).called("convnext_base")
    }

    /// ConvNeXt-L.
    pub fn large() -> Self {
        let large = Self::new([192, 384, 768, 1536], [3, 3, 27, 3]);
        large.stochastic_depth(0.5).called("convnext_large")
    }

    /// Sets what the factors of the branches' channels begin with.
    pub fn layer_scale(mut self, layer_scale: f64) -> Self {
        self.layer_scale = layer_scale;
        self
    }

    /// Sets the probability with which training leaves out the branch of the last block, a fraction in `0.0..1.0`.
    pub fn stochastic_depth(mut self, probability: f64) -> Self {
        self.stochastic_depth = probability;
        self
    }

    fn called(mut self, name: &str) -> Self {
        self.spec.architecture = name.to_owned();
        self
    }
}

of_spec!(ConvNeXt, ConvNeXtConfig);

/// torchvision's ConvNeXts: `features.0..7`, of which the even ones change the resolution and the odd ones are stages,
/// and `classifier.0..2`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{ConvNeXt, ConvNeXtConfig, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let config = ConvNeXtConfig::new([8, 16, 24, 32], [1, 1, 2, 1]).num_classes(10);
/// let model = ConvNeXt::new(config, vb)?;
/// let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 32, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct ConvNeXt {
    spec: ModelSpec,
    parameters: Parameters,
    stem: Stem,
    /// A stage, and the step down to the next one.
    stages: Vec<(Stage, Option<Downsample>)>,
    avgpool: AdaptiveAvgPool2d,
    norm: LayerNorm,
    classifier: Linear,
}

/// A convolution whose weights begin as all of this network's do.
fn conv(options: Conv2dOptions, vb: ParameterBuilder) -> Result<Conv2d> {
    let options = options.init(Init::truncated_normal(0.02)).bias_init(Init::Constant(0.0));
    Conv2d::new(options, vb)
}

fn linear(from: usize, to: usize, vb: ParameterBuilder) -> Result<Linear> {
    let options = LinearOptions::new(from, to).init(Init::truncated_normal(0.02));
    Linear::new(options.bias_init(Init::Constant(0.0)), vb)
}

fn layer_norm(channels: usize, vb: ParameterBuilder) -> Result<LayerNorm> {
    LayerNorm::new(LayerNormOptions::new(channels).eps(1e-6), vb)
}

/// Patches of 4x4 pixels.
struct Stem {
    conv: Conv2d,
    norm: LayerNorm,
}

impl Stem {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x, pass)?, pass)
    }
}

/// Patches of 2x2 positions.
struct Downsample {
    path: String,
    norm: LayerNorm,
    conv: Conv2d,
}

impl Downsample {
    fn new(from: usize, to: usize, vb: ParameterBuilder) -> Result<Self> {
        Ok(Self {
            norm: layer_norm(from, vb.pp(0))?,
            conv: conv(Conv2dOptions::new(from, to, 2).stride(2), vb.pp(1))?,
            path: vb.path().to_owned(),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let x = self.norm.forward(&x, pass)?;
        let x = self.conv.forward(&x, pass)?;
        pass.output(&self.path, x)
    }
}

/// Blocks of one width.
struct Stage {
    path: String,
    blocks: Vec<Block>,
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

/// A depthwise 7x7 convolution and two linear layers, whose output is weighted and added to the input. The children
/// `block.1` and `block.6` of torchvision's block permute axes, for which there is no need here.
struct Block {
    path: String,
    depthwise: Conv2d,
    norm: LayerNorm,
    expand: Linear,
    gelu: Gelu,
    project: Linear,
    layer_scale: Parameter,
    stochastic_depth: StochasticDepth,
}

impl Block {
    fn new(
        channels: usize,
        layer_scale: f64,
        probability: f64,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let inner = vb.pp("block");
        let depthwise = Conv2dOptions::new(channels, channels, 7).padding(3).groups(channels);
        let layer_scale =
            vb.weight("layer_scale", &[channels, 1, 1], Init::Constant(layer_scale))?;
        Ok(Self {
            depthwise: conv(depthwise, inner.pp(0))?,
            norm: layer_norm(channels, inner.pp(2))?,
            expand: linear(channels, 4 * channels, inner.pp(3))?,
            gelu: Gelu::new(inner.pp(4)),
            project: linear(4 * channels, channels, inner.pp(5))?,
            layer_scale,
            stochastic_depth: StochasticDepth::new(probability, vb.pp("stochastic_depth"))?,
            path: vb.path().to_owned(),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let y = self.depthwise.forward(x, pass)?;
        let y = self.norm.forward(&y, pass)?;
        let y = self.expand.forward(&y, pass)?;
        let y = self.gelu.forward(&y, pass)?;
        let y = self.project.forward(&y, pass)?;
        let y = mul(&y, &reshape(&self.layer_scale.in_product(pass)?, ((),))?)?;
        let y = self.stochastic_depth.forward(&y, pass)?;
        let y = add(&y, x)?;
        pass.output(&self.path, y)
    }
}

impl ConvNeXt {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, the probability of stochastic depth is no fraction, or a name is taken.
    pub fn new(config: ConvNeXtConfig, vb: ParameterBuilder) -> Result<Self> {
        let ConvNeXtConfig { channels, layers, layer_scale, stochastic_depth, spec } = config;
        check(&spec)?;
        let features = vb.pp("features");
        let stem = features.pp(0);
        let stem = Stem {
            conv: conv(Conv2dOptions::new(spec.input[0], channels[0], 4).stride(4), stem.pp(0))?,
            norm: layer_norm(channels[0], stem.pp(1))?,
        };
        let last_block = layers.iter().sum::<usize>().saturating_sub(1).max(1);
        let (mut stages, mut number) = (Vec::new(), 0);
        for (i, width) in channels.into_iter().enumerate() {
            let (vb, mut blocks) = (features.pp(2 * i + 1), Vec::new());
            for block in 0..layers[i] {
                let probability = stochastic_depth * number as f64 / last_block as f64;
                blocks.push(Block::new(width, layer_scale, probability, vb.pp(block))?);
                number += 1;
            }
            let stage = Stage { path: vb.path().to_owned(), blocks };
            let next = channels.get(i + 1);
            let downsample = next.map(|&to| Downsample::new(width, to, features.pp(2 * i + 2)));
            stages.push((stage, downsample.transpose()?));
        }
        let classifier = vb.pp("classifier");
        Ok(Self {
            stem,
            stages,
            avgpool: AdaptiveAvgPool2d::new([1, 1], vb.pp("avgpool")),
            norm: layer_norm(channels[3], classifier.pp(0))?,
            classifier: linear(channels[3], spec.num_classes, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for (stage, downsample) in &self.stages {
            x = stage.forward(&x, pass)?;
            if let Some(downsample) = downsample {
                x = downsample.forward(&x, pass)?;
            }
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.avgpool.forward(x, pass)?;
        let x = self.norm.forward(&x, pass)?;
        self.classifier.logits(&flatten(&x)?, pass)
    }
}

/// timm's name of a parameter.
fn timm_name(path: &[&str]) -> Option<String> {
    Some(match path {
        ["classifier", "0", field] => format!("head.norm.{field}"),
        ["classifier", "2", field] => format!("head.fc.{field}"),
        ["features", "0", layer, field] => format!("stem.{layer}.{field}"),
        ["features", place, rest @ ..] => {
            // Stages and what lies between them take turns.
            let place: usize = place.parse().ok()?;
            let (stage, next) = ((place - 1) / 2, place / 2);
            match rest {
                [block, "layer_scale"] => format!("stages.{stage}.blocks.{block}.gamma"),
                [block, "block", layer, field] => {
                    let layer = match *layer {
                        "0" => "conv_dw",
                        "2" => "norm",
                        "3" => "mlp.fc1",
                        "5" => "mlp.fc2",
                        _ => return None,
                    };
                    format!("stages.{stage}.blocks.{block}.{layer}.{field}")
                }
                [layer, field] => format!("stages.{next}.downsample.{layer}.{field}"),
                _ => return None,
            }
        }
        _ => return None,
    })
}

impl Model for ConvNeXt {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }

    fn timm_names(&self) -> Option<TimmNames> {
        let names = TimmNames::of(&self.parameters, |path, _| timm_name(path));
        // timm keeps the scale of each channel without the axes of the image.
        let scales =
            self.parameters.all().into_iter().filter(|p| p.path().ends_with(".layer_scale"));
        let with_shape =
            |names: TimmNames, scale: Parameter| names.shape(scale.path(), [scale.elem_count()]);
        Some(scales.fold(names, with_shape))
    }
}
