//! A network as a module of candle-nn.

use candle_core::{Module, Result, Tensor};

use crate::{Model, Pass};

/// A network as a `candle_nn::Module`: `forward` is that of an evaluation pass, so the running statistics
/// stay as they are and dropout does nothing.
///
/// ```
/// use candle_nn::Module;
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::interop::AsModule;
/// use candle_vision_models::{ModelSpec, build};
///
/// let model = build(&ModelSpec::new("gap_cnn", 2).input([3, 16, 16]), 0, &Device::Cpu)?;
/// let classifier = candle_nn::seq().add(candle_nn::Activation::Relu).add(AsModule::new(model));
/// let images = Tensor::ones((1, 3, 16, 16), DType::F32, &Device::Cpu)?;
/// assert_eq!(classifier.forward(&images)?.dims(), [1, 2]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct AsModule<M>(M);

impl<M: Model> AsModule<M> {
    /// `model`, which may also be a reference, a box or shared, as a module.
    pub fn new(model: M) -> Self {
        Self(model)
    }

    /// The network itself.
    pub fn into_inner(self) -> M {
        self.0
    }
}

impl<M: Model> Module for AsModule<M> {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.0.forward(images, &mut Pass::eval())
    }
}
