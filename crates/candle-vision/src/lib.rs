//! What torchvision, a trainer and Grad-CAM are for PyTorch, built in Rust on candle.
//!
//! This crate is the front door: it re-exports the parts, which also stand alone.
//!
//! | module | crate | what |
//! |---|---|---|
//! | [`ops`] | `candle-vision-ops` | differentiable image operations with right gradients |
//! | [`data`] | `candle-vision-data` | data sets, transforms with torchvision's results, the loader |
//! | [`models`] | `candle-vision-models` | networks under torchvision's names, weights, hooks |
//! | [`train`] | `candle-vision-train` | optimizers, schedules, the trainer, checkpoints |
//! | [`distributed`] | `candle-vision-distributed` | processes that train one network together |
//! | [`explain`] | `candle-vision-explain` | class activation maps, attributions, and how good they are |
//! | [`report`] | `candle-vision-report` | curves, overlays, reports, TensorBoard events |

mod classifier;
mod error;
mod probe;
mod registry_of_all;

pub use candle_vision_data as data;
pub use candle_vision_distributed as distributed;
pub use candle_vision_explain as explain;
pub use candle_vision_models as models;
pub use candle_vision_ops as ops;
pub use candle_vision_registry as registry;
pub use candle_vision_report as report;
pub use candle_vision_train as train;
pub use classifier::{
    Classifier, ExplainedImage, Input, Prediction, extract, in_channels, open_image,
};
pub use error::{Error, Result};
pub use probe::{LabelledFeatures, ProbeConfig, Probed, head_inputs, probe};
pub use registry_of_all::Registry;

/// What most programs need: `use candle_vision::prelude::*;`.
///
/// ```
/// use candle_core::Device;
/// use candle_vision::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // One drawn insect, through an untrained network, explained.
/// let insects = Insects::new(Split::Val, InsectsConfig::new(2).size(64))?;
/// let transform = Compose::new().with(ToTensor);
/// let loader =
///     DataLoader::new(std::sync::Arc::new(insects), transform, LoaderConfig::default(), Device::Cpu)?;
/// let model = build(&ModelSpec::new("gap_cnn", 2).input([3, 64, 64]), 0, &Device::Cpu)?;
/// for batch in loader.epoch(0) {
///     let batch = batch?;
///     let logits = model.forward(&batch.images, &mut Pass::eval())?;
///     assert_eq!(logits.dims(), [2, 2]);
///     let maps = grad_cam(model.as_ref(), &batch.images, &CamOptions::default())?;
///     assert_eq!((maps[0].height, maps[0].width), (64, 64));
/// }
/// # Ok(())
/// # }
/// ```
pub mod prelude {
    pub use candle_vision_data::batch_transforms::{CutMix, MixUp};
    pub use candle_vision_data::transforms::{
        CenterCrop, ColorJitter, Compose, Grayscale, Normalize, Pad, RandomCrop, RandomGrayscale,
        RandomHorizontalFlip, RandomResizedCrop, RandomRotation, RandomVerticalFlip, Resize,
        ToTensor, Transform, TransformEntry, Transforms,
    };
    pub use candle_vision_data::{
        Batch, Cifar10, DataLoader, Dataset, Image, ImageFolder, Insects, InsectsConfig,
        LoaderConfig, Mnist, Sample, Samples, Split, Splits,
    };
    pub use candle_vision_explain::{CamOptions, ClassActivationMap, Method, Target, grad_cam};
    pub use candle_vision_models::{
        EvalPasses, Hooks, LayerHook, Model, ModelSpec, Parameters, Pass, PreparedLayers, build,
        weights,
    };
    pub use candle_vision_train::optim::{Adam, AdamW, Sgd};
    pub use candle_vision_train::{
        Callback, Checkpoint, Control, Event, RunFolder, Trainer, TrainerConfig, evaluate,
    };
}

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
