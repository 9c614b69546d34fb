//! Inception v3 (Szegedy et al. 2015, <https://arxiv.org/abs/1512.00567>), torchvision's form.

mod blocks;

use candle_core::{Result, Tensor};
use candle_vision_ops::{AvgPool2dConfig, MaxPool2dConfig};

use super::basic_conv::{BasicConv, Branches, Kernels};
use super::config::{backbone_and_head, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    AdaptiveAvgPool2d, AvgPool2d, ConvNormOptions, Dropout, GlobalAvgPool, Linear, LinearOptions,
    MaxPool2d, images_to_features,
};
use crate::{AuxiliaryOutputs, Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "fc";
const CAM_LAYER: &str = "Mixed_7c";
const AUXILIARY_HEAD: &str = "AuxLogits";
/// The weight of the auxiliary classifier's loss, that of PyTorch's tutorials and of the network's first authors.
const AUXILIARY_WEIGHT: f64 = 0.4;
const KERNELS: Kernels = Kernels { std: 0.1 };

pub(super) fn inception_v3() -> NetworkEntry {
    torchvision("inception_v3", |spec, vb| {
        InceptionV3::new(InceptionV3Config::new().spec(spec), vb)
    })
    .summary("Szegedy et al. 2015, factorised kernels, an auxiliary classifier in training")
    .input([3, 299, 299])
    .head(HEAD)
    .cam_layer(CAM_LAYER)
}

/// The sizes of an [`InceptionV3`].
///
/// ```
/// use candle_vision_models::InceptionV3Config;
///
/// let config = InceptionV3Config::new().aux_logits(false);
/// assert_eq!((config.aux_logits, config.spec.input), (false, [3, 299, 299]));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InceptionV3Config {
    /// Whether there is an auxiliary classifier, which only training runs. Default `true`. A weight file that has it
    /// can be loaded either way.
    pub aux_logits: bool,
    /// Probability of dropout before the classifier where the spec names none. Default 0.5.
    pub dropout: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 299x299 pixels.
    pub spec: ModelSpec,
}

impl InceptionV3Config {
    /// torchvision's form.
    pub fn new() -> Self {
        let spec = ModelSpec::new("inception_v3", 1000).input([3, 299, 299]);
        Self { aux_logits: true, dropout: 0.5, spec }
    }

    /// Sets whether there is an auxiliary classifier.
    pub fn aux_logits(mut self, aux_logits: bool) -> Self {
        self.aux_logits = aux_logits;
        self
    }

    /// Sets the probability of dropout before the classifier, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }
}

impl Default for InceptionV3Config {
    fn default() -> Self {
        Self::new()
    }
}

of_spec!(InceptionV3, InceptionV3Config);

/// `Conv2d_1a_3x3` to `Conv2d_4a_3x3`, `Mixed_5b` to `Mixed_7c`, `AuxLogits` and `fc`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{InceptionV3, InceptionV3Config, Model, Parameters, Pass};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let model = InceptionV3::new(InceptionV3Config::new().num_classes(10), vb)?;
/// let images = Tensor::zeros((1, 3, 75, 75), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 2048, 1, 1]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct InceptionV3 {
    spec: ModelSpec,
    parameters: Parameters,
    stem: Stem,
    /// `Mixed_5b` to `Mixed_6e`.
    first: Vec<Branches>,
    auxiliary: Option<Auxiliary>,
    /// `Mixed_7a` to `Mixed_7c`.
    last: Vec<Branches>,
    avgpool: GlobalAvgPool,
    dropout: Dropout,
    fc: Linear,
}

/// Five convolutions and two max pools.
struct Stem {
    conv1a: BasicConv,
    conv2a: BasicConv,
    conv2b: BasicConv,
    maxpool1: MaxPool2d,
    conv3b: BasicConv,
    conv4a: BasicConv,
    maxpool2: MaxPool2d,
}

