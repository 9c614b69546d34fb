//! Somebody else's program: a network, a data set, a transform, a loss and an optimizer of its own, with all
//! commands of candle-vision.

use std::process::ExitCode;

use candle_core::{Result, Tensor, Var};
use candle_vision::data::transforms::{Transform, TransformEntry, describe};
use candle_vision::data::{DataSetEntry, Generator, Image, Samples, Split, random};
use candle_vision::models::layers::{Conv2d, Conv2dOptions, GlobalAvgPool, Linear, Relu, images_to_features};
use candle_vision::models::{Model, ModelSpec, NetworkEntry, ParameterBuilder, Parameters, Pass};
use candle_vision::registry::Description;
use candle_vision::train::loss::{Loss, LossEntry};
use candle_vision::train::optim::{OptimizerEntry, Step, UpdateRule};
use candle_vision_cli::{Registry, main_with};
use serde::{Deserialize, Serialize};

#[derive(Debug)]
struct Stripes {
    spec: ModelSpec,
    parameters: Parameters,
    conv: Conv2d,
    relu: Relu,
    pool: GlobalAvgPool,
    fc: Linear,
}

impl Stripes {
    fn new(spec: &ModelSpec, vb: ParameterBuilder) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::new(Conv2dOptions::new(spec.input[0], 6, 3).padding(1), vb.pp("conv"))?,
            relu: Relu::new(vb.pp("relu")),
            pool: GlobalAvgPool::new(vb.pp("pool")),
            fc: Linear::new((6, spec.num_classes), vb.pp("fc"))?,
            spec: spec.clone(),
            parameters: vb.parameters(),
        })
    }
}

impl Model for Stripes {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.conv.forward(&images_to_features(images, self.spec.input[0])?, pass)?;
        let x = self.relu.forward(&x, pass)?;
        self.fc.logits(&self.pool.forward(&x, pass)?, pass)
    }

    fn head(&self) -> &str {
        "fc"
    }

    fn cam_layer(&self) -> Option<&str> {
        Some("relu")
    }
}

/// Horizontal and vertical stripes.
fn stripes() -> DataSetEntry {
    DataSetEntry::new("stripes", "horizontal and vertical stripes", |request| {
        let count: u32 = if request.split == Split::Train { 12 } else { 6 };
        let rows = (0..count).map(|number| (number, number % 2));
        let draw = |number: &u32| {
            let value = |row: usize, column: usize| {
                let place = if number % 2 == 0 { row } else { column };
                if (place + *number as usize / 2) % 4 < 2 { 230 } else { 20 }
            };
            let pixels = (0..256).map(|i| value(i / 16, i % 16)).collect();
            Image::new(16, 16, 1, pixels)
        };
        Ok(Samples::new(["horizontal", "vertical"], rows, draw).with_fingerprint("stripes").into())
    })
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Speckle {
    p: f64,
}

impl Transform for Speckle {
    fn apply(&self, mut image: Image, rng: &mut Generator) -> candle_vision::data::Result<Image> {
        for pixel in image.pixels_mut() {
            if random::chance(rng, self.p) {
                *pixel = 255 - *pixel;
            }
        }
        Ok(image)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe("speckle", self)
    }
}

/// The mean squared distance of the probabilities from the right ones (Brier 1950).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Brier {}

impl Loss for Brier {
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> candle_vision::train::Result<Tensor> {
        let classes = Tensor::arange(0u32, logits.dim(1)? as u32, logits.device())?;
        let right = labels.unsqueeze(1)?.broadcast_eq(&classes)?.to_dtype(logits.dtype())?;
        Ok((candle_vision::ops::softmax(logits)? - right)?.sqr()?.mean_all()?)
    }

}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignMomentum {
    lr: f64,
}

impl UpdateRule for SignMomentum {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn state_names(&self) -> &[&str] {
        &["momentum"]
    }

    fn update(&self, parameter: &Var, grad: &Tensor, state: &[Var], step: &Step) -> Result<()> {
        let momentum = ((state[0].as_detached_tensor() * 0.9)? + (grad * 0.1)?)?;
        parameter.set(&(parameter.as_detached_tensor() - (momentum.sign()? * step.lr)?)?)?;
        state[0].set(&momentum)
    }
}

fn main() -> ExitCode {
    let network = || NetworkEntry::new("stripes_net", Stripes::new).summary("one convolution").input([1, 16, 16]);
    let mut registry = Registry::standard()
        .network(network())
        .data_set(stripes())
        .transform(TransformEntry::of::<Speckle>("speckle", "inverts pixels at random"))
        .loss(LossEntry::of::<Brier>("brier", "the mean squared distance of the probabilities"))
        .optimizer(OptimizerEntry::of::<SignMomentum>("sign_momentum", "the sign of a momentum"));
    if std::env::var_os("REGISTER_TWICE").is_some() {
        registry = registry.network(network());
    }
    main_with(registry)
}
