//! The networks of the fastest published CIFAR-10 trainings.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, MaxPool2dConfig, max_pool2d, scale};

use super::config::{backbone_and_head, of_spec};
use super::{InputSizes, NetworkEntry, check, row};
use crate::layers::{
    BatchNorm2d, BatchNorm2dOptions, Conv2d, Conv2dOptions, ConvNorm, Linear, LinearOptions,
    MaxPool2d, flatten, images_to_features, layer_at,
};
use crate::whitening::{keep_whitening, whitening_kernels_with};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass};

/// Height and width of the patches that the first convolution whitens.
const PATCH: usize = 2;
/// Added to the eigenvalues of the patches' covariance.
const WHITENING_EPSILON: f64 = 5e-4;
/// Pixels of the training images whose patches are looked at: 5,000 images of CIFAR-10.
const PIXELS_TO_FIT: usize = 5000 * 32 * 32;
/// Factor of the features in front of the classifier.
const LOGIT_SCALE: f64 = 1.0 / 9.0;
/// Added to the variances. The published networks divide by next to nothing else.
const NORM_EPS: f64 = 1e-12;
/// The smallest image that survives the first convolution and three halvings.
const SMALLEST: usize = 9;

pub(super) fn airbench94() -> NetworkEntry {
    entry("airbench94", AirbenchConfig::airbench94)
        .summary("Jordan 2024: six convolutions behind a whitening one; for 32x32 images")
}

pub(super) fn airbench96() -> NetworkEntry {
    entry("airbench96", AirbenchConfig::airbench96)
        .summary("Jordan 2024: nine convolutions, three of them with a residual; for 32x32 images")
}

fn entry(name: &str, config: fn() -> AirbenchConfig) -> NetworkEntry {
    row(name, move |spec, vb| Airbench::new(config().spec(spec), vb))
        .input([3, 32, 32])
        .sizes(InputSizes::from(SMALLEST))
        .head("fc")
        .cam_layer("layer3")
}

/// The sizes of an [`Airbench`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AirbenchConfig {
    /// Name, classes and image size. Default: 10 classes of 32x32 pixels in three channels.
    pub spec: ModelSpec,
    /// Channels of the three layers.
    pub widths: [usize; 3],
    /// Whether each layer has a third convolution, with a shortcut around the second and third.
    pub residual: bool,
    /// The share of a batch in the running statistics of batch norm.
    pub norm_momentum: f64,
}

impl AirbenchConfig {
    /// The network that learns CIFAR-10 to 94 %.
    pub fn airbench94() -> Self {
        Self {
            spec: ModelSpec::new("airbench94", 10),
            widths: [64, 256, 256],
            residual: false,
            // A run of eight epochs has few steps for the statistics to settle.
            norm_momentum: 0.4,
        }
    }

    /// The network that learns CIFAR-10 to 96 %.
    pub fn airbench96() -> Self {
        Self {
            spec: ModelSpec::new("airbench96", 10),
            widths: [128, 384, 512],
            residual: true,
            norm_momentum: 0.1,
        }
    }

    /// Sets the channels of the three layers.
    pub fn widths(self, widths: [usize; 3]) -> Self {
        Self { widths, ..self }
    }

    /// Sets whether each layer has a third convolution and a shortcut.
    pub fn residual(self, residual: bool) -> Self {
        Self { residual, ..self }
    }

    /// Sets the share of a batch in the running statistics, in `0.0..=1.0`.
    pub fn norm_momentum(self, norm_momentum: f64) -> Self {
        Self { norm_momentum, ..self }
    }
}

of_spec!(Airbench, AirbenchConfig);