impl Stem {
    fn new(channels: usize, vb: &ParameterBuilder) -> Result<Self> {
        let conv = |options: ConvNormOptions, path: &str| BasicConv::new(options, vb.pp(path));
        let pool = |path: &str| MaxPool2d::new(MaxPool2dConfig::new(3).stride(2), vb.pp(path));
        let unpadded = |from, to, kernel: usize| KERNELS.conv(from, to, kernel).padding(0);
        Ok(Self {
            conv1a: conv(unpadded(channels, 32, 3).stride(2), "Conv2d_1a_3x3")?,
            conv2a: conv(unpadded(32, 32, 3), "Conv2d_2a_3x3")?,
            conv2b: conv(KERNELS.conv(32, 64, 3), "Conv2d_2b_3x3")?,
            maxpool1: pool("maxpool1"),
            conv3b: conv(KERNELS.conv(64, 80, 1), "Conv2d_3b_1x1")?,
            conv4a: conv(unpadded(80, 192, 3), "Conv2d_4a_3x3")?,
            maxpool2: pool("maxpool2"),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.conv1a.forward(x, pass)?;
        let x = self.conv2a.forward(&x, pass)?;
        let x = self.conv2b.forward(&x, pass)?;
        let x = self.maxpool1.forward(&x, pass)?;
        let x = self.conv3b.forward(&x, pass)?;
        let x = self.conv4a.forward(&x, pass)?;
        self.maxpool2.forward(&x, pass)
    }
}

/// Side of the maps that the auxiliary classifier pools: that of `Mixed_6e` for images of 299x299 pixels.
const POOLED_FROM: usize = 17;

/// A classifier of the maps of `Mixed_6e`.
struct Auxiliary {
    path: String,
    pool: AvgPool2d,
    small_pool: AdaptiveAvgPool2d,
    conv0: BasicConv,
    conv1: BasicConv,
    avgpool: GlobalAvgPool,
    fc: Linear,
}

impl Auxiliary {
    fn new(from: usize, classes: usize, vb: ParameterBuilder) -> Result<Self> {
        let fc = LinearOptions::new(768, classes).init(Init::truncated_normal(0.001));
        Ok(Self {
            path: vb.path().to_owned(),
            pool: AvgPool2d::new(AvgPool2dConfig::new(5).stride(3), vb.pp("pool")),
            small_pool: AdaptiveAvgPool2d::new([5, 5], vb.pp("pool")),
            conv0: BasicConv::new(KERNELS.conv(from, 128, 1), vb.pp("conv0"))?,
            // torchvision means its kernel to begin with a deviation of 0.01, but sets that where it has no effect.
            conv1: BasicConv::new(KERNELS.conv(128, 768, 5).padding(0), vb.pp("conv1"))?,
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            fc: Linear::new(fc, vb.pp("fc"))?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let (_, height, width, _) = x.dims4()?;
        // The maps of smaller images would give fewer than the 5x5 pixels that the next kernel needs. torchvision
        // refuses such images.
        let x = if height.min(width) < POOLED_FROM {
            self.small_pool.forward(&x, pass)?
        } else {
            self.pool.forward(&x, pass)?
        };
        let x = self.conv1.forward(&self.conv0.forward(&x, pass)?, pass)?;
        let y = self.fc.logits(&self.avgpool.forward(&x, pass)?, pass)?;
        pass.output(&self.path, y)
    }
}

impl InceptionV3 {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, or a name is taken.
    pub fn new(config: InceptionV3Config, vb: ParameterBuilder) -> Result<Self> {
        let InceptionV3Config { aux_logits, dropout, spec } = config;
        check(&spec)?;
        let classes = spec.num_classes;
        let auxiliary = || Auxiliary::new(768, classes, vb.pp(AUXILIARY_HEAD));
        Ok(Self {
            stem: Stem::new(spec.input[0], &vb)?,
            first: vec![
                blocks::a(192, 32, vb.pp("Mixed_5b"))?,
                blocks::a(256, 64, vb.pp("Mixed_5c"))?,
                blocks::a(288, 64, vb.pp("Mixed_5d"))?,
                blocks::b(288, vb.pp("Mixed_6a"))?,
                blocks::c(768, 128, vb.pp("Mixed_6b"))?,
                blocks::c(768, 160, vb.pp("Mixed_6c"))?,
                blocks::c(768, 160, vb.pp("Mixed_6d"))?,
                blocks::c(768, 192, vb.pp("Mixed_6e"))?,
            ],
            auxiliary: aux_logits.then(auxiliary).transpose()?,
            last: vec![
                blocks::d(768, vb.pp("Mixed_7a"))?,
                blocks::e(1280, vb.pp("Mixed_7b"))?,
                blocks::e(2048, vb.pp(CAM_LAYER))?,
            ],
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            dropout: Dropout::new(spec.dropout.unwrap_or(dropout), vb.pp("dropout")),
            fc: {
                let options = LinearOptions::new(2048, classes);
                Linear::new(options.init(Init::truncated_normal(KERNELS.std)), vb.pp(HEAD))?
            },
            parameters: vb.parameters(),
            spec,
        })
    }

    /// The last maps, and the logits of `auxiliary` if there is one.
    fn features_and_auxiliary(
        &self,
        images: &Tensor,
        auxiliary: Option<&Auxiliary>,
        pass: &mut Pass<'_>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for block in &self.first {
            x = block.forward(&x, pass)?;
        }
        let logits = auxiliary.map(|auxiliary| auxiliary.forward(&x, pass)).transpose()?;
        for block in &self.last {
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

impl Model for InceptionV3 {
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
        &[AUXILIARY_HEAD]
    }
}
