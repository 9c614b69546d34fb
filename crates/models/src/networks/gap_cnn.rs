//! Convolutional networks that end in global average pooling, so that images of any size fit.

use candle_core::{Error, Result, Tensor};
use candle_vision_ops::{Activation, MaxPool2dConfig, max_pool2d};

use super::config::{backbone_and_head, of_spec};
use super::{InputSizes, NetworkEntry, check_three_halvings, row};
use crate::layers::{
    Conv2d, Conv2dOptions, ConvNorm, ConvNormOptions, Dropout, GlobalAvgPool, Linear, Relu,
    images_to_features,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "fc";
const HIDDEN_HEAD: &str = "fc2";
/// The path of the last ReLU of the convolutions, where class activation maps look.
const LAST: &str = "relu3";

pub(super) fn gap_cnn() -> NetworkEntry {
    row("gap_cnn", |spec, vb| GapCnn::new(GapCnnConfig::plain().spec(spec), vb))
        .summary("three convolutions, global average pooling; for images of any size")
        .sizes(InputSizes::from(8))
        .head(HEAD)
        .cam_layer(LAST)
}

pub(super) fn gap_cnn_deep() -> NetworkEntry {
    row("gap_cnn_deep", |spec, vb| GapCnn::new(GapCnnConfig::deep().spec(spec), vb))
        .summary("32-64-128 channels with batch norm, global average pooling, dropout 0.5")
        .sizes(InputSizes::from(8))
        .head(HEAD)
        .cam_layer(LAST)
}

pub(super) fn gap_cnn_hidden() -> NetworkEntry {
    row("gap_cnn_hidden", |spec, vb| GapCnn::new(GapCnnConfig::hidden().spec(spec), vb))
        .summary(
            "gap_cnn_deep with a linear layer of 64 features, dropout and ReLU before the last",
        )
        .sizes(InputSizes::from(8))
        .head(HIDDEN_HEAD)
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
    /// Features of a linear layer before the last one; `None` for no such layer.
    pub hidden_features: Option<usize>,
    /// Probability of dropout before the classifier where the spec names none; `None` for no dropout. It comes before
    /// the last layer without a hidden one, and between the hidden one and its ReLU otherwise.
    pub dropout: Option<f64>,
    /// Name, classes and image size. Default: 10 classes of 224x224 pixels in three channels.
    pub spec: ModelSpec,
}

impl GapCnnConfig {
    /// 16, 32 and 64 channels.
    pub fn plain() -> Self {
        let spec = ModelSpec::new("gap_cnn", 10);
        let widths = [16, 32, 64];
        Self { widths, batch_norm: false, hidden_features: None, dropout: None, spec }
    }

    /// 32, 64 and 128 channels with batch norm, and dropout 0.5.
    pub fn deep() -> Self {
        let spec = ModelSpec::new("gap_cnn_deep", 10);
        let widths = [32, 64, 128];
        Self { widths, batch_norm: true, hidden_features: None, dropout: Some(0.5), spec }
    }

    /// The same with a linear layer of 64 features, dropout 0.5 and ReLU before the last layer.
    pub fn hidden() -> Self {
        let spec = ModelSpec::new("gap_cnn_hidden", 10);
        Self { hidden_features: Some(64), spec, ..Self::deep() }
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

    /// Sets the features of a linear layer before the last one; `None` for no such layer.
    pub fn hidden_features(mut self, features: Option<usize>) -> Self {
        self.hidden_features = features;
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

/// Three 3x3 convolutions with ReLU and 2x2 max pool, global average pooling, `fc`; with a hidden layer `fc1` and `fc2`.
pub struct GapCnn {
    spec: ModelSpec,
    parameters: Parameters,
    blocks: Vec<Block>,
    avgpool: GlobalAvgPool,
    hidden: Option<(Linear, Relu)>,
    dropout: Option<Dropout>,
    head: &'static str,
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
        let GapCnnConfig { widths, batch_norm, hidden_features, dropout, spec } = config;
        check_three_halvings(&spec)?;
        let sizes = [[spec.input[0], widths[0]], [widths[0], widths[1]], [widths[1], widths[2]]];
        let blocks =
            sizes.into_iter().enumerate().map(|(i, size)| Block::new(i + 1, size, batch_norm, &vb));
        let dropout = dropout.map(|usual| spec.dropout.unwrap_or(usual));
        let head = if hidden_features.is_some() { HIDDEN_HEAD } else { HEAD };
        let hidden = hidden_features.map(|features| {
            let linear = Linear::new((widths[2], features), vb.pp("fc1"))?;
            Ok::<_, Error>((linear, Relu::new(vb.pp("relu4"))))
        });
        let features = hidden_features.unwrap_or(widths[2]);
        Ok(Self {
            hidden: hidden.transpose()?,
            blocks: blocks.collect::<Result<_>>()?,
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            dropout: dropout.map(|probability| Dropout::new(probability, vb.pp("dropout"))),
            fc: Linear::new((features, spec.num_classes), vb.pp(head))?,
            head,
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
        if let Some((linear, _)) = &self.hidden {
            x = linear.forward(&x, pass)?;
        }
        if let Some(dropout) = &self.dropout {
            x = dropout.forward(&x, pass)?;
        }
        if let Some((_, relu)) = &self.hidden {
            x = relu.forward(&x, pass)?;
        }
        self.fc.logits(&x, pass)
    }
}

impl Model for GapCnn {
    backbone_and_head!();

    fn head(&self) -> &str {
        self.head
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(LAST)
    }
}
