//! MobileNetV2 (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>), torchvision's form.

use candle_core::{Result, Tensor};
use candle_vision_ops::Activation;

use super::config::{backbone_and_head, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    ConvNorm, ConvNormOptions, Dropout, GlobalAvgPool, Linear, LinearOptions, images_to_features,
};
use crate::timm::{Shapes, shapes_of};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass, TimmNames, timm};

const HEAD: &str = "classifier.1";
const CAM_LAYER: &str = "features.18.2";

pub(super) fn mobilenet_v2() -> NetworkEntry {
    torchvision("mobilenet_v2", |spec, vb| {
        MobileNetV2::new(MobileNetV2Config::new().spec(spec), vb)
    })
    .summary("Sandler et al. 2018, inverted residuals")
    .head(HEAD)
    .cam_layer(CAM_LAYER)
}

/// Expansion, channels, repetitions and first stride of each row of table 2.
const ROWS: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

const LAST_CHANNELS: usize = 1280;

/// The sizes of a [`MobileNetV2`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MobileNetV2Config {
    /// Probability of dropout before the classifier where the spec names none. Default 0.2.
    pub dropout: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl MobileNetV2Config {
    /// torchvision's form.
    pub fn new() -> Self {
        Self { dropout: 0.2, spec: ModelSpec::new("mobilenet_v2", 1000) }
    }

    /// Sets the probability of dropout before the classifier, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }
}

impl Default for MobileNetV2Config {
    fn default() -> Self {
        Self::new()
    }
}

of_spec!(MobileNetV2, MobileNetV2Config);

/// `features.0..18` and `classifier.1`.
pub struct MobileNetV2 {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    blocks: Vec<InvertedResidual>,
    last: ConvNorm,
    avgpool: GlobalAvgPool,
    dropout: Dropout,
    classifier: Linear,
}

/// A convolution with batch norm and ReLU6, the children 0, 1 and 2 of `vb`.
fn activated(options: ConvNormOptions, vb: ParameterBuilder) -> Result<ConvNorm> {
    ConvNorm::new(options.activation(Activation::Relu6), vb)
}

/// Expand, filter each channel, project; with a shortcut where the shape stays.
struct InvertedResidual {
    path: String,
    layers: Vec<ConvNorm>,
    project: ConvNorm,
    shortcut: bool,
}

impl InvertedResidual {
    fn new(
        from: usize,
        to: usize,
        stride: usize,
        expansion: usize,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let hidden = from * expansion;
        let inner = vb.pp("conv");
        let mut layers = Vec::new();
        if expansion != 1 {
            layers.push(activated(ConvNormOptions::new(from, hidden, 1), inner.pp(0))?);
        }
        let depthwise = ConvNormOptions::new(hidden, hidden, 3).stride(stride).groups(hidden);
        layers.push(activated(depthwise, inner.pp(layers.len()))?);
        let (conv, bn) = (layers.len().to_string(), (layers.len() + 1).to_string());
        let project = ConvNormOptions::new(hidden, to, 1).activation(Activation::Identity);
        let project = ConvNorm::new(project.names(&conv, &bn, ""), inner)?;
        let shortcut = stride == 1 && from == to;
        Ok(Self { path: vb.path().to_owned(), layers, project, shortcut })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let mut y = x.clone();
        for layer in &self.layers {
            y = layer.forward(&y, pass)?;
        }
        let y = if self.shortcut {
            self.project.forward_residual(&y, x, pass)?
        } else {
            self.project.forward(&y, pass)?
        };
        pass.output(&self.path, y)
    }
}

impl MobileNetV2 {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, or a name is taken.
    pub fn new(config: MobileNetV2Config, vb: ParameterBuilder) -> Result<Self> {
        let MobileNetV2Config { dropout, spec } = config;
        check(&spec)?;
        let features = vb.pp("features");
        let stem = ConvNormOptions::new(spec.input[0], 32, 3).stride(2);
        let stem = activated(stem, features.pp(0))?;
        let mut blocks = Vec::new();
        let mut from = 32;
        for (expansion, to, repetitions, first_stride) in ROWS {
            for i in 0..repetitions {
                let stride = if i == 0 { first_stride } else { 1 };
                let vb = features.pp(blocks.len() + 1);
                blocks.push(InvertedResidual::new(from, to, stride, expansion, vb)?);
                from = to;
            }
        }
        let vb_last = features.pp(blocks.len() + 1);
        let last = activated(ConvNormOptions::new(from, LAST_CHANNELS, 1), vb_last)?;
        let dropout = Dropout::new(spec.dropout.unwrap_or(dropout), vb.pp("classifier.0"));
        let classifier = LinearOptions::new(LAST_CHANNELS, spec.num_classes)
            .init(Init::Normal { mean: 0.0, std: 0.01 })
            .bias_init(Init::Constant(0.0));
        let classifier = Linear::new(classifier, vb.pp(HEAD))?;
        let (avgpool, parameters) = (GlobalAvgPool::new(vb.pp("avgpool")), vb.parameters());
        Ok(Self { spec, parameters, stem, blocks, last, avgpool, dropout, classifier })
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
        let x = self.dropout.forward(&x, pass)?;
        self.classifier.logits(&x, pass)
    }
}

/// Channels of the output of block `i`.
fn output_channels(i: usize, shapes: &Shapes) -> usize {
    let norm = |layer: usize| shapes.get(&format!("features.{i}.conv.{layer}.running_mean"));
    (0..4).rev().find_map(norm).and_then(|shape| shape.first().copied()).unwrap_or(0)
}

/// timm's name of a parameter. `last` is the number of the last convolution, and `stages` has timm's stage and number of
/// each block.
fn timm_name(
    path: &[&str],
    last: &str,
    stages: &[(usize, usize)],
    shapes: &Shapes,
) -> Option<String> {
    Some(match path {
        ["classifier", "1", field] => format!("classifier.{field}"),
        ["features", "0", "0", field] => format!("conv_stem.{field}"),
        ["features", "0", "1", field] => format!("bn1.{field}"),
        ["features", place, "0", field] if *place == last => format!("conv_head.{field}"),
        ["features", place, "1", field] if *place == last => format!("bn2.{field}"),
        ["features", number, "conv", inner @ ..] => {
            let expands = shapes.contains_key(&format!("features.{number}.conv.1.0.weight"));
            let convs = if expands { 3 } else { 2 };
            let (place, is_conv, field) = match inner {
                [place, layer, field] => (place.parse().ok()?, *layer == "0", field),
                // The last convolution and its norm lie side by side.
                [place, field] => (convs - 1, place.parse::<usize>().ok()? == convs - 1, field),
                _ => return None,
            };
            let inner = timm::in_block(convs, !expands, place, is_conv, field)?;
            let (stage, block) = stages.get(number.parse::<usize>().ok()? - 1)?;
            format!("blocks.{stage}.{block}.{inner}")
        }
        _ => return None,
    })
}

impl Model for MobileNetV2 {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }

    fn timm_names(&self) -> Option<TimmNames> {
        let shapes = shapes_of(&self.parameters);
        let stages = timm::stages((1..=self.blocks.len()).map(|i| output_channels(i, &shapes)));
        let last = (self.blocks.len() + 1).to_string();
        let name = |path: &[&str], shapes: &Shapes| timm_name(path, &last, &stages, shapes);
        Some(TimmNames::of(&self.parameters, name))
    }
}
