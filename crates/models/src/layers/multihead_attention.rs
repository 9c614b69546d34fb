//! Self-attention of several heads with its projections.

use candle_core::{Result, Tensor, bail};
use candle_vision_ops::{AttentionOptions, attention, linear};

use super::{Linear, LinearOptions};
use crate::{Init, Parameter, ParameterBuilder, Pass};

/// The names of the parameters of a [`MultiheadAttention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttentionNames {
    /// Those of `torch.nn.MultiheadAttention`: `in_proj_weight`, `in_proj_bias`, `out_proj.weight`, `out_proj.bias`.
    Torch,
    /// Those of timm's `Attention`: `qkv.weight`, `qkv.bias`, `proj.weight`, `proj.bias`.
    Timm,
}

/// The sizes of a [`MultiheadAttention`], its names and its initial values.
///
/// ```
/// use candle_vision_models::Init;
/// use candle_vision_models::layers::{AttentionNames, MultiheadAttentionOptions};
///
/// let options = MultiheadAttentionOptions::new(192, 3);
/// let options = options.names(AttentionNames::Timm).init(Init::truncated_normal(0.02));
/// assert_eq!(options.heads, 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct MultiheadAttentionOptions {
    /// Features of a token.
    pub features: usize,
    /// Into how many heads they are split.
    pub heads: usize,
    /// The names of the parameters. Default PyTorch's.
    pub names: AttentionNames,
    /// What both weights begin with. If `None`, the packed weight begins with [`Init::xavier_uniform`] and the
    /// other with [`Init::fan_in_uniform`], as in PyTorch. Both biases begin with zeros.
    pub init: Option<Init>,
}

impl MultiheadAttentionOptions {
    /// PyTorch's names and initial values.
    pub fn new(features: usize, heads: usize) -> Self {
        Self { features, heads, names: AttentionNames::Torch, init: None }
    }

    /// Sets the names of the parameters.
    pub fn names(self, names: AttentionNames) -> Self {
        Self { names, ..self }
    }

    /// Sets what both weights begin with.
    pub fn init(self, init: Init) -> Self {
        Self { init: Some(init), ..self }
    }
}

/// `torch.nn.MultiheadAttention` of a sequence with itself (Vaswani et al. 2017,
/// <https://arxiv.org/abs/1706.03762>): one weight makes the queries, keys and values of all heads, another one
/// mixes the heads. There is no dropout of the attention weights.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::layers::{MultiheadAttention, MultiheadAttentionOptions};
/// use candle_vision_models::{Parameters, Pass};
///
/// let parameters = Parameters::new();
/// let vb = parameters.builder(0, DType::F32, &Device::Cpu);
/// let layer = MultiheadAttention::new(MultiheadAttentionOptions::new(8, 2), vb.pp("self_attention"))?;
/// assert_eq!(parameters.get("self_attention.in_proj_weight").unwrap().var().dims(), [24, 8]);
/// let x = Tensor::ones((1, 5, 8), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&x, &mut Pass::eval())?.dims(), [1, 5, 8]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
#[derive(Debug, Clone)]
pub struct MultiheadAttention {
    path: String,
    heads: usize,
    qkv: Packed,
    proj: Linear,
}

/// The projection to queries, keys and values.
#[derive(Debug, Clone)]
enum Packed {
    /// Parameters of the attention itself.
    Own { weight: Parameter, bias: Parameter },
    /// A layer with a path.
    Layer(Linear),
}

impl MultiheadAttention {
    /// The layer with new parameters.
    ///
    /// # Errors
    /// If the features cannot be split into the heads, or a name is taken.
    pub fn new(options: MultiheadAttentionOptions, vb: ParameterBuilder) -> Result<Self> {
        let MultiheadAttentionOptions { features, heads, names, init } = options;
        if heads == 0 || !features.is_multiple_of(heads) {
            bail!("`{}`: {features} features cannot be split into {heads} heads", vb.path())
        }
        let (zero, width) = (Init::Constant(0.0), 3 * features);
        let of_qkv = init.unwrap_or(Init::xavier_uniform(features, width));
        let (qkv, proj) = match names {
            AttentionNames::Torch => {
                let weight = vb.weight("in_proj_weight", &[width, features], of_qkv)?;
                let bias = vb.weight("in_proj_bias", &[width], zero)?;
                (Packed::Own { weight, bias }, "out_proj")
            }
            AttentionNames::Timm => {
                let qkv = LinearOptions::new(features, width).init(of_qkv).bias_init(zero);
                (Packed::Layer(Linear::new(qkv, vb.pp("qkv"))?), "proj")
            }
        };
        let of_proj = init.unwrap_or(Init::fan_in_uniform(features));
        let options = LinearOptions::new(features, features).init(of_proj).bias_init(zero);
        let proj = Linear::new(options, vb.pp(proj))?;
        Ok(Self { path: vb.path().to_owned(), heads, qkv, proj })
    }

    /// `[batch, tokens, features]` to the same shape.
    ///
    /// # Errors
    /// If the shape does not fit, or what a hook returns.
    pub fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let qkv = match &self.qkv {
            Packed::Layer(qkv) => qkv.forward(&x, pass)?,
            Packed::Own { weight, bias } => {
                let (weight, bias) = (weight.in_product(pass)?, bias.in_product(pass)?);
                linear(&pass.cast(&x)?, &weight, Some(&bias))
                    .map_err(|error| error.context(format!("layer `{}`", self.path)))?
            }
        };
        let y = attention(&qkv, &AttentionOptions::new(self.heads))?;
        pass.products(&self.path, products_of_attention(&y));
        let y = self.proj.forward(&y, pass)?;
        pass.output(&self.path, y)
    }
}

/// Multiply-adds of the products without parameters: queries with keys, and their softmax with values. `y` is the
/// result, `[batch, tokens, features]`.
pub(crate) fn products_of_attention(y: &Tensor) -> usize {
    2 * y.elem_count() * y.dims().get(1).copied().unwrap_or_default()
}
