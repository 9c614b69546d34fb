//! Explanations for candle image classifiers: where the network looked, and whether the explanation can be
//! trusted.
//!
//! | item | what |
//! |---|---|
//! | [`Method`], [`Methods`], [`Explain`] | every method by name, and methods of your own |
//! | [`Explainer`] | the same for many images, from CUDA graphs where a card can repeat them |
//! | [`grad_cam`], [`grad_cam_plus_plus`], [`xgrad_cam`], [`hires_cam`], [`layer_cam`] | maps of a layer from its activations and gradients |
//! | [`eigen_cam`], [`eigen_grad_cam`] | maps from the principal component of a layer |
//! | [`score_cam`], [`ablation_cam`] | maps of a layer without gradients, from many forward passes |
//! | [`saliency`], [`input_x_gradient`], [`guided_backprop`], [`smooth_grad`], [`integrated_gradients`], [`full_grad`], [`occlusion`] | attributions of the pixels themselves |
//! | [`Target`], [`embeddings`] | the question: a class, one class rather than another, similarity |
//! | [`ClassActivationMap`] | a map of the input's size with its class, probability and layer |
//! | [`inspection`] | elementary layers, feature maps, first kernels, residual blocks |
//! | [`faithfulness`] | faithfulness metrics: deletion, insertion, ROAD, pointing game, energy in a mask, weight randomisation; a random map as the baseline |
//! | [`knn_accuracy`] | how good features are without a trained head: the votes of the nearest ones |
//! | [`FeatureExtractor`], [`Features`] | the outputs of layers for many images, as tensors and `.npy` files |
//! | [`Recorder`], [`LeafAt`] | hooks that keep a layer's output, or the gradient there |
//!
//! Every function takes a batch and handles it in one pass. The methods that need many passes go image by
//! image.
//!
//! A network only has to run its forward pass. It may be frozen, it is never changed, and no layer has to be
//! named. The backward pass of a class activation map ends at the layer that the map looks at.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_vision_explain::{CamOptions, grad_cam};
//! use candle_vision_models::{ModelSpec, build};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = build(&ModelSpec::new("gap_cnn", 2).input([3, 32, 32]), 0, &Device::Cpu)?;
//! let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
//! let maps = grad_cam(model.as_ref(), &images, &CamOptions::default())?;
//! assert_eq!((maps[0].height, maps[0].width), (32, 32));
//! # Ok(())
//! # }
//! ```

mod cam;
mod error;
mod explainer;
pub mod faithfulness;
mod features;
pub mod inspection;
mod map;
mod method;
mod nearest_neighbours;
mod pixels;
mod record;
mod scale;
mod target;

pub use cam::{
    CamOptions, ablation_cam, eigen_cam, eigen_grad_cam, grad_cam, grad_cam_plus_plus, hires_cam,
    layer_cam, score_cam, xgrad_cam,
};
pub use error::{Error, Result};
pub use explainer::Explainer;
pub use features::{FeatureExtractor, Features};
pub use map::{ClassActivationMap, PIXELS};
pub use method::{Explain, Method, Methods};
pub use nearest_neighbours::knn_accuracy;
pub use pixels::{
    Attributions, IntegratedGradients, Occlusion, SmoothGrad, full_grad, guided_backprop,
    input_x_gradient, integrated_gradients, occlusion, saliency, smooth_grad,
};
pub use record::{LeafAt, Recorder};
pub use target::{Target, embeddings};

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
