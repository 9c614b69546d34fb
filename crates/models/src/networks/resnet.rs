//! Residual networks (He et al. 2015, <https://arxiv.org/abs/1512.03385>), their wide form
//! (Zagoruyko and Komodakis 2016) and ResNeXt (Xie et al. 2016).

use candle_core::{Result, Tensor};
use candle_vision_ops::{MaxPool2dConfig, adaptive_avg_pool2d, max_pool2d};

use super::residual::{Shape, Stage};
use crate::layers::{Activate, ConvNorm, Kernel, Linear, flatten, images_to_features, layer_at};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// torchvision's ResNets: `conv1`, `bn1`, `layer1..4`, `fc`.
pub struct ResNet {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    layers: Vec<Stage>,
    fc: Linear,
}

impl ResNet {
    /// `blocks` residual blocks of `shape` in each of the four stages.
    pub(super) fn new(
        spec: ModelSpec,
        shape: Shape,
        blocks: [usize; 4],
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let seven = Kernel { size: 7, stride: 2, groups: 1 };
        let stem = ConvNorm::new(spec.input[0], 64, seven, vb.pp("conv1"), vb.pp("bn1"))?;
        let mut from = 64;
        let mut layers = Vec::new();
        for (i, path) in ["layer1", "layer2", "layer3", "layer4"].into_iter().enumerate() {
            let stride = if i == 0 { 1 } else { 2 };
            layers.push(Stage::new(path, shape, from, 64 << i, blocks[i], stride, &vb)?);
            from = shape.out_channels(64 << i);
        }
        let fc = Linear::new(from, spec.num_classes, vb.pp("fc"))?;
        Ok(Self { spec, parameters, stem, layers, fc })
    }
}

impl Model for ResNet {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let x = self.stem.forward(&x, Activate::relu("relu"), pass)?;
        let pool = MaxPool2dConfig::new(3).stride(2).padding(1);
        let mut x = layer_at("maxpool", &x, pass, |x| max_pool2d(x, &pool))?;
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
        }
        let x = layer_at("avgpool", &x, pass, |x| adaptive_avg_pool2d(x, [1, 1]))?;
        self.fc.logits(&flatten(&x)?, pass)
    }

    fn head(&self) -> &'static str {
        "fc"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        Some("layer4")
    }
}
