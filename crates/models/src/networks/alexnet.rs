//! AlexNet (Krizhevsky 2014, <https://arxiv.org/abs/1404.5997>), torchvision's form, and one for
//! 32x32 images.

use candle_core::{Result, Tensor, bail};
use candle_vision_ops::{Conv2dConfig, MaxPool2dConfig, adaptive_avg_pool2d, max_pool2d};

use crate::layers::{Conv2d, Dropout, Linear, flatten, images_to_features, layer_at, relu_at};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const STEM: &str = "features.0.weight";

/// `features.0..10` (five convolutions), `classifier.1`, `.4` and `.6`.
pub struct AlexNet {
    spec: ModelSpec,
    parameters: Parameters,
    features: Vec<Feature>,
    classifier: [Linear; 3],
    dropout: [Dropout; 2],
}

/// A convolution with its ReLU, and a max pool where there is one.
struct Feature {
    conv: Conv2d,
    relu: &'static str,
    pool: Option<(&'static str, MaxPool2dConfig)>,
}

impl AlexNet {
    /// torchvision's form: an 11x11 stem of stride 4 and 3x3 pools of stride 2.
    pub(super) fn imagenet(
        spec: ModelSpec,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let stem = ([11, 11], Conv2dConfig::default().stride(4).padding(2));
        Self::new(spec, 63, stem, MaxPool2dConfig::new(3).stride(2), parameters, vb)
    }

    /// For 32x32 images: a 3x3 stem of stride 1, which takes the centre of published 11x11
    /// weights, and 2x2 pools. Everything behind them is torchvision's.
    pub(super) fn cifar(
        spec: ModelSpec,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let stem = ([3, 3], Conv2dConfig::default().padding(1));
        Self::new(spec, 8, stem, MaxPool2dConfig::new(2), parameters, vb)
    }

    fn new(
        spec: ModelSpec,
        smallest: usize,
        (stem_kernel, stem): ([usize; 2], Conv2dConfig),
        pool: MaxPool2dConfig,
        parameters: Parameters,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let [channels, height, width] = spec.input;
        if height < smallest || width < smallest {
            bail!(
                "`{}` takes images of at least {smallest}x{smallest}, got {height}x{width}",
                spec.architecture
            )
        }
        let vf = vb.pp("features");
        let three = Conv2dConfig::default().padding(1);
        let five = Conv2dConfig::default().padding(2);
        let features = vec![
            Feature {
                conv: Conv2d::new(channels, 64, stem_kernel, stem, vf.pp(0))?,
                relu: "features.1",
                pool: Some(("features.2", pool)),
            },
            Feature {
                conv: Conv2d::new(64, 192, [5, 5], five, vf.pp(3))?,
                relu: "features.4",
                pool: Some(("features.5", pool)),
            },
            Feature {
                conv: Conv2d::new(192, 384, [3, 3], three, vf.pp(6))?,
                relu: "features.7",
                pool: None,
            },
            Feature {
                conv: Conv2d::new(384, 256, [3, 3], three, vf.pp(8))?,
                relu: "features.9",
                pool: None,
            },
            Feature {
                conv: Conv2d::new(256, 256, [3, 3], three, vf.pp(10))?,
                relu: "features.11",
                pool: Some(("features.12", pool)),
            },
        ];
        let vc = vb.pp("classifier");
        let classifier = [
            Linear::new(256 * 6 * 6, 4096, vc.pp(1))?,
            Linear::new(4096, 4096, vc.pp(4))?,
            Linear::new(4096, spec.num_classes, vc.pp(6))?,
        ];
        let dropout = ["classifier.0", "classifier.3"];
        let dropout = dropout.map(|path| Dropout::new(path, spec.dropout.unwrap_or(0.5)));
        Ok(Self { spec, parameters, features, classifier, dropout })
    }
}

impl Model for AlexNet {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = images_to_features(images, self.spec.input[0])?;
        for feature in &self.features {
            x = feature.conv.forward_relu(&x, feature.relu, pass)?;
            if let Some((path, pool)) = &feature.pool {
                x = layer_at(path, &x, pass, |x| max_pool2d(x, pool))?;
            }
        }
        let x = layer_at("avgpool", &x, pass, |x| adaptive_avg_pool2d(x, [6, 6]))?;
        let [first, second, last] = &self.classifier;
        let x = self.dropout[0].forward(&flatten(&x)?, pass)?;
        let x = relu_at("classifier.2", &first.forward(&x, pass)?, pass)?;
        let x = self.dropout[1].forward(&x, pass)?;
        let x = relu_at("classifier.5", &second.forward(&x, pass)?, pass)?;
        last.logits(&x, pass)
    }

    fn head(&self) -> &'static str {
        "classifier.6"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        Some("features.11")
    }

    fn adapt_weight(&self, path: &str, tensor: &Tensor) -> Result<Option<Tensor>> {
        let wanted = self.parameters.get(STEM).map_or(0, |stem| stem.var().dims()[2]);
        match tensor.dims() {
            [_, _, 11, 11] if path == STEM && wanted == 3 => {
                Ok(Some(tensor.narrow(2, 4, 3)?.narrow(3, 4, 3)?.contiguous()?))
            }
            _ => Ok(None),
        }
    }
}