/// The networks of Keller Jordan's airbench (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
/// <https://arxiv.org/abs/2404.00498>, <https://github.com/KellerJordan/cifar10-airbench>).
///
/// - `whiten` is a 2x2 convolution with a bias. Its kernels whiten the patches of the training images, each once
///   as it is and once negated. [`Model::fit_images`] sets and freezes them. Without that call they begin at
///   random and learn.
/// - `layer1` to `layer3` are `conv1`, a 2x2 max pool, `norm1` and GELU, then `conv2`, `norm2` and GELU. With
///   `residual` there is a `conv3` with `norm3`, and what came out of the first GELU is added before the last one.
/// - `fc` has no bias and sees the maximum of each channel, divided by 9.
///
/// The 3x3 kernels begin as the identity ([`Init::PartialDirac`]). Batch norm has a learned summand and no factor.
pub struct Airbench {
    spec: ModelSpec,
    parameters: Parameters,
    whiten: Conv2d,
    /// The path of the activation behind `whiten`.
    gelu: String,
    layers: Vec<Layer>,
    fc: Linear,
}

struct Layer {
    path: String,
    conv1: Conv2d,
    pool: MaxPool2d,
    norm1: BatchNorm2d,
    /// The path of the activation behind `norm1`.
    gelu1: String,
    second: ConvNorm,
    third: Option<ConvNorm>,
}

fn conv(from: usize, to: usize, vb: ParameterBuilder) -> Result<Conv2d> {
    let options = Conv2dOptions::new(from, to, 3).padding(1).bias(false);
    Conv2d::new(options.init(Init::partial_dirac(from * 9)), vb)
}

