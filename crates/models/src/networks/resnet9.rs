//! The small residual network of the fast CIFAR-10 recipes.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Conv2dConfig, MaxPool2dConfig, add, max_pool2d, scale};

use super::require_three_halvings;
use crate::layers::{
    Activate, Conv2d, ConvNorm, Kernel, Linear, flatten, images_to_features, layer_at,
};
use crate::whitening::whitening_kernels;
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// Height and width of the patches that the first convolution whitens.
const PATCH: usize = 3;
/// Pixels of the training images whose patches are looked at: 2,000 images of CIFAR-10.
const PIXELS_TO_FIT: usize = 2000 * 32 * 32;
/// Factor of the features in front of the classifier: without it the first logits are large, and the
/// high learning rates of the recipe tear them apart.
const LOGIT_SCALE: f64 = 0.125;

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
    prep: Unit,
    layers: Vec<Stage>,
    fc: Linear,
}

/// A convolution with its batch norm, and the path of the ReLU behind them.
struct Unit {
    conv: ConvNorm,
    relu: String,
}

impl Unit {
    /// `conv{suffix}`, `bn{suffix}` and `relu{suffix}`.
    fn new(
        from: usize,
        to: usize,
        kernel: Kernel,
        suffix: &str,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        let at = |layer: &str| vb.pp(format_args!("{layer}{suffix}"));
        let conv = ConvNorm::new(from, to, kernel, at("conv"), at("bn"))?;
        Ok(Self { conv, relu: at("relu").path().to_owned() })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.conv.forward(x, Activate::relu(&self.relu), pass)
    }
}

struct Stage {
    path: String,
    first: Unit,
    /// In the first and the third.
    residual: Option<Residual>,
}

/// Two convolutions with a shortcut around them; unlike in larger residual networks the ReLU
/// comes before the sum.
struct Residual {
    path: String,
    units: [Unit; 2],
}

impl Residual {
    fn new(channels: usize, vb: ParameterBuilder) -> Result<Self> {
        let unit = |suffix| Unit::new(channels, channels, Kernel::THREE, suffix, &vb);
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
        let first = Unit::new(from, to, Kernel::THREE, "", &vb)?;
        let residual = residual.then(|| Residual::new(to, vb.pp("residual"))).transpose()?;
        Ok(Self { first, residual, path: vb.path().to_owned() })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let x = self.first.forward(x, pass)?;
        let pool = MaxPool2dConfig::new(2);
        let x = layer_at(&format!("{}.maxpool", self.path), &x, pass, |x| max_pool2d(x, &pool))?;
        let x = match &self.residual {
            Some(residual) => residual.forward(&x, pass)?,
            None => x,
        };
        pass.output(&self.path, x)
    }
}

impl ResNet9 {
    pub(super) fn new(
        spec: ModelSpec,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        require_three_halvings(&spec)?;
        let channels = spec.input[0];
        let patch = channels * PATCH * PATCH;
        let config = Conv2dConfig::default().padding(PATCH / 2);
        let init = Init::fan_out_normal(patch * PATCH * PATCH);
        let vb_whiten = vb.pp("whiten");
        let kernel = [PATCH; 2];
        // In the order of the layers: it is the parameters' order.
        let whiten = Conv2d::without_bias(channels, patch, kernel, config, init, &vb_whiten)?;
        let prep = Unit::new(patch, 64, Kernel::ONE, "", &vb.pp("prep"))?;
        let layers = vec![
            Stage::new(64, 128, true, vb.pp("layer1"))?,
            Stage::new(128, 256, false, vb.pp("layer2"))?,
            Stage::new(256, 512, true, vb.pp("layer3"))?,
        ];
        let fc = Linear::new(512, spec.num_classes, vb.pp("fc"))?;
        Ok(Self { spec, parameters, whiten, prep, layers, fc })
    }
}

impl Model for ResNet9 {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.prep.forward(&self.whiten.forward(&x, pass)?, pass)?;
        for layer in &self.layers {
            x = layer.forward(&x, pass)?;
        }
        let (_, height, width, _) = x.dims4()?;
        let whole = [height, width];
        let pool = MaxPool2dConfig { kernel: whole, stride: whole, ..MaxPool2dConfig::new(1) };
        let x = layer_at("maxpool", &x, pass, |x| max_pool2d(x, &pool))?;
        self.fc.logits(&scale(&flatten(&x)?, LOGIT_SCALE)?, pass)
    }

    fn head(&self) -> &'static str {
        "fc"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        Some("layer3")
    }

    fn images_to_fit(&self) -> usize {
        let [_, height, width] = self.spec.input;
        PIXELS_TO_FIT.div_ceil(height * width)
    }

    fn fit_images(&self, images: &Tensor) -> Result<()> {
        let kernels = whitening_kernels(images, PATCH)?;
        let Some(weight) = self.parameters.get("whiten.weight") else {
            candle_core::bail!("`{}` has no layer `whiten`", self.spec.architecture)
        };
        weight.set(&kernels.to_device(weight.var().device())?)?;
        self.parameters.freeze("whiten")?;
        Ok(())
    }
}
