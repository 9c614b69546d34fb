//! The small residual network of the fast CIFAR-10 recipes.

use candle_core::{Result, Tensor};
use candle_vision_ops::{MaxPool2dConfig, add, max_pool2d, scale};

use super::config::{backbone_and_head, of_spec};
use super::{InputSizes, NetworkEntry, check_three_halvings, row};
use crate::layers::{
    Conv2d, Conv2dOptions, ConvNorm, ConvNormOptions, Linear, MaxPool2d, flatten,
    images_to_features, layer_at,
};
use crate::whitening::{keep_whitening, whitening_kernels};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// Height and width of the patches that the first convolution whitens.
const PATCH: usize = 3;
/// Pixels of the training images whose patches are looked at: 2,000 images of CIFAR-10.
const PIXELS_TO_FIT: usize = 2000 * 32 * 32;
/// Factor of the features in front of the classifier: without it the first logits are large, and the
/// high learning rates of the recipe tear them apart.
const LOGIT_SCALE: f64 = 0.125;

pub(super) fn resnet9() -> NetworkEntry {
    row("resnet9", |spec, vb| ResNet9::new(ResNet9Config::new().spec(spec), vb))
        .summary("Page 2018, with a whitening first layer; for 32x32 images")
        .input([3, 32, 32])
        .sizes(InputSizes::from(8))
        .head("fc")
        .cam_layer("layer3")
}

/// The sizes of a [`ResNet9`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ResNet9Config {
    /// Name, classes and image size. Default: 10 classes of 32x32 pixels in three channels.
    pub spec: ModelSpec,
}

impl ResNet9Config {
    /// For CIFAR-10.
    pub fn new() -> Self {
        Self { spec: ModelSpec::new("resnet9", 10) }
    }
}

impl Default for ResNet9Config {
    fn default() -> Self {
        Self::new()
    }
}

of_spec!(ResNet9, ResNet9Config);

/// Nine layers, three of them pooled and two with a residual (David Page 2018, "How to train your
/// ResNet", <https://myrtle.ai/learn/how-to-train-your-resnet/>; with its whitening first layer).
///
/// `whiten` (3x3, as many channels as a patch has values, without a bias) and `prep` (1x1 to 64) are
/// the stem; `layer1`, `layer2` and `layer3` are a 3x3 convolution to 128, 256 and 512 channels and a
/// 2x2 max pool each; in `layer1` and `layer3` a `residual` of two more follows; then the maximum of
/// each channel and `fc`. All convolutions but the first have batch norm and ReLU behind them.
///
/// [`Model::fit_images`] makes `whiten` fixed kernels that whiten the patches of the training
/// images; without that it begins at random and learns like the others.
pub struct ResNet9 {
    spec: ModelSpec,
    parameters: Parameters,
    whiten: Conv2d,
    prep: ConvNorm,
    layers: Vec<Stage>,
    fc: Linear,
}

/// `conv{suffix}`, `bn{suffix}` and `relu{suffix}` at `vb`.
fn unit(
    from: usize,
    to: usize,
    kernel: usize,
    suffix: &str,
    vb: &ParameterBuilder,
) -> Result<ConvNorm> {
    let [conv, bn, relu] = ["conv", "bn", "relu"].map(|layer| format!("{layer}{suffix}"));
    let options = ConvNormOptions::new(from, to, kernel).names(&conv, &bn, &relu);
    ConvNorm::new(options, vb.clone())
}

struct Stage {
    path: String,
    first: ConvNorm,
    maxpool: MaxPool2d,
    /// In the first and the third.
    residual: Option<Residual>,
}

/// Two convolutions with a shortcut around them; unlike in larger residual networks the ReLU
/// comes before the sum.
struct Residual {
    path: String,
    units: [ConvNorm; 2],
}

impl Residual {
    fn new(channels: usize, vb: ParameterBuilder) -> Result<Self> {
        let unit = |suffix| unit(channels, channels, 3, suffix, &vb);
        Ok(Self { units: [unit("1")?, unit("2")?], path: vb.path().to_owned() })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let path = format!("{}.branch", self.path);
        let mut branch = pass.input(&path, x)?;
        for unit in &self.units {
            branch = unit.forward(&branch, pass)?;
        }
        let branch = pass.output(&path, branch)?;
        pass.output(&self.path, add(x, &branch)?)
    }
}

impl Stage {
    fn new(from: usize, to: usize, residual: bool, vb: ParameterBuilder) -> Result<Self> {
        let first = unit(from, to, 3, "", &vb)?;
        let residual = residual.then(|| Residual::new(to, vb.pp("residual"))).transpose()?;
        let maxpool = MaxPool2d::new(MaxPool2dConfig::new(2), vb.pp("maxpool"));
        Ok(Self { first, maxpool, residual, path: vb.path().to_owned() })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let x = self.first.forward(x, pass)?;
        let x = self.maxpool.forward(&x, pass)?;
        let x = match &self.residual {
            Some(residual) => residual.forward(&x, pass)?,
            None => x,
        };
        pass.output(&self.path, x)
    }
}

impl ResNet9 {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, images have less than 8x8 pixels, or a name is taken.
    pub fn new(config: ResNet9Config, vb: ParameterBuilder) -> Result<Self> {
        let spec = config.spec;
        check_three_halvings(&spec)?;
        let channels = spec.input[0];
        let patch = channels * PATCH * PATCH;
        let whiten = Conv2dOptions::new(channels, patch, PATCH).padding(PATCH / 2).bias(false);
        let whiten = whiten.init(Init::fan_out_normal(patch * PATCH * PATCH));
        // In the order of the layers: it is the parameters' order.
        let whiten = Conv2d::new(whiten, vb.pp("whiten"))?;
        let prep = unit(patch, 64, 1, "", &vb.pp("prep"))?;
        let layers = vec![
            Stage::new(64, 128, true, vb.pp("layer1"))?,
            Stage::new(128, 256, false, vb.pp("layer2"))?,
            Stage::new(256, 512, true, vb.pp("layer3"))?,
        ];
        let fc = Linear::new((512, spec.num_classes), vb.pp("fc"))?;
        Ok(Self { spec, parameters: vb.parameters(), whiten, prep, layers, fc })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.prep.forward(&self.whiten.forward(&x, pass)?, pass)?;
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (_, height, width, _) = x.dims4()?;
        let pool = MaxPool2dConfig::new([height, width]);
        let x = layer_at("maxpool", x, pass, |x| max_pool2d(x, &pool))?;
        self.fc.logits(&scale(&flatten(&x)?, LOGIT_SCALE)?, pass)
    }
}

impl Model for ResNet9 {
    backbone_and_head!();

    fn head(&self) -> &str {
        "fc"
    }

    fn cam_layer(&self) -> Option<&str> {
        Some("layer3")
    }

    fn images_to_fit(&self) -> usize {
        let [_, height, width] = self.spec.input;
        PIXELS_TO_FIT.div_ceil(height * width)
    }

    fn fit_images(&self, images: &Tensor) -> Result<()> {
        keep_whitening(&self.parameters, &whitening_kernels(images, PATCH)?)
    }
}
