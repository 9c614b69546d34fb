//! Image classifiers for candle with torchvision's names: layers, hooks, weights, freezing and
//! summaries.
//!
//! | module | what |
//! |---|---|
//! | [`build`], [`ModelSpec`], [`Model`] | a network by name, and what every network can do |
//! | [`Pass`] | one forward pass: train or eval, its precision, its seeded generator, its hook |
//! | [`Precision`] | what is computed in `bf16` or `f16`, and what stays in `f32` |
//! | [`PreparedLayers`] | what evaluation passes keep: batch norm folded, kernels packed |
//! | [`Hooks`] | closures at named layers: see or change inputs, outputs and gradients (hooks) |
//! | [`LayerHook`] | what a hook is, for hooks with a state of their own |
//! | [`Parameters`], [`ParameterBuilder`] | named parameters in a fixed order; freezing by path |
//! | [`layers`] | `Conv2d`, `BatchNorm2d`, `Linear`, `Dropout`, ... to build networks of one's own |
//! | [`weights`] | safetensors and `.pth` files under torchvision's names, with a load report |
//! | [`whitening_kernels`] | a first layer that is computed from the images instead of learned |
//! | [`summary`] | layers, output shapes, parameters and multiply-adds as a table |
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
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

mod candle_nn_layers;
mod glob;
mod hook;
mod hooks;
mod init;
pub mod layers;
mod model;
mod networks;
mod parameters;
mod pass;
mod precision;
mod prepared;
mod similar;
mod spec;
pub mod summary;
pub mod weights;
mod whitening;

pub use hook::{GradientHook, LayerHook, RecordShapes};
pub use hooks::Hooks;
pub use init::{Init, standard_normal};
pub use model::Model;
pub use networks::{
    ARCHITECTURES, AlexNet, GapCnn, Mlp, MobileNetV2, ResNet, ResNet9, SimpleCnn, build,
};
pub use parameters::{Parameter, ParameterBuilder, ParameterKind, Parameters};
pub use pass::{FrozenBatchNorm, Mode, Pass};
pub use precision::Precision;
pub use prepared::PreparedLayers;
pub use similar::nearest_names;
pub use spec::ModelSpec;
pub use whitening::whitening_kernels;