impl Layer {
    fn new(from: usize, to: usize, config: &AirbenchConfig, vb: ParameterBuilder) -> Result<Self> {
        let norm = |name: &str| {
            let options = BatchNorm2dOptions::new(to).eps(NORM_EPS).momentum(config.norm_momentum);
            BatchNorm2d::new(options.factor(false), vb.pp(name))
        };
        let unit = |number: usize| -> Result<ConvNorm> {
            let conv = conv(to, to, vb.pp(format!("conv{number}")))?;
            let unit = ConvNorm::of(conv, norm(&format!("norm{number}"))?)?;
            Ok(unit.activated(Activation::Gelu, vb.pp(format!("gelu{number}"))))
        };
        Ok(Self {
            conv1: conv(from, to, vb.pp("conv1"))?,
            pool: MaxPool2d::new(MaxPool2dConfig::new(2), vb.pp("maxpool")),
            norm1: norm("norm1")?,
            gelu1: vb.pp("gelu1").path().to_owned(),
            second: unit(2)?,
            third: config.residual.then(|| unit(3)).transpose()?,
            path: vb.path().to_owned(),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let x = self.pool.forward(&self.conv1.forward(&x, pass)?, pass)?;
        let x = self.norm1.forward_activated(&x, Activation::Gelu, &self.gelu1, pass)?;
        let y = self.second.forward(&x, pass)?;
        let y = match &self.third {
            Some(third) => third.forward_residual(&y, &x, pass)?,
            None => y,
        };
        pass.output(&self.path, y)
    }
}

impl Airbench {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, images have less than 9x9 pixels, or a name is taken.
    pub fn new(config: AirbenchConfig, vb: ParameterBuilder) -> Result<Self> {
        check(&config.spec)?;
        let [channels, height, width] = config.spec.input;
        if height < SMALLEST || width < SMALLEST {
            candle_core::bail!(
                "`{}` takes images of at least {SMALLEST}x{SMALLEST}, got {height}x{width}",
                config.spec.architecture
            )
        }
        let patch = channels * PATCH * PATCH;
        let whiten = Conv2dOptions::new(channels, 2 * patch, PATCH).bias_init(Init::Constant(0.0));
        // In the order of the layers: it is the parameters' order.
        let whiten = Conv2d::new(whiten, vb.pp("whiten"))?;
        let [first, second, third] = config.widths;
        let layers = vec![
            Layer::new(2 * patch, first, &config, vb.pp("layer1"))?,
            Layer::new(first, second, &config, vb.pp("layer2"))?,
            Layer::new(second, third, &config, vb.pp("layer3"))?,
        ];
        let fc = LinearOptions::new(third, config.spec.num_classes).bias(false);
        let fc = Linear::new(fc, vb.pp("fc"))?;
        let gelu = vb.pp("gelu").path().to_owned();
        Ok(Self { spec: config.spec, parameters: vb.parameters(), whiten, gelu, layers, fc })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.whiten.forward_activated(&x, Activation::Gelu, &self.gelu, pass)?;
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

impl Model for Airbench {
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
        let kernels = whitening_kernels_with(images, PATCH, WHITENING_EPSILON)?;
        // GELU passes one sign alone, so each direction is there in both.
        let kernels = Tensor::cat(&[&kernels, &kernels.neg()?], 0)?;
        keep_whitening(&self.parameters, &kernels)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn network(config: AirbenchConfig) -> Airbench {
        let vb = Parameters::new().builder(3, DType::F32, &Device::Cpu);
        Airbench::new(config.widths([8, 12, 10]).input([3, 16, 16]), vb).unwrap()
    }

    fn images() -> Tensor {
        let values: Vec<f32> = (0..8 * 3 * 256).map(|i| (i as f32 * 0.71).sin()).collect();
        Tensor::from_vec(values, (8, 3, 16, 16), &Device::Cpu).unwrap()
    }

    /// As many as `sum(p.numel() for p in make_net().parameters() if p.requires_grad)` plus the 288 of the whitening
    /// kernels, in airbench's `legacy/airbench94.py` and `legacy/airbench96.py`.
    #[test]
    fn the_networks_are_as_large_as_the_published_ones() {
        for (config, learned) in
            [(AirbenchConfig::airbench94(), 1_971_352), (AirbenchConfig::airbench96(), 9_915_416)]
        {
            let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
            let network = Airbench::new(config, vb).unwrap();
            let weights = network.parameters().weights();
            let count: usize = weights.iter().map(|weight| weight.elem_count()).sum();
            assert_eq!(count, learned + 288);
        }
    }

    #[test]
    fn the_whitening_kernels_are_fixed_and_their_bias_learns() {
        let network = network(AirbenchConfig::airbench94());
        network.fit_images(&images()).unwrap();
        let whiten = |name: &str| network.parameters().get(&format!("whiten.{name}")).unwrap();
        assert!(!whiten("weight").is_trainable() && whiten("bias").is_trainable());
        let kernels = whiten("weight").detached();
        let [kept, negated] = [0, 12].map(|from| kernels.narrow(0, from, 12).unwrap());
        let sum = (kept + negated).unwrap().abs().unwrap().max_all().unwrap();
        assert_eq!(sum.to_scalar::<f32>().unwrap(), 0.0);
    }

    #[test]
    fn a_layer_of_96_has_a_shortcut() {
        let plain = network(AirbenchConfig::airbench94());
        let residual = network(AirbenchConfig::airbench96());
        assert!(plain.parameters().get("layer1.conv3.weight").is_none());
        // The kernels of `conv3` are set to zero, and with them the branch, but not the layer.
        for layer in ["layer1", "layer2", "layer3"] {
            let path = format!("{layer}.conv3.weight");
            let weight = residual.parameters().get(&path).unwrap();
            weight.set(&weight.detached().zeros_like().unwrap()).unwrap();
        }
        let features = residual.forward_features(&images(), &mut Pass::eval()).unwrap();
        assert_eq!(features.dims(), [8, 10, 1, 1]);
        assert!(features.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-3);
    }

    #[test]
    fn batch_norm_has_no_factor() {
        let network = network(AirbenchConfig::airbench96());
        let weights = network.parameters().weights();
        let norms = weights.iter().filter(|weight| weight.path().contains(".norm"));
        let names: Vec<&str> = norms.map(|weight| weight.path()).collect();
        assert_eq!(names.len(), 9);
        assert!(names.iter().all(|name| name.ends_with(".bias")), "{names:?}");
    }
}
