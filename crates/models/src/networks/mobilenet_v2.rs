//! MobileNetV2 (Sandler et al. 2018, <https://arxiv.org/abs/1801.04381>), torchvision's form.

use candle_core::{Result, Tensor};
use candle_vision_ops::adaptive_avg_pool2d;

use crate::layers::{
    Activate, ConvNorm, Dropout, Kernel, Linear, flatten, images_to_features, layer_at,
};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

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
    stem: Layer,
    blocks: Vec<InvertedResidual>,
    last: Layer,
    dropout: Dropout,
    classifier: Linear,
}

/// Convolution, batch norm and relu6, with the path of the last.
struct Layer {
    conv: ConvNorm,
    relu6: String,
}

impl Layer {
    /// torchvision's `Conv2dNormActivation` at `vb`: children 0, 1 and 2.
    fn activated(from: usize, to: usize, kernel: Kernel, vb: &ParameterBuilder) -> Result<Self> {
        let relu6 = format!("{}.2", vb.path());
        Ok(Self { conv: ConvNorm::new(from, to, kernel, vb.pp(0), vb.pp(1))?, relu6 })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.conv.forward(x, Activate::relu6(&self.relu6), pass)
    }
}

/// Expand, filter each channel, project; with a shortcut where the shape stays.
struct InvertedResidual {
    path: String,
    layers: Vec<Layer>,
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
            layers.push(Layer::activated(from, hidden, Kernel::ONE, &inner.pp(0))?);
        }
        let depthwise = Kernel::THREE.stride(stride).groups(hidden);
        layers.push(Layer::activated(hidden, hidden, depthwise, &inner.pp(layers.len()))?);
        let project = layers.len();
        let (vb_conv, vb_bn) = (inner.pp(project), inner.pp(project + 1));
        let project = ConvNorm::new(hidden, to, Kernel::ONE, vb_conv, vb_bn)?;
        let shortcut = stride == 1 && from == to;
        Ok(Self { path: vb.path().to_owned(), layers, project, shortcut })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let mut y = x.clone();
        for layer in &self.layers {
            y = layer.forward(&y, pass)?;
        }
        let then = Activate { residual: self.shortcut.then_some(x), ..Activate::default() };
        let y = self.project.forward(&y, then, pass)?;
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
        let stem = Layer::activated(spec.input[0], 32, Kernel::THREE.stride(2), &features.pp(0))?;
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
        let last = Layer::activated(from, LAST_CHANNELS, Kernel::ONE, &vb_last)?;
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
        let x = layer_at("avgpool", &x, pass, |x| adaptive_avg_pool2d(x, [1, 1]))?;
        let x = self.dropout.forward(&flatten(&x)?, pass)?;
        self.classifier.logits(&x, pass)
    }

    fn head(&self) -> &'static str {
        "classifier.1"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        Some("features.18.2")
    }
}
