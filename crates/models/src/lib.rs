//! Image classifiers for candle with torchvision's names: layers, hooks, weights, freezing and
//! summaries.
//!
//! | item | what |
//! |---|---|
//! | [`build`], [`ModelSpec`], [`Model`] | a network by name, and what every network can do |
//! | [`Networks`], [`NetworkEntry`] | the table of networks: what each is, takes and was published with; one's own beside them |
//! | [`ResNet`], [`ResNetConfig`] and so on | networks without a name, from their sizes |
//! | [`layers`] | `Conv2d`, `BatchNorm2d`, `Linear`, `Dropout`, ... to build networks of one's own |
//! | [`Parameters`], [`ParameterBuilder`] | named parameters in a fixed order; freezing by path |
//! | [`Pass`] | one forward pass: train or eval, its precision, its seeded generator, its hook |
//! | [`Precision`] | what is computed in `bf16` or `f16`, and what stays in `f32` |
//! | [`PreparedLayers`] | what evaluation passes keep: batch norm folded, kernels packed |
//! | [`Hooks`] | closures at named layers: see or change inputs, outputs and gradients |
//! | [`LayerHook`] | what a hook is, for hooks with a state of their own |
//! | [`interop`] | networks of candle-nn here, networks here as modules of candle-nn |
//! | [`weights`] | safetensors and `.pth` files under torchvision's names, with a load report |
//! | [`whitening_kernels`] | a first layer that is computed from the images instead of learned |
//! | [`memory`] | what a training step takes, before it runs, and the largest batch that fits |
//! | [`parity`] | what torchvision's and timm's networks give, to compare with |
//! | [`summary`] | layers, output shapes, parameters and multiply-adds as a table |
//!
//! `candle_core` and the [`Generator`] that everything random draws from are re-exported: a program that
//! uses them from here cannot have another version of them by mistake.
//!
//! ```
//! use candle_vision_models::candle_core::{self, DType, Device, Tensor};
//! use candle_vision_models::{ModelSpec, Pass, build};
//!
//! # fn main() -> candle_core::Result<()> {
//! let model = build(&ModelSpec::new("resnet18", 2), 0, &Device::Cpu)?;
//! let images = Tensor::zeros((1, 3, 64, 64), DType::F32, &Device::Cpu)?;
//! let logits = model.forward(&images, &mut Pass::eval())?;
//! assert_eq!(logits.dims(), [1, 2]);
//! # Ok(())
//! # }
//! ```

mod eval_passes;
mod glob;
mod hook;
mod hooks;
mod init;
pub mod interop;
pub mod layers;
pub mod memory;
mod model;
mod networks;
mod parameters;
pub mod parity;
mod pass;
mod path;
mod precision;
mod prepared;
mod spec;
pub mod summary;
mod timm;
pub mod weights;
mod whitening;

pub use candle_core;
pub use candle_vision_ops::Generator;
pub use candle_vision_registry::nearest_names;
pub use eval_passes::EvalPasses;
pub use glob::layer_matches;
pub use hook::{GradientHook, LayerHook, RecordShapes};
pub use hooks::Hooks;
pub use init::{Init, standard_normal};
pub use model::{AuxiliaryOutputs, Model, TokenGrid};
pub use networks::{
    Airbench, AirbenchConfig, AlexNet, AlexNetConfig, AlexNetForm, CifarResNet, CifarResNetConfig,
    ConvNeXt, ConvNeXtConfig, DenseNet, DenseNetConfig, EfficientNet, EfficientNetConfig,
    EfficientNetLite, EfficientNetLiteConfig, EfficientNetStage, EvalPreprocessing, GapCnn,
    GapCnnConfig, GoogLeNet, GoogLeNetConfig, InceptionV3, InceptionV3Config, InputSizes, LeNet,
    LeNetConfig, Mlp, MlpConfig, MnasNet, MnasNetConfig, MobileNetV2, MobileNetV2Config,
    MobileNetV3, MobileNetV3Block, MobileNetV3Config, NetworkCosts, NetworkEntry, Networks,
    PublishedWeights, RegNet, RegNetConfig, RegNetStage, ResNet, ResNet9, ResNet9Config,
    ResNetBlock, ResNetConfig, ResizeInterpolation, ShuffleNetV2, ShuffleNetV2Config, SimpleCnn,
    SimpleCnnConfig, SqueezeNet, SqueezeNetConfig, SqueezeNetVersion, SwinTransformer,
    SwinTransformerConfig, TransformerNames, Vgg, VggConfig, VisionTransformer,
    VisionTransformerConfig, build, fine_tuned, imagenet_classes, imagenet_synsets,
};
pub use parameters::{KeptValues, Parameter, ParameterBuilder, ParameterKind, Parameters};
pub use pass::{FrozenBatchNorm, Mode, Pass};
pub use path::is_under;
pub use precision::Precision;
pub use prepared::PreparedLayers;
pub use spec::ModelSpec;
pub use timm::TimmNames;
pub use whitening::{whitening_kernels, whitening_kernels_with};

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
