//! The fully connected layer.

use candle_core::{Result, Tensor};
use candle_vision_ops::{PreparedLinear, cast, linear};

use crate::prepared::PreparedLayers;
use crate::{Init, Parameter, ParameterBuilder, Pass};

/// The sizes of a [`Linear`] layer.
///
/// ```
/// use candle_vision_models::layers::LinearOptions;
///
/// assert!(!LinearOptions::new(512, 10).bias(false).bias);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LinearOptions {
    /// Features that come in.
    pub in_features: usize,
    /// Features that go out.
    pub out_features: usize,
    /// Whether a learned number is added to each feature. Default `true`.
    pub bias: bool,
    /// What the weight begins with; PyTorch's default ([`Init::fan_in_uniform`]) if `None`.
    pub init: Option<Init>,
    /// What the bias begins with; PyTorch's default, that of the weight, if `None`.
    pub bias_init: Option<Init>,
}

impl LinearOptions {
    /// PyTorch's defaults.
    pub fn new(in_features: usize, out_features: usize) -> Self {
        Self { in_features, out_features, bias: true, init: None, bias_init: None }
    }

    /// Sets whether there is a bias.
    pub fn bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Sets what the weight begins with.
    pub fn init(self, init: Init) -> Self {
        Self { init: Some(init), ..self }
    }

    /// Sets what the bias begins with.
    pub fn bias_init(self, init: Init) -> Self {
        Self { bias_init: Some(init), ..self }
    }
}

impl From<(usize, usize)> for LinearOptions {
    fn from((in_features, out_features): (usize, usize)) -> Self {
        Self::new(in_features, out_features)
    }
}

/// `torch.nn.Linear`: parameters `weight` `[out, in]` and `bias` `[out]`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Result, Tensor};
/// use candle_vision_models::layers::{Linear, LinearOptions};
/// use candle_vision_models::{Parameters, Pass};
///
/// let parameters = Parameters::new();
/// let vb = parameters.builder(0, DType::F32, &Device::Cpu);
/// let hidden = Linear::new((4, 8), vb.pp("hidden"))?;
/// let fc = Linear::new(LinearOptions::new(8, 2).bias(false), vb.pp("fc"))?;
/// let x = Tensor::zeros((1, 4), DType::F32, &Device::Cpu)?;
/// let pass = &mut Pass::eval();
/// assert_eq!(fc.forward(&hidden.forward(&x, pass)?, pass)?.dims(), [1, 2]);
/// assert!(parameters.get("fc.bias").is_none());
/// # Ok::<(), candle_vision_models::candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Linear {
    path: String,
    weight: Parameter,
    bias: Option<Parameter>,
}

impl Linear {
    /// A linear layer with new parameters; `(in, out)` gives PyTorch's defaults.
    ///
    /// # Errors
    /// If a name is taken.
    pub fn new(options: impl Into<LinearOptions>, vb: ParameterBuilder) -> Result<Self> {
        let LinearOptions { in_features, out_features, bias, init, bias_init } = options.into();
        let default = Init::fan_in_uniform(in_features);
        let (shape, of_bias) = ([out_features, in_features], bias_init.unwrap_or(default));
        Ok(Self {
            weight: vb.weight("weight", &shape, init.unwrap_or(default))?,
            bias: bias.then(|| vb.weight("bias", &[out_features], of_bias)).transpose()?,
            path: vb.path().to_owned(),
        })
    }

    /// `[.., in]` to `[.., out]`.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = self.multiply(&x, pass)?;
        pass.output(&self.path, y)
    }

    /// The same for the layer that ends in the classes: whatever the precision of the pass, the
    /// logits have the number type of the parameters. A softmax of halves would be of little use.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn logits(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = cast(&self.multiply(&x, pass)?, self.weight.var().dtype())?;
        pass.output(&self.path, y)
    }

    fn multiply(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let weight = self.weight.in_product(pass)?;
        let bias = self.bias.as_ref().map(|bias| bias.in_product(pass)).transpose()?;
        let x = &pass.cast(x)?;
        let y = match self.prepared_for(x, pass) {
            Some(prepared) => prepared
                .linear(&self.weight, || PreparedLinear::new(&weight, bias.as_ref()))
                .and_then(|layer| layer.forward(x)),
            None => linear(x, &weight, bias.as_ref()),
        };
        y.map_err(|error| error.context(format!("layer `{}`", self.path)))
    }

    /// Where the packed weight may be kept ready. It pays for tokens, because many rows are multiplied by it. A head sees
    /// one row of each image, and the weights of the largest heads take hundreds of megabytes.
    fn prepared_for<'p>(&self, x: &Tensor, pass: &Pass<'p>) -> Option<&'p PreparedLayers> {
        let learns = |parameter: &Parameter| parameter.is_trainable();
        let frozen = !learns(&self.weight) && !self.bias.as_ref().is_some_and(learns);
        let is_many = x.rank() > 2 && x.elem_count() > 0 && PreparedLinear::is_for(x);
        pass.prepared(x, frozen).filter(|_| is_many)
    }
}
