//! A network of one's own under the trainer, saved, loaded by its name, and explained: two blocks with
//! TensorFlow's "same" padding and its epsilon, as EfficientNet-Lite has them.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use candle_core::{Device, Result, Tensor};
use candle_vision::data::transforms::{Compose, ToTensor};
use candle_vision::data::{Insects, InsectsConfig, LoaderConfig, Split, Splits};
use candle_vision::explain::Method;
use candle_vision::models::layers::{
    ConvNorm, ConvNormOptions, GlobalAvgPool, Linear, images_to_features,
};
use candle_vision::models::{Model, ModelSpec, NetworkEntry, ParameterBuilder, Parameters, Pass};
use candle_vision::ops::{Activation, Padding2d};
use candle_vision::train::optim::Adam;
use candle_vision::train::{Trainer, TrainerConfig};
use candle_vision::{Classifier, Registry};

/// Convolutions with batch norm and ReLU6, pooled and classified.
#[derive(Debug)]
pub struct LiteNet {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    depthwise: ConvNorm,
    project: ConvNorm,
    pool: GlobalAvgPool,
    fc: Linear,
}

impl LiteNet {
    /// The network that `spec` describes, with parameters from `vb`.
    pub fn new(spec: &ModelSpec, vb: ParameterBuilder) -> Result<Self> {
        let block = |from, to, kernel, stride, groups, activation| {
            ConvNormOptions::new(from, to, kernel)
                .stride(stride)
                .groups(groups)
                .padding(Padding2d::SameTf)
                .eps(1e-3)
                .activation(activation)
        };
        Ok(Self {
            stem: ConvNorm::new(
                block(spec.input[0], 16, 3, 2, 1, Activation::Relu6),
                vb.pp("stem"),
            )?,
            depthwise: ConvNorm::new(
                block(16, 16, 3, 2, 16, Activation::Relu6),
                vb.pp("depthwise"),
            )?,
            project: ConvNorm::new(block(16, 32, 1, 1, 1, Activation::Identity), vb.pp("project"))?,
            pool: GlobalAvgPool::new(vb.pp("pool")),
            fc: Linear::new((32, spec.num_classes), vb.pp("fc"))?,
            spec: spec.clone(),
            parameters: vb.parameters(),
        })
    }
}

impl Model for LiteNet {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.stem.forward(&images_to_features(images, self.spec.input[0])?, pass)?;
        let x = self.project.forward(&self.depthwise.forward(&x, pass)?, pass)?;
        self.fc.logits(&self.pool.forward(&x, pass)?, pass)
    }

    fn head(&self) -> &str {
        "fc"
    }

    fn cam_layer(&self) -> Option<&str> {
        Some("project.1")
    }
}

/// Trains the network on drawings, loads it by its name, and draws why it decides as it does into `out`.
pub fn run(out: &Path) -> std::result::Result<(), Box<dyn Error>> {
    // With this row, recipes, checkpoints and (with `candle_vision_cli::main_with`) commands know it.
    let registry = Registry::standard().network(
        NetworkEntry::new("lite_net", LiteNet::new).summary("two blocks").input([3, 32, 32]),
    );
    let set = |split| Insects::new(split, InsectsConfig::new(16).size(32));
    let splits = Splits::new(set(Split::Train)?, set(Split::Val)?);
    let to_tensor = Compose::new().with(ToTensor);
    let data =
        splits.loaders_on(to_tensor.clone(), to_tensor, LoaderConfig::new(8), &Device::Cpu)?;
    let spec = registry.networks.spec("lite_net", splits.classes().len())?;
    let model = registry.networks.build(&spec, 0, &Device::Cpu)?;
    let done =
        Trainer::new(&model, &data.train, &data.val, TrainerConfig::new(2, Adam::new(1e-2)))?
            .save_to(out.join("run"))
            .run()?;
    let best = done.best_path().ok_or("no epoch was finished")?;
    let classifier = Classifier::load_with(best, &registry, &Device::Cpu)?;
    let image = splits.val.sample(0)?.image;
    classifier.explain(&image, Method::GRAD_CAM)?.save(out.join("cam.png"))?;
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    run(std::env::args_os().nth(1).ok_or("give a folder to write to")?.as_ref())
}
