//! VGG (Simonyan and Zisserman 2014, <https://arxiv.org/abs/1409.1556>), torchvision's form.

use candle_core::{Result, Tensor};
use candle_vision_ops::{Activation, MaxPool2dConfig};

use super::config::{backbone_and_head, of_spec};
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Conv2dOptions, ConvNorm, Dropout, Linear,
    LinearOptions, MaxPool2d, Relu, flatten, images_to_features,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass, TimmNames};

const HEAD: &str = "classifier.6";

pub(super) fn vgg11() -> NetworkEntry {
    vgg("vgg11", VggConfig::vgg11, "features.20", "11 layers")
}

pub(super) fn vgg11_bn() -> NetworkEntry {
    vgg("vgg11_bn", || VggConfig::vgg11().batch_norm(true), "features.28", "11 layers, batch norm")
}

pub(super) fn vgg13() -> NetworkEntry {
    vgg("vgg13", VggConfig::vgg13, "features.24", "13 layers")
}

pub(super) fn vgg13_bn() -> NetworkEntry {
    vgg("vgg13_bn", || VggConfig::vgg13().batch_norm(true), "features.34", "13 layers, batch norm")
}

pub(super) fn vgg16() -> NetworkEntry {
    vgg("vgg16", VggConfig::vgg16, "features.30", "16 layers")
}

pub(super) fn vgg16_bn() -> NetworkEntry {
    vgg("vgg16_bn", || VggConfig::vgg16().batch_norm(true), "features.43", "16 layers, batch norm")
}

pub(super) fn vgg19() -> NetworkEntry {
    vgg("vgg19", VggConfig::vgg19, "features.36", "19 layers")
}

pub(super) fn vgg19_bn() -> NetworkEntry {
    vgg("vgg19_bn", || VggConfig::vgg19().batch_norm(true), "features.52", "19 layers, batch norm")
}

/// `cam_layer` is the last max pool, as pytorch-grad-cam recommends.
fn vgg(name: &str, config: fn() -> VggConfig, cam_layer: &str, layers: &str) -> NetworkEntry {
    torchvision(name, move |spec, vb| Vgg::new(config().spec(spec), vb))
        .family("vgg")
        .summary(&format!("Simonyan and Zisserman 2014, {layers}"))
        .head(HEAD)
        .cam_layer(cam_layer)
}

/// The sizes of a [`Vgg`].
///
/// ```
/// use candle_vision_models::VggConfig;
///
/// let vgg16_bn = VggConfig::vgg16().batch_norm(true).num_classes(10);
/// assert_eq!(vgg16_bn.layers, [2, 2, 3, 3, 3]);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VggConfig {
    /// 3x3 convolutions of each of the five stages. The stages have 64, 128, 256, 512 and 512 channels, and a 2x2 max
    /// pool ends each of them.
    pub layers: [usize; 5],
    /// Whether a batch norm follows each convolution. Default `false`.
    pub batch_norm: bool,
    /// Features of the two linear layers before the classifier. Default 4096.
    pub hidden: usize,
    /// Probability of dropout behind these layers where the spec names none. Default 0.5.
    pub dropout: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl VggConfig {
    /// `layers` convolutions in the five stages. The network is called `vgg`; one that is to be built again from a
    /// checkpoint needs a [`NetworkEntry`] and takes its spec from there.
    pub fn new(layers: [usize; 5]) -> Self {
        let spec = ModelSpec::new("vgg", 1000);
        Self { layers, batch_norm: false, hidden: 4096, dropout: 0.5, spec }
    }

    /// VGG-11, the paper's configuration A.
    pub fn vgg11() -> Self {
        Self::new([1, 1, 2, 2, 2]).called("vgg11")
    }

    /// VGG-13, configuration B.
    pub fn vgg13() -> Self {
        Self::new([2, 2, 2, 2, 2]).called("vgg13")
    }

    /// VGG-16, configuration D.
    pub fn vgg16() -> Self {
        Self::new([2, 2, 3, 3, 3]).called("vgg16")
    }

    /// VGG-19, configuration E.
    pub fn vgg19() -> Self {
        Self::new([2, 2, 4, 4, 4]).called("vgg19")
    }

    /// Sets whether a batch norm follows each convolution.
    pub fn batch_norm(mut self, batch_norm: bool) -> Self {
        self.batch_norm = batch_norm;
        self
    }

    /// Sets the features of the two linear layers before the classifier.
    pub fn hidden(mut self, hidden: usize) -> Self {
        self.hidden = hidden;
        self
    }

    /// Sets the probability of dropout behind these layers, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    fn called(mut self, name: &str) -> Self {
        self.spec.architecture = name.to_owned();
        self
    }
}

of_spec!(Vgg, VggConfig);

/// torchvision's VGGs: `features.0..`, `classifier.0`, `.3` and `.6`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{Model, Parameters, Pass, Vgg, VggConfig};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let config = VggConfig::new([1; 5]).hidden(64).num_classes(10).input([3, 32, 32]);
/// let model = Vgg::new(config, vb)?;
/// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 512, 1, 1]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct Vgg {
    spec: ModelSpec,
    parameters: Parameters,
    features: Vec<Layer>,
    /// The last max pool.
    cam_layer: String,
    avgpool: AdaptiveAvgPool2d,
    hidden: [Hidden; 2],
    classifier: Linear,
}

