//! Where did the network look? Explanations for candle image classifiers.
//!
//! | item | what |
//! |---|---|
//! | [`grad_cam`] | Grad-CAM: which places speak for a class, for a batch of pictures in one pass |
//! | [`ClassActivationMap`] | a map of the input's size with its class, probability and layer |
//! | [`inside`] | elementary layers, feature maps, first kernels, residual blocks |
//! | [`Recorder`], [`LeafAt`] | taps that keep a layer's output, or the gradient there |
//!
//! A network is only asked for its forward pass: it may be frozen, it is never changed, and a map
//! costs no backward through the layers under the one that it looks at.
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
mod grad_cam;
pub mod inside;
mod record;
mod scale;

pub use cam::{CamOptions, ClassActivationMap, Target};
pub use error::{Error, Result};
pub use grad_cam::grad_cam;
pub use record::{LeafAt, Recorder};
