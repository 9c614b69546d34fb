//! A block of a vision transformer.

use candle_core::{Result, Tensor};
use candle_vision_ops::{add, mul};

use super::VisionTransformerConfig;
use crate::layers::{
    Dropout, LayerNorm, LayerNormOptions, MlpBlock, MultiheadAttention, MultiheadAttentionOptions,
    StochasticDepth,
};
use crate::{Init, Parameter, ParameterBuilder, Pass};

/// torchvision's and timm's vision transformers both have it.
pub(super) const EPS: f64 = 1e-6;

/// Attention and an MLP, each behind a norm and with a shortcut around it.
pub(super) struct Block {
    path: String,
    attention: (LayerNorm, MultiheadAttention),
    dropout: Option<Dropout>,
    mlp: (LayerNorm, MlpBlock),
    ends: [End; 2],
}

/// What a branch goes through before it is added to the shortcut.
struct End {
    scale: Option<LayerScale>,
    depth: Option<StochasticDepth>,
}

impl Block {
    /// Block `i`; `dropout` is the probability within the block.
    pub(super) fn new(
        config: &VisionTransformerConfig,
        i: usize,
        dropout: f64,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let VisionTransformerConfig { hidden_dim, mlp_dim, num_heads, names, .. } = *config;
        let norm = |name| LayerNorm::new(LayerNormOptions::new(hidden_dim).eps(EPS), vb.pp(name));
        let attention = MultiheadAttentionOptions::new(hidden_dim, num_heads);
        let mut attention = attention.names(names.attention_names);
        attention.init = names.init();
        let last = config.num_layers.saturating_sub(1).max(1);
        let probability = config.stochastic_depth * i as f64 / last as f64;
        let end = |number: usize| -> Result<End> {
            let scale = config
                .layer_scale
                .map(|value| LayerScale::new(hidden_dim, value, vb.pp(format_args!("ls{number}"))));
            let depth = (config.stochastic_depth > 0.0).then(|| {
                StochasticDepth::new(probability, vb.pp(format_args!("drop_path{number}")))
            });
            Ok(End { scale: scale.transpose()?, depth: depth.transpose()? })
        };
        // In the order of the parameters.
        let attention_branch =
            (norm(names.norms[0])?, MultiheadAttention::new(attention, vb.pp(names.attention))?);
        let attention_end = end(1)?;
        let mlp = names.mlp(hidden_dim, mlp_dim).dropout(dropout);
        let mlp_branch = (norm(names.norms[1])?, MlpBlock::new(mlp, vb.pp("mlp"))?);
        Ok(Self {
            path: vb.path().to_owned(),
            attention: attention_branch,
            dropout: names.dropout_in_blocks.then(|| Dropout::new(dropout, vb.pp("dropout"))),
            mlp: mlp_branch,
            ends: [attention_end, end(2)?],
        })
    }

    /// `[batch, tokens, features]` to the same shape.
    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let (norm, attention) = &self.attention;
        let mut y = attention.forward(&norm.forward(&x, pass)?, pass)?;
        if let Some(dropout) = &self.dropout {
            y = dropout.forward(&y, pass)?;
        }
        let x = self.ends[0].join(&x, y, pass)?;
        let (norm, mlp) = &self.mlp;
        let y = mlp.forward(&norm.forward(&x, pass)?, pass)?;
        let x = self.ends[1].join(&x, y, pass)?;
        pass.output(&self.path, x)
    }
}

impl End {
    /// The shortcut `x` and the branch `y`.
    fn join(&self, x: &Tensor, mut y: Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        if let Some(scale) = &self.scale {
            y = scale.forward(&y, pass)?;
        }
        if let Some(depth) = &self.depth {
            y = depth.forward(&y, pass)?;
        }
        add(x, &y)
    }
}

/// timm's `LayerScale`: a learned factor for each feature, `gamma`.
struct LayerScale {
    path: String,
    gamma: Parameter,
}

impl LayerScale {
    fn new(features: usize, value: f64, vb: ParameterBuilder) -> Result<Self> {
        let gamma = vb.weight("gamma", &[features], Init::Constant(value))?;
        Ok(Self { path: vb.path().to_owned(), gamma })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = mul(&pass.cast(&x)?, &self.gamma.in_product(pass)?)?;
        pass.output(&self.path, y)
    }
}