/// One step of the features.
enum Layer {
    /// With the path of its ReLU.
    Conv(Conv2d, String),
    /// With its batch norm and ReLU.
    ConvNorm(ConvNorm),
    Pool(MaxPool2d),
}

impl Layer {
    /// A convolution and what follows it; the first of them is at `number` of `vb`.
    fn conv(
        from: usize,
        to: usize,
        batch_norm: bool,
        number: usize,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        let options = Conv2dOptions::new(from, to, 3).padding(1);
        let options = options.init(Init::fan_out_normal(9 * to)).bias_init(Init::Constant(0.0));
        let conv = Conv2d::new(options, vb.pp(number))?;
        if !batch_norm {
            return Ok(Self::Conv(conv, vb.pp(number + 1).path().to_owned()));
        }
        let conv = ConvNorm::of_biased(conv, BatchNorm2d::new(to, vb.pp(number + 1))?);
        Ok(Self::ConvNorm(conv.activated(Activation::Relu, vb.pp(number + 2))))
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        match self {
            Self::Conv(conv, relu) => conv.forward_activated(x, Activation::Relu, relu, pass),
            Self::ConvNorm(conv) => conv.forward(x, pass),
            Self::Pool(pool) => pool.forward(x, pass),
        }
    }
}

fn linear(from: usize, to: usize, vb: ParameterBuilder) -> Result<Linear> {
    let init = Init::Normal { mean: 0.0, std: 0.01 };
    Linear::new(LinearOptions::new(from, to).init(init).bias_init(Init::Constant(0.0)), vb)
}

/// A linear layer, ReLU, dropout.
struct Hidden {
    linear: Linear,
    relu: Relu,
    dropout: Dropout,
}

impl Hidden {
    /// Three layers of which the first is at `number`.
    fn new(
        from: usize,
        to: usize,
        dropout: f64,
        number: usize,
        vb: &ParameterBuilder,
    ) -> Result<Self> {
        Ok(Self {
            linear: linear(from, to, vb.pp(number))?,
            relu: Relu::new(vb.pp(number + 1)),
            dropout: Dropout::new(dropout, vb.pp(number + 2)),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.relu.forward(&self.linear.forward(x, pass)?, pass)?;
        self.dropout.forward(&x, pass)
    }
}

impl Vgg {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, or a name is taken.
    pub fn new(config: VggConfig, vb: ParameterBuilder) -> Result<Self> {
        let VggConfig { layers, batch_norm, hidden, dropout, spec } = config;
        check(&spec)?;
        let vf = vb.pp("features");
        let (mut features, mut from, mut number) = (Vec::new(), spec.input[0], 0);
        for (convolutions, to) in layers.into_iter().zip([64, 128, 256, 512, 512]) {
            for _ in 0..convolutions {
                features.push(Layer::conv(from, to, batch_norm, number, &vf)?);
                number += if batch_norm { 3 } else { 2 };
                from = to;
            }
            features.push(Layer::Pool(MaxPool2d::new(MaxPool2dConfig::new(2), vf.pp(number))));
            number += 1;
        }
        let (vc, dropout) = (vb.pp("classifier"), spec.dropout.unwrap_or(dropout));
        Ok(Self {
            cam_layer: vf.pp(number - 1).path().to_owned(),
            avgpool: AdaptiveAvgPool2d::new([7, 7], vb.pp("avgpool")),
            hidden: [
                Hidden::new(from * 7 * 7, hidden, dropout, 0, &vc)?,
                Hidden::new(hidden, hidden, dropout, 3, &vc)?,
            ],
            classifier: linear(hidden, spec.num_classes, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
            features,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = images_to_features(images, self.spec.input[0])?;
        for layer in &self.features {
            x = layer.forward(&x, pass)?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = flatten(&self.avgpool.forward(x, pass)?)?;
        for hidden in &self.hidden {
            x = hidden.forward(&x, pass)?;
        }
        self.classifier.logits(&x, pass)
    }
}

/// timm's name of a parameter.
fn timm_name(path: &[&str]) -> Option<String> {
    Some(match path {
        ["classifier", "0", field] => format!("pre_logits.fc1.{field}"),
        ["classifier", "3", field] => format!("pre_logits.fc2.{field}"),
        ["classifier", "6", field] => format!("head.fc.{field}"),
        _ => return None,
    })
}

impl Model for Vgg {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(&self.cam_layer)
    }

    fn timm_names(&self) -> Option<TimmNames> {
        let mut names = TimmNames::of(&self.parameters, |path, _| timm_name(path));
        // timm has these linear layers as convolutions, the first of all that the pool leaves.
        for (path, [height, width]) in
            [("classifier.0.weight", [7, 7]), ("classifier.3.weight", [1, 1])]
        {
            let shape = self.parameters.get(path)?.var().dims().to_vec();
            names = names.shape(path, [shape[0], shape[1] / (height * width), height, width]);
        }
        Some(names)
    }
}
