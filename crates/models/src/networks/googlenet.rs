//! GoogLeNet (Szegedy et al. 2014, <https://arxiv.org/abs/1409.4842>), torchvision's form: with batch norm, and with
//! 3x3 kernels where the paper has 5x5.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, MaxPool2dConfig};

use super::basic_conv::{BasicConv, Branch, Branches, Kernels, Pool};
use super::config::{backbone_and_head, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    Activate, AdaptiveAvgPool2d, Dropout, GlobalAvgPool, Linear, LinearOptions, MaxPool2d, flatten,
    images_to_features,
};
use crate::{AuxiliaryOutputs, Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "fc";
const CAM_LAYER: &str = "inception5b";
const AUXILIARY_HEADS: [&str; 2] = ["aux1", "aux2"];
/// The weight of the loss of each auxiliary classifier (section 5 of the paper).
const AUXILIARY_WEIGHT: f64 = 0.3;
const KERNELS: Kernels = Kernels { std: 0.01 };

pub(super) fn googlenet() -> NetworkEntry {
    torchvision("googlenet", |spec, vb| GoogLeNet::new(GoogLeNetConfig::new().spec(spec), vb))
        .summary("Szegedy et al. 2014, inception blocks, two auxiliary classifiers in training")
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// The sizes of a [`GoogLeNet`].
///
/// ```
/// use candle_vision_models::GoogLeNetConfig;
///
/// assert!(!GoogLeNetConfig::new().aux_logits(false).num_classes(10).aux_logits);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GoogLeNetConfig {
    /// Whether there are auxiliary classifiers, which only training runs. Default `true`. A weight file that has them
    /// can be loaded either way.
    pub aux_logits: bool,
    /// Probability of dropout before the classifier where the spec names none. Default 0.2.
    pub dropout: f64,
    /// Probability of dropout in the auxiliary classifiers where the spec names none. Default 0.7.
    pub aux_dropout: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl GoogLeNetConfig {
    /// torchvision's form.
    pub fn new() -> Self {
        let spec = ModelSpec::new("googlenet", 1000);
        Self { aux_logits: true, dropout: 0.2, aux_dropout: 0.7, spec }
    }

    /// Sets whether there are auxiliary classifiers.
    pub fn aux_logits(mut self, aux_logits: bool) -> Self {
        self.aux_logits = aux_logits;
        self
    }

    /// Sets the probability of dropout before the classifier, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Sets the probability of dropout in the auxiliary classifiers, a fraction in `0.0..1.0`.
    pub fn aux_dropout(mut self, dropout: f64) -> Self {
        self.aux_dropout = dropout;
        self
    }
}

impl Default for GoogLeNetConfig {
    fn default() -> Self {
        Self::new()
    }
}

of_spec!(GoogLeNet, GoogLeNetConfig);

/// `conv1..3`, `inception3a..5b`, `aux1`, `aux2` and `fc`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{GoogLeNet, GoogLeNetConfig, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = GoogLeNet::new(GoogLeNetConfig::new().num_classes(10), vb)?;
/// let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(model.forward_features(&images, &mut Pass::eval())?.dims(), [2, 1024, 1, 1]);
/// let outputs = model.forward_auxiliary(&images, &mut Pass::train(0))?;
/// assert_eq!((outputs.logits.dims(), outputs.auxiliary.len()), (&[2, 10][..], 2));
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct GoogLeNet {
    spec: ModelSpec,
    parameters: Parameters,
    conv1: BasicConv,
    maxpool1: MaxPool2d,
    conv2: BasicConv,
    conv3: BasicConv,
    maxpool2: MaxPool2d,
    inception3: [Branches; 2],
    maxpool3: MaxPool2d,
    inception4: [Branches; 5],
    maxpool4: MaxPool2d,
    inception5: [Branches; 2],
    auxiliary: Option<[Auxiliary; 2]>,
    avgpool: GlobalAvgPool,
    dropout: Dropout,
    fc: Linear,
}

/// The channels of an inception block, the columns of the paper's table 1: `#1x1`, `#3x3 reduce`, `#3x3`, `#5x5
/// reduce`, `#5x5` and `pool proj`.
type Widths = [usize; 6];

fn inception(from: usize, widths: Widths, vb: ParameterBuilder) -> Result<Branches> {
    let [one, reduce3, three, reduce5, five, projection] = widths;
    let conv = |from, to, kernel: usize, path: &str| {
        BasicConv::new(KERNELS.conv(from, to, kernel), vb.pp(path))
    };
    let pool = MaxPool2dConfig::new(3).stride(1).padding(1).ceil_mode(true);
    let pool = Pool::Max(MaxPool2d::new(pool, vb.pp("branch4.0")));
    let through = |convs: Vec<BasicConv>| Branch { convs, ..Branch::default() };
    let branches = vec![
        through(vec![conv(from, one, 1, "branch1")?]),
        through(vec![conv(from, reduce3, 1, "branch2.0")?, conv(reduce3, three, 3, "branch2.1")?]),
        // torchvision's weights have 3x3 kernels here, where the paper has 5x5.
        through(vec![conv(from, reduce5, 1, "branch3.0")?, conv(reduce5, five, 3, "branch3.1")?]),
        Branch { pool: Some(pool), ..through(vec![conv(from, projection, 1, "branch4.1")?]) },
    ];
    Ok(Branches::new(branches, &vb))
}

fn linear(from: usize, to: usize, vb: ParameterBuilder) -> Result<Linear> {
    let init = Init::truncated_normal(KERNELS.std);
    Linear::new(LinearOptions::new(from, to).init(init), vb)
}

/// A classifier of maps in the middle of the network, which gives its first half a gradient of its own.
struct Auxiliary {
    path: String,
    avgpool: AdaptiveAvgPool2d,
    conv: BasicConv,
    fc1: Linear,
    relu: Activate,
    dropout: Dropout,
    fc2: Linear,
}

impl Auxiliary {
    fn new(from: usize, classes: usize, dropout: f64, vb: ParameterBuilder) -> Result<Self> {
        Ok(Self {
            path: vb.path().to_owned(),
            avgpool: AdaptiveAvgPool2d::new([4, 4], vb.pp("avgpool")),
            conv: BasicConv::new(KERNELS.conv(from, 128, 1), vb.pp("conv"))?,
            fc1: linear(128 * 4 * 4, 1024, vb.pp("fc1"))?,
            relu: Activate::new(Activation::Relu, vb.pp("relu")),
            dropout: Dropout::new(dropout, vb.pp("dropout")),
            fc2: linear(1024, classes, vb.pp("fc2"))?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let x = self.conv.forward(&self.avgpool.forward(&x, pass)?, pass)?;
        let x = self.fc1.forward(&flatten(&x)?, pass)?;
        let x = self.dropout.forward(&self.relu.forward(&x, pass)?, pass)?;
        let y = self.fc2.logits(&x, pass)?;
        pass.output(&self.path, y)
    }
}

impl GoogLeNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, or a name is taken.
    pub fn new(config: GoogLeNetConfig, vb: ParameterBuilder) -> Result<Self> {
        let GoogLeNetConfig { aux_logits, dropout, aux_dropout, spec } = config;
        check(&spec)?;
        let conv = |options, path: &str| BasicConv::new(options, vb.pp(path));
        let pool = |kernel: usize, path: &str| {
            MaxPool2d::new(MaxPool2dConfig::new(kernel).stride(2).ceil_mode(true), vb.pp(path))
        };
        let block = |from, widths, path: &str| inception(from, widths, vb.pp(path));
        let classes = spec.num_classes;
        let aux_dropout = spec.dropout.unwrap_or(aux_dropout);
        let auxiliary = |from, path: &str| Auxiliary::new(from, classes, aux_dropout, vb.pp(path));
        Ok(Self {
            conv1: conv(KERNELS.conv(spec.input[0], 64, 7).stride(2), "conv1")?,
            maxpool1: pool(3, "maxpool1"),
            conv2: conv(KERNELS.conv(64, 64, 1), "conv2")?,
            conv3: conv(KERNELS.conv(64, 192, 3), "conv3")?,
            maxpool2: pool(3, "maxpool2"),
            inception3: [
                block(192, [64, 96, 128, 16, 32, 32], "inception3a")?,
                block(256, [128, 128, 192, 32, 96, 64], "inception3b")?,
            ],
            maxpool3: pool(3, "maxpool3"),
            inception4: [
                block(480, [192, 96, 208, 16, 48, 64], "inception4a")?,
                block(512, [160, 112, 224, 24, 64, 64], "inception4b")?,
                block(512, [128, 128, 256, 24, 64, 64], "inception4c")?,
                block(512, [112, 144, 288, 32, 64, 64], "inception4d")?,
                block(528, [256, 160, 320, 32, 128, 128], "inception4e")?,
            ],
            maxpool4: pool(2, "maxpool4"),
            inception5: [
                block(832, [256, 160, 320, 32, 128, 128], "inception5a")?,
                block(832, [384, 192, 384, 48, 128, 128], CAM_LAYER)?,
            ],
            auxiliary: match aux_logits {
                true => Some([auxiliary(512, "aux1")?, auxiliary(528, "aux2")?]),
                false => None,
            },
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            dropout: Dropout::new(spec.dropout.unwrap_or(dropout), vb.pp("dropout")),
            fc: linear(1024, classes, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
        })
    }

    /// The last maps, and the logits of the auxiliary classifiers if `auxiliary` asks for them.
    fn features_and_auxiliary(
        &self,
        images: &Tensor,
        auxiliary: Option<&[Auxiliary; 2]>,
        pass: &mut Pass<'_>,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let x = images_to_features(images, self.spec.input[0])?;
        let x = self.maxpool1.forward(&self.conv1.forward(&x, pass)?, pass)?;
        let x = self.conv3.forward(&self.conv2.forward(&x, pass)?, pass)?;
        let mut x = self.maxpool2.forward(&x, pass)?;
        for block in &self.inception3 {
            x = block.forward(&x, pass)?;
        }
        x = self.maxpool3.forward(&x, pass)?;
        let mut logits = Vec::new();
        for (i, block) in self.inception4.iter().enumerate() {
            x = block.forward(&x, pass)?;
            match (auxiliary, i) {
                (Some([first, _]), 0) => logits.push(first.forward(&x, pass)?),
                (Some([_, second]), 3) => logits.push(second.forward(&x, pass)?),
                _ => {}
            }
        }
        x = self.maxpool4.forward(&x, pass)?;
        for block in &self.inception5 {
            x = block.forward(&x, pass)?;
        }
        Ok((x, logits))
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        Ok(self.features_and_auxiliary(images, None, pass)?.0)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.avgpool.forward(x, pass)?;
        let x = self.dropout.forward(&x, pass)?;
        self.fc.logits(&x, pass)
    }
}

impl Model for GoogLeNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }

    fn forward_auxiliary(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<AuxiliaryOutputs> {
        let auxiliary = self.auxiliary.as_ref().filter(|_| pass.is_train());
        let (x, auxiliary) = self.features_and_auxiliary(images, auxiliary, pass)?;
        let auxiliary = auxiliary.into_iter().map(|logits| (logits, AUXILIARY_WEIGHT)).collect();
        Ok(AuxiliaryOutputs { logits: self.classify(&x, pass)?, auxiliary })
    }

    fn auxiliary_heads(&self) -> &[&str] {
        &AUXILIARY_HEADS
    }
}
