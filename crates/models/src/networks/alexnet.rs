//! AlexNet (Krizhevsky 2014, <https://arxiv.org/abs/1404.5997>), torchvision's form, and one for
//! 32x32 images.

use candle_core::{Result, Tensor, bail};
use candle_vision_ops::{Activation, MaxPool2dConfig};

use super::config::{backbone_and_head, of_spec};
use super::{InputSizes, NetworkEntry, check, row, torchvision};
use crate::layers::{
    AdaptiveAvgPool2d, Conv2d, Conv2dOptions, Dropout, Linear, MaxPool2d, Relu, flatten,
    images_to_features,
};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const STEM: &str = "features.0.weight";
const HEAD: &str = "classifier.6";
const CAM_LAYER: &str = "features.11";

pub(super) fn alexnet() -> NetworkEntry {
    torchvision("alexnet", |spec, vb| AlexNet::new(AlexNetConfig::imagenet().spec(spec), vb))
        .summary("Krizhevsky 2014, torchvision's form")
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

pub(super) fn alexnet_32() -> NetworkEntry {
    row("alexnet_32", |spec, vb| AlexNet::new(AlexNetConfig::cifar().spec(spec), vb))
        .family("alexnet")
        .summary("AlexNet for 32x32 images: a 3x3 stem and 2x2 pools")
        .input([3, 32, 32])
        .sizes(InputSizes::from(8))
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

pub(super) fn alexnet_cifar() -> NetworkEntry {
    row("alexnet_cifar", |spec, vb| AlexNet::new(AlexNetConfig::tutorial().spec(spec), vb))
        .summary("AlexNet for 32x32 images: a 3x3 stem, the first pool 2x2, the others 3x3")
        .family("alexnet")
        .input([3, 32, 32])
        .sizes(InputSizes::from(14))
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// For which images an [`AlexNet`] is built. All forms have the same parameters but for the first kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlexNetForm {
    /// torchvision's: an 11x11 stem of stride 4 and 3x3 pools of stride 2, for images from 63x63.
    Imagenet,
    /// A 3x3 stem of stride 1, which takes the centre of published 11x11 kernels, and 2x2 pools, for images from 8x8.
    Small,
    /// A 3x3 stem of stride 1, which takes rows and columns 1 to 3 (counted from 0) of published 11x11 kernels, a first
    /// pool of 2x2 and 3x3 pools of stride 2 behind it, for images from 14x14.
    Tutorial,
}

impl AlexNetForm {
    /// Side of the smallest image.
    fn smallest(self) -> usize {
        match self {
            Self::Imagenet => 63,
            Self::Small => 8,
            Self::Tutorial => 14,
        }
    }

    /// The first pool and the others.
    fn pools(self) -> [MaxPool2dConfig; 2] {
        let (two, three) = (MaxPool2dConfig::new(2), MaxPool2dConfig::new(3).stride(2));
        match self {
            Self::Imagenet => [three, three],
            Self::Small => [two, two],
            Self::Tutorial => [two, three],
        }
    }
}

/// The sizes of an [`AlexNet`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AlexNetConfig {
    /// For which images the stem and the pools are.
    pub form: AlexNetForm,
    /// Probability of dropout before the linear layers where the spec names none. Default 0.5.
    pub dropout: f64,
    /// Name, classes and image size.
    pub spec: ModelSpec,
}

impl AlexNetConfig {
    /// torchvision's form: an 11x11 stem of stride 4 and 3x3 pools of stride 2, for 1000 classes of
    /// 224x224 pixels.
    pub fn imagenet() -> Self {
        Self::of(AlexNetForm::Imagenet, ModelSpec::new("alexnet", 1000))
    }

    /// For 32x32 images: a 3x3 stem of stride 1, which takes the centre of published 11x11
    /// weights, and 2x2 pools. Everything behind them is torchvision's.
    pub fn cifar() -> Self {
        Self::of(AlexNetForm::Small, ModelSpec::new("alexnet_32", 10))
    }

    /// For 32x32 images with the larger pools of torchvision's form behind the first.
    pub fn tutorial() -> Self {
        Self::of(AlexNetForm::Tutorial, ModelSpec::new("alexnet_cifar", 10))
    }

    fn of(form: AlexNetForm, spec: ModelSpec) -> Self {
        Self { form, dropout: 0.5, spec }
    }

    /// Sets the probability of dropout before the linear layers, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }
}

of_spec!(AlexNet, AlexNetConfig);

/// `features.0..10` (five convolutions), `classifier.1`, `.4` and `.6`.
pub struct AlexNet {
    spec: ModelSpec,
    form: AlexNetForm,
    parameters: Parameters,
    features: Vec<Feature>,
    avgpool: AdaptiveAvgPool2d,
    hidden: [Hidden; 2],
    last: Linear,
}

/// A convolution with its ReLU, and a max pool where there is one.
struct Feature {
    conv: Conv2d,
    relu: String,
    pool: Option<MaxPool2d>,
}

impl Feature {
    /// Three layers of which the first is at `number`.
    fn new(
        options: Conv2dOptions,
        number: usize,
        pool: Option<MaxPool2dConfig>,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::new(options, vb.pp(number))?,
            relu: vb.pp(number + 1).path().to_owned(),
            pool: pool.map(|pool| MaxPool2d::new(pool, vb.pp(number + 2))),
        })
    }
}

