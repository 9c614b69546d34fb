//! MobileNetV2 (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>), torchvision's form.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Conv2dConfig, adaptive_avg_pool2d, relu6};

use crate::layers::{Activate, BatchNorm2d, Conv2d, Dropout, Linear, flatten, images_to_features};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

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

/// `features.0..18` and `classifier.1`.
pub struct MobileNetV2 {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvBn,
    blocks: Vec<InvertedResidual>,
    last: ConvBn,
    dropout: Dropout,
    classifier: Linear,
}

/// Convolution, batch norm and, if it has a path, relu6.
struct ConvBn {
    conv: Conv2d,
    bn: BatchNorm2d,
    relu6: Option<String>,
}

/// Kernel size, stride and groups of a convolution.
#[derive(Clone, Copy)]
struct Kernel {
    size: usize,
    stride: usize,
    groups: usize,
}

const POINT: Kernel = Kernel { size: 1, stride: 1, groups: 1 };

impl ConvBn {
    /// Convolution and batch norm under the given paths; `relu6` names the rectifier behind them.
    fn new(
        from: usize,
        to: usize,
        kernel: Kernel,
        vb: [ParameterBuilder; 2],
        relu6: Option<String>,
    ) -> Result<Self> {
        let Kernel { size, stride, groups } = kernel;
        let config = Conv2dConfig::default().stride(stride).padding(size / 2).groups(groups);
        let init = Init::fan_out_normal(to / groups * size * size);
        let [vb_conv, vb_bn] = vb;
        Ok(Self {
            conv: Conv2d::without_bias(from, to, [size, size], config, init, &vb_conv)?,
            bn: BatchNorm2d::new(to, vb_bn)?,
            relu6,
        })
    }

    /// torchvision's `Conv2dNormActivation` at `vb`: children 0, 1 and 2.
    fn activated(from: usize, to: usize, kernel: Kernel, vb: &ParameterBuilder) -> Result<Self> {
        let relu6 = Some(format!("{}.2", vb.path()));
        Self::new(from, to, kernel, [vb.pp(0), vb.pp(1)], relu6)
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let y = self.conv.forward(x, pass)?;
        let y = self.bn.forward(&y, Activate::default(), pass)?;
        match &self.relu6 {
            Some(path) => pass.output(path, relu6(&y)?),
            None => Ok(y),
        }
    }
}

/// Expand, filter each channel, project; with a shortcut where the shape stays.
struct InvertedResidual {
    path: String,
    layers: Vec<ConvBn>,
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
            layers.push(ConvBn::activated(from, hidden, POINT, &inner.pp(0))?);
        }
        let depthwise = Kernel { size: 3, stride, groups: hidden };
        layers.push(ConvBn::activated(hidden, hidden, depthwise, &inner.pp(layers.len()))?);
        let project = layers.len();
        let paths = [inner.pp(project), inner.pp(project + 1)];
        layers.push(ConvBn::new(hidden, to, POINT, paths, None)?);
        let shortcut = stride == 1 && from == to;
        Ok(Self { path: vb.path().to_owned(), layers, shortcut })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut y = x.clone();
        for layer in &self.layers {
            y = layer.forward(&y, pass)?;
        }
        let y = if self.shortcut { (x + y)? } else { y };
        pass.output(&self.path, y)
    }
}

impl MobileNetV2 {
    pub(super) fn new(
        spec: ModelSpec,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let features = vb.pp("features");
        let three = Kernel { size: 3, stride: 2, groups: 1 };
        let stem = ConvBn::activated(spec.input[0], 32, three, &features.pp(0))?;
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
        let last = ConvBn::activated(from, LAST_CHANNELS, POINT, &vb_last)?;
        let dropout = Dropout::new("classifier.0", spec.dropout.unwrap_or(0.2));
        let head = vb.pp("classifier").pp(1);
        let classifier = Linear::new(LAST_CHANNELS, spec.num_classes, head)?;
        Ok(Self { spec, parameters, stem, blocks, last, dropout, classifier })
    }
}

impl Model for MobileNetV2 {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        let x = self.last.forward(&x, pass)?;
        let x = pass.output("avgpool", adaptive_avg_pool2d(&x, [1, 1])?)?;
        let x = self.dropout.forward(&flatten(&x)?, pass)?;
        self.classifier.forward(&x, pass)
    }

    fn head(&self) -> &'static str {
        "classifier.1"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        Some("features.18.2")
    }
}
