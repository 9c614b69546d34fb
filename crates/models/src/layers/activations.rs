//! Activation functions as layers.

use candle_core::{Result, Tensor};
use candle_vision_ops::Activation;

use super::layer_at;
use crate::{ParameterBuilder, Pass};

/// `activation` of `x` as a layer of its own, at `path`.
pub(super) fn activate_at(
    activation: Activation,
    path: &str,
    x: &Tensor,
    pass: &mut Pass<'_>,
) -> Result<Tensor> {
    layer_at(path, x, pass, |x| activation.apply(x))
}

/// Any activation function as a layer; the common ones have a type of their own as well.
///
/// It has no parameters; hooks see it at the path of the builder that made it.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::layers::Activate;
/// use candle_vision_models::{Parameters, Pass};
/// use candle_vision_ops::Activation;
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let leaky = Activate::new(Activation::LeakyRelu { slope: 0.1 }, vb.pp("act1"));
/// let y = leaky.forward(&Tensor::new(&[-1f32, 2.0], &Device::Cpu)?, &mut Pass::eval())?;
/// assert_eq!(y.to_vec1::<f32>()?, [-0.1, 2.0]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct Activate {
    path: String,
    activation: Activation,
}

impl Activate {
    /// The layer at the path of `vb`.
    pub fn new(activation: Activation, vb: ParameterBuilder) -> Self {
        Self { path: vb.path().to_owned(), activation }
    }

    /// A tensor of the shape of `x`, which may be any.
    ///
    /// # Errors
    /// If `x` does not hold floats, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        activate_at(self.activation, &self.path, x, pass)
    }
}

/// A type for each activation function without a setting: they differ in name and function.
macro_rules! activation_layers {
    ($($(#[$doc:meta])* $name:ident => $activation:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// It has no parameters; hooks see it at the path of the builder that made it.
        #[derive(Debug, Clone)]
        pub struct $name(Activate);

        impl $name {
            /// The layer at the path of `vb`.
            pub fn new(vb: ParameterBuilder) -> Self {
                Self(Activate::new($activation, vb))
            }

            /// A tensor of the shape of `x`, which may be any.
            ///
            /// # Errors
            /// If `x` does not hold floats, or what a hook returns.
            pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
                self.0.forward(x, pass)
            }
        }
    )*};
}

activation_layers! {
    /// `torch.nn.ReLU`: `max(x, 0)`, with a derivative of 0 at 0.
    Relu => Activation::Relu;
    /// `torch.nn.ReLU6`: `min(max(x, 0), 6)`.
    Relu6 => Activation::Relu6;
    /// `torch.nn.Sigmoid`: `1 / (1 + exp(-x))`.
    Sigmoid => Activation::Sigmoid;
    /// `torch.nn.Tanh`.
    Tanh => Activation::Tanh;
    /// `torch.nn.Softplus`: `ln(1 + exp(x))`.
    Softplus => Activation::Softplus;
    /// `torch.nn.SiLU`: `x * sigmoid(x)` (Hendrycks and Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
    Silu => Activation::Silu;
    /// `torch.nn.Mish`: `x * tanh(softplus(x))` (Misra 2019, <https://arxiv.org/abs/1908.08681>).
    Mish => Activation::Mish;
    /// `torch.nn.GELU`: `x` times the normal distribution function of `x`, in its exact form (Hendrycks and
    /// Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
    Gelu => Activation::Gelu;
    /// `torch.nn.Hardswish`: `x * relu6(x + 3) / 6` (Howard et al. 2019, <https://arxiv.org/abs/1905.02244>).
    Hardswish => Activation::HardSwish;
    /// `torch.nn.Hardsigmoid`: `relu6(x + 3) / 6`.
    Hardsigmoid => Activation::HardSigmoid;
}
