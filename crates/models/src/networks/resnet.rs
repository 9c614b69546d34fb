//! Residual networks of basic blocks (He et al. 2015, <https://arxiv.org/abs/1512.03385>).

use candle_core::{Result, Tensor};
use candle_vision_ops::{Conv2dConfig, MaxPool2dConfig, adaptive_avg_pool2d, max_pool2d};

use crate::layers::{Activate, BatchNorm2d, Conv2d, Linear, flatten, images_to_features};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// torchvision's ResNet18 and ResNet34: `conv1`, `bn1`, `layer1..4`, `fc`.
pub struct ResNet {
    spec: ModelSpec,
    parameters: Parameters,
    conv1: Conv2d,
    bn1: BatchNorm2d,
    layers: Vec<Stage>,
    fc: Linear,
}

struct Stage {
    path: &'static str,
    blocks: Vec<BasicBlock>,
}

/// Two 3x3 convolutions and a shortcut around them.
struct BasicBlock {
    path: String,
    relu1: String,
    relu2: String,
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    downsample: Option<(Conv2d, BatchNorm2d)>,
}

fn conv(
    from: usize,
    to: usize,
    kernel: usize,
    stride: usize,
    vb: ParameterBuilder,
) -> Result<Conv2d> {
    let config = Conv2dConfig::default().stride(stride).padding(kernel / 2);
    let init = Init::fan_out_normal(to * kernel * kernel);
    Conv2d::without_bias(from, to, [kernel, kernel], config, init, &vb)
}

impl BasicBlock {
    fn new(from: usize, to: usize, stride: usize, vb: ParameterBuilder) -> Result<Self> {
        let conv1 = conv(from, to, 3, stride, vb.pp("conv1"))?;
        let bn1 = BatchNorm2d::new(to, vb.pp("bn1"))?;
        let conv2 = conv(to, to, 3, 1, vb.pp("conv2"))?;
        let bn2 = BatchNorm2d::new(to, vb.pp("bn2"))?;
        let downsample = if stride != 1 || from != to {
            let vb = vb.pp("downsample");
            Some((conv(from, to, 1, stride, vb.pp(0))?, BatchNorm2d::new(to, vb.pp(1))?))
        } else {
            None
        };
        let path = vb.path().to_owned();
        let (relu1, relu2) = (format!("{path}.relu1"), format!("{path}.relu2"));
        Ok(Self { path, relu1, relu2, conv1, bn1, conv2, bn2, downsample })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let y = self.conv1.forward(x, pass)?;
        let y = self.bn1.forward(&y, Activate { residual: None, relu: Some(&self.relu1) }, pass)?;
        let y = self.conv2.forward(&y, pass)?;
        let shortcut = self.shortcut(x, pass)?;
        let then = Activate { residual: Some(&shortcut), relu: Some(&self.relu2) };
        let y = self.bn2.forward(&y, then, pass)?;
        pass.output(&self.path, y)
    }

    fn shortcut(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match &self.downsample {
            Some((conv, bn)) => bn.forward(&conv.forward(x, pass)?, Activate::default(), pass),
            None => Ok(x.clone()),
        }
    }
}

impl Stage {
    fn new(
        path: &'static str,
        from: usize,
        to: usize,
        blocks: usize,
        stride: usize,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        let vb = vb.pp(path);
        let block = |i| {
            let (from, stride) = if i == 0 { (from, stride) } else { (to, 1) };
            BasicBlock::new(from, to, stride, vb.pp(i))
        };
        Ok(Self { path, blocks: (0..blocks).map(block).collect::<Result<_>>()? })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        pass.output(self.path, x)
    }
}

impl ResNet {
    pub(super) fn new(
        spec: ModelSpec,
        blocks: [usize; 4],
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let conv1 = conv(spec.input[0], 64, 7, 2, vb.pp("conv1"))?;
        let bn1 = BatchNorm2d::new(64, vb.pp("bn1"))?;
        let layers = vec![
            Stage::new("layer1", 64, 64, blocks[0], 1, &vb)?,
            Stage::new("layer2", 64, 128, blocks[1], 2, &vb)?,
            Stage::new("layer3", 128, 256, blocks[2], 2, &vb)?,
            Stage::new("layer4", 256, 512, blocks[3], 2, &vb)?,
        ];
        let fc = Linear::new(512, spec.num_classes, vb.pp("fc"))?;
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
