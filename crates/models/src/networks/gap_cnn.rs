//! Convolutional networks that end in global average pooling, so that images of any size fit.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, MaxPool2dConfig, max_pool2d};

use super::config::of_spec;
use super::{InputSizes, NetworkEntry, check_three_halvings, row};
use crate::layers::{
    Conv2d, Conv2dOptions, ConvNorm, ConvNormOptions, Dropout, GlobalAvgPool, Linear,
    features_to_maps, images_to_features, maps_to_features,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// The path of the last ReLU, where class activation maps look.
const LAST: &str = "relu3";

pub(super) fn gap_cnn() -> NetworkEntry {
    row("gap_cnn", |spec, vb| GapCnn::new(GapCnnConfig::plain().spec(spec), vb))
        .summary("three convolutions, global average pooling; for images of any size")
        .sizes(InputSizes::from(8))
        .head("fc")
        .cam_layer(LAST)
}

pub(super) fn gap_cnn_deep() -> NetworkEntry {
    row("gap_cnn_deep", |spec, vb| GapCnn::new(GapCnnConfig::deep().spec(spec), vb))
        .summary("32-64-128 channels with batch norm, global average pooling, dropout 0.5")
        .sizes(InputSizes::from(8))
        .head("fc")
        .cam_layer(LAST)
}

/// The sizes of a [`GapCnn`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GapCnnConfig {
    /// Channels of the three convolutions.
    pub widths: [usize; 3],
    /// Whether batch norm follows each convolution.
    pub batch_norm: bool,
    /// Probability of dropout before the classifier where the spec names none; `None` for no dropout.
    pub dropout: Option<f64>,
    /// Name, classes and image size. Default: 10 classes of 224x224 pixels in three channels.
    pub spec: ModelSpec,
}

impl GapCnnConfig {
    /// 16, 32 and 64 channels.
    pub fn plain() -> Self {
        let spec = ModelSpec::new("gap_cnn", 10);
        Self { widths: [16, 32, 64], batch_norm: false, dropout: None, spec }
    }

    /// 32, 64 and 128 channels with batch norm, and dropout 0.5.
    pub fn deep() -> Self {
        let spec = ModelSpec::new("gap_cnn_deep", 10);
        Self { widths: [32, 64, 128], batch_norm: true, dropout: Some(0.5), spec }
    }

    /// Sets the channels of the three convolutions.
    pub fn widths(mut self, widths: [usize; 3]) -> Self {
        self.widths = widths;
        self
    }

    /// Sets whether batch norm follows each convolution.
    pub fn batch_norm(mut self, batch_norm: bool) -> Self {
        self.batch_norm = batch_norm;
        self
    }

    /// Sets the probability of dropout before the classifier, a fraction in `0.0..1.0`; `None` for no
    /// dropout.
    pub fn dropout(mut self, dropout: Option<f64>) -> Self {
        self.dropout = dropout;
        self
    }
}

of_spec!(GapCnn, GapCnnConfig);

/// Three 3x3 convolutions with ReLU and 2x2 max pool, global average pooling, `fc`.
pub struct GapCnn {
    spec: ModelSpec,
    parameters: Parameters,
    blocks: Vec<Block>,
    avgpool: GlobalAvgPool,
    dropout: Option<Dropout>,
    fc: Linear,
}

enum Block {
    Plain { conv: Conv2d, relu: &'static str },
    Normalised(ConvNorm),
}

impl Block {
    /// `conv1`, `bn1` and `relu1` for the first.
    fn new(
        number: usize,
        [from, to]: [usize; 2],
        batch_norm: bool,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        let (conv, bn) = (format!("conv{number}"), format!("bn{number}"));
        let relu = ["relu1", "relu2", LAST][number - 1];
        if batch_norm {
            let options = ConvNormOptions::new(from, to, 3).init(Init::fan_in_uniform(from * 9));
            let conv = ConvNorm::new(options.names(&conv, &bn, relu), vb.clone())?;
            return Ok(Self::Normalised(conv));
        }
        let conv = Conv2d::new(Conv2dOptions::new(from, to, 3).padding(1), vb.pp(conv))?;
        Ok(Self::Plain { conv, relu })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match self {
            Self::Plain { conv, relu } => conv.forward_activated(x, Activation::Relu, relu, pass),
            Self::Normalised(conv) => conv.forward(x, pass),
        }
    }
}

impl GapCnn {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, images have less than 8x8 pixels, or a name is taken.
    pub fn new(config: GapCnnConfig, vb: ParameterBuilder) -> Result<Self> {
        let GapCnnConfig { widths, batch_norm, dropout, spec } = config;
        check_three_halvings(&spec)?;
        let sizes = [[spec.input[0], widths[0]], [widths[0], widths[1]], [widths[1], widths[2]]];
        let blocks =
            sizes.into_iter().enumerate().map(|(i, size)| Block::new(i + 1, size, batch_norm, &vb));
        let dropout = dropout.map(|usual| spec.dropout.unwrap_or(usual));
        Ok(Self {
            blocks: blocks.collect::<Result<_>>()?,
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            dropout: dropout.map(|probability| Dropout::new(probability, vb.pp("dropout"))),
            fc: Linear::new((widths[2], spec.num_classes), vb.pp("fc"))?,
            spec,
            parameters: vb.parameters(),
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = images_to_features(images, self.spec.input[0])?;
        for block in &self.blocks {
            x = max_pool2d(&block.forward(&x, pass)?, &MaxPool2dConfig::new(2))?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = self.avgpool.forward(x, pass)?;
        if let Some(dropout) = &self.dropout {
            x = dropout.forward(&x, pass)?;
        }
        self.fc.logits(&x, pass)
    }
}

impl Model for GapCnn {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.classify(&self.features(images, pass)?, pass)
    }

    fn forward_features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        features_to_maps(&self.features(images, pass)?)
    }

    fn forward_head(&self, features: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.classify(&maps_to_features(features)?, pass)
    }

    fn head(&self) -> &str {
        "fc"
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(LAST)
    }
}