/// Dropout, a linear layer, ReLU.
struct Hidden {
    dropout: Dropout,
    linear: Linear,
    relu: Relu,
}

impl Hidden {
    /// Three layers of which the first is at `number`.
    fn new(in_features: usize, dropout: f64, number: usize, vb: &ParameterBuilder) -> Result<Self> {
        Ok(Self {
            dropout: Dropout::new(dropout, vb.pp(number)),
            linear: Linear::new((in_features, 4096), vb.pp(number + 1))?,
            relu: Relu::new(vb.pp(number + 2)),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.dropout.forward(x, pass)?;
        self.relu.forward(&self.linear.forward(&x, pass)?, pass)
    }
}

impl AlexNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, images are smaller than the form takes, or a name is taken.
    pub fn new(config: AlexNetConfig, vb: ParameterBuilder) -> Result<Self> {
        let AlexNetConfig { form, dropout, spec } = config;
        check(&spec)?;
        let [channels, height, width] = spec.input;
        let (smallest, [first_pool, pool]) = (form.smallest(), form.pools());
        if height < smallest || width < smallest {
            bail!(
                "`{}` takes images of at least {smallest}x{smallest}, got {height}x{width}",
                spec.architecture
            )
        }
        let conv = Conv2dOptions::new;
        let stem = match form {
            AlexNetForm::Imagenet => conv(channels, 64, 11).stride(4).padding(2),
            AlexNetForm::Small | AlexNetForm::Tutorial => conv(channels, 64, 3).padding(1),
        };
        let vf = vb.pp("features");
        let features = vec![
            Feature::new(stem, 0, Some(first_pool), &vf)?,
            Feature::new(conv(64, 192, 5).padding(2), 3, Some(pool), &vf)?,
            Feature::new(conv(192, 384, 3).padding(1), 6, None, &vf)?,
            Feature::new(conv(384, 256, 3).padding(1), 8, None, &vf)?,
            Feature::new(conv(256, 256, 3).padding(1), 10, Some(pool), &vf)?,
        ];
        let dropout = spec.dropout.unwrap_or(dropout);
        let vc = vb.pp("classifier");
        Ok(Self {
            avgpool: AdaptiveAvgPool2d::new([6, 6], vb.pp("avgpool")),
            hidden: [
                Hidden::new(256 * 6 * 6, dropout, 0, &vc)?,
                Hidden::new(4096, dropout, 3, &vc)?,
            ],
            last: Linear::new((4096, spec.num_classes), vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
            form,
            features,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = images_to_features(images, self.spec.input[0])?;
        for feature in &self.features {
            x = feature.conv.forward_activated(&x, Activation::Relu, &feature.relu, pass)?;
            if let Some(pool) = &feature.pool {
                x = pool.forward(&x, pass)?;
            }
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = flatten(&self.avgpool.forward(x, pass)?)?;
        for hidden in &self.hidden {
            x = hidden.forward(&x, pass)?;
        }
        self.last.logits(&x, pass)
    }
}

impl Model for AlexNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }

    fn adapt_weight(&self, path: &str, tensor: &Tensor) -> Result<Option<Tensor>> {
        let first = match self.form {
            AlexNetForm::Imagenet => return Ok(None),
            AlexNetForm::Small => 4,
            AlexNetForm::Tutorial => 1,
        };
        match tensor.dims() {
            [_, _, 11, 11] if path == STEM => {
                Ok(Some(tensor.narrow(2, first, 3)?.narrow(3, first, 3)?.contiguous()?))
            }
            _ => Ok(None),
        }
    }
}
