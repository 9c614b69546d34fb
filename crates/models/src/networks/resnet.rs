//! Residual networks (He et al. 2015, <https://arxiv.org/abs/1512.03385>), their wide form
//! (Zagoruyko and Komodakis 2016) and ResNeXt (Xie et al. 2016).

use candle_core::{Result, Tensor};
use candle_vision_ops::{Conv2dConfig, MaxPool2dConfig, adaptive_avg_pool2d, max_pool2d};

use super::residual::{Shape, Stage};
use crate::layers::{Activate, BatchNorm2d, Conv2d, Linear, flatten, images_to_features};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// torchvision's ResNets: `conv1`, `bn1`, `layer1..4`, `fc`.
pub struct ResNet {
    spec: ModelSpec,
    parameters: Parameters,
    conv1: Conv2d,
    bn1: BatchNorm2d,
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
        let stem = Conv2dConfig::default().stride(2).padding(3);
        let init = Init::fan_out_normal(64 * 7 * 7);
        let (channels, kernel) = (spec.input[0], [7, 7]);
        let conv1 = Conv2d::without_bias(channels, 64, kernel, stem, init, &vb.pp("conv1"))?;
        let bn1 = BatchNorm2d::new(64, vb.pp("bn1"))?;
        let mut from = 64;
        let mut layers = Vec::new();
        for (i, path) in ["layer1", "layer2", "layer3", "layer4"].into_iter().enumerate() {
            let stride = if i == 0 { 1 } else { 2 };
            layers.push(Stage::new(path, shape, from, 64 << i, blocks[i], stride, &vb)?);
            from = shape.out_channels(64 << i);
        }
        let fc = Linear::new(from, spec.num_classes, vb.pp("fc"))?;
        Ok(Self { spec, parameters, conv1, bn1, layers, fc })
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
        let x = self.conv1.forward(&x, pass)?;
        let x = self.bn1.forward(&x, Activate { residual: None, relu: Some("relu") }, pass)?;
        let pool = MaxPool2dConfig::new(3).stride(2).padding(1);
        let mut x = pass.output("maxpool", max_pool2d(&x, &pool)?)?;
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
        }
        let x = pass.output("avgpool", adaptive_avg_pool2d(&x, [1, 1])?)?;
        self.fc.forward(&flatten(&x)?, pass)
    }

    fn head(&self) -> &'static str {
        "fc"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        Some("layer4")
    }
}
