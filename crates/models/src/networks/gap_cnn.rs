//! Convolutional networks that end in global average pooling, so that images of any size fit.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Conv2dConfig, MaxPool2dConfig, adaptive_avg_pool2d, max_pool2d};

use super::require_three_halvings;
use crate::layers::{
    Activate, BatchNorm2d, Conv2d, ConvNorm, Dropout, Linear, flatten, images_to_features, layer_at,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// The path of the last ReLU, where class activation maps look.
const LAST: &str = "relu3";

/// Three 3x3 convolutions with ReLU and 2x2 max pool, global average pooling, `fc`.
///
/// The plain form has 16, 32 and 64 channels; the deep one 32, 64 and 128 with batch norm and
/// dropout 0.5 before the classifier.
pub struct GapCnn {
    spec: ModelSpec,
    parameters: Parameters,
    blocks: Vec<Block>,
    dropout: Option<Dropout>,
    fc: Linear,
}

struct Block {
    conv: Convolution,
    relu: &'static str,
}

enum Convolution {
    Plain(Conv2d),
    Normalised(ConvNorm),
}

impl Block {
    fn new(
        number: usize,
        from: usize,
        to: usize,
        normalised: bool,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        let config = Conv2dConfig::default().padding(1);
        let vb_conv = vb.pp(format_args!("conv{number}"));
        let relu = ["relu1", "relu2", LAST][number - 1];
        let conv = if normalised {
            let init = Init::fan_in_uniform(from * 9);
            let conv = Conv2d::without_bias(from, to, [3, 3], config, init, &vb_conv)?;
            let bn = BatchNorm2d::new(to, vb.pp(format_args!("bn{number}")))?;
            Convolution::Normalised(ConvNorm::of(conv, bn))
        } else {
            Convolution::Plain(Conv2d::new(from, to, [3, 3], config, vb_conv)?)
        };
        Ok(Self { conv, relu })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match &self.conv {
            Convolution::Plain(conv) => conv.forward_relu(x, self.relu, pass),
            Convolution::Normalised(conv) => conv.forward(x, Activate::relu(self.relu), pass),
        }
    }
}

impl GapCnn {
    pub(super) fn plain(
        spec: ModelSpec,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        Self::new(spec, [16, 32, 64], false, None, parameters, vb)
    }

    pub(super) fn deep(
        spec: ModelSpec,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let dropout = Dropout::new("dropout", spec.dropout.unwrap_or(0.5));
        Self::new(spec, [32, 64, 128], true, Some(dropout), parameters, vb)
    }

    fn new(
        spec: ModelSpec,
        widths: [usize; 3],
        normalised: bool,
        dropout: Option<Dropout>,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        require_three_halvings(&spec)?;
        let inputs = [spec.input[0], widths[0], widths[1]];
        let blocks = (0..3).map(|i| Block::new(i + 1, inputs[i], widths[i], normalised, &vb));
        Ok(Self {
            blocks: blocks.collect::<Result<_>>()?,
            dropout,
            fc: Linear::new(widths[2], spec.num_classes, vb.pp("fc"))?,
            spec,
            parameters,
        })
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
        let mut x = images_to_features(images, self.spec.input[0])?;
        for block in &self.blocks {
            x = max_pool2d(&block.forward(&x, pass)?, &MaxPool2dConfig::new(2))?;
        }
        let x = layer_at("avgpool", &x, pass, |x| adaptive_avg_pool2d(x, [1, 1]))?;
        let mut x = flatten(&x)?;
        if let Some(dropout) = &self.dropout {
            x = dropout.forward(&x, pass)?;
        }
        self.fc.logits(&x, pass)
    }

    fn head(&self) -> &'static str {
        "fc"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        Some(LAST)
    }
}
