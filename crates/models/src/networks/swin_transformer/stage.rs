//! The stages of a Swin transformer and what they consist of.

use candle_core::{Result, Tensor};
use candle_vision_ops::{PadConfig, add, pad, permute, reshape};

use super::attention::WindowAttention;
use super::window::Windows;
use super::{INIT, SwinTransformerConfig};
use crate::layers::{
    Conv2d, Conv2dOptions, LayerNorm, Linear, LinearOptions, MlpBlock, MlpBlockOptions,
    StochasticDepth,
};
use crate::{Init, ParameterBuilder, Pass};

/// Patches of pixels as tokens.
pub(super) struct Stem {
    path: String,
    conv: Conv2d,
    norm: LayerNorm,
}

impl Stem {
    pub(super) fn new(config: &SwinTransformerConfig, vb: ParameterBuilder) -> Result<Self> {
        let SwinTransformerConfig { patch_size, embed_dim, ref spec, .. } = *config;
        let conv = Conv2dOptions::new(spec.input[0], embed_dim, patch_size).stride(patch_size);
        Ok(Self {
            path: vb.path().to_owned(),
            conv: Conv2d::new(conv, vb.pp(0))?,
            norm: LayerNorm::new(embed_dim, vb.pp(2))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let x = self.norm.forward(&self.conv.forward(&x, pass)?, pass)?;
        pass.output(&self.path, x)
    }
}

/// Blocks of one width, behind what halves the map.
pub(super) struct Stage {
    path: String,
    merging: Option<PatchMerging>,
    blocks: Vec<Block>,
}

impl Stage {
    pub(super) fn new(
        config: &SwinTransformerConfig,
        i: usize,
        merging: Option<PatchMerging>,
        windows: &Windows,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let before: usize = config.depths[..i].iter().sum();
        let last = config.depths.iter().sum::<usize>().saturating_sub(1).max(1);
        let block = |number: usize| {
            let depth = config.stochastic_depth * (before + number) as f64 / last as f64;
            let shift = if number.is_multiple_of(2) { 0 } else { config.window_size / 2 };
            Block::new(config, i, windows.shifted(shift), depth, vb.pp(number))
        };
        let blocks = (0..config.depths[i]).map(block).collect::<Result<_>>()?;
        Ok(Self { path: vb.path().to_owned(), merging, blocks })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = match &self.merging {
            Some(merging) => merging.forward(x, pass)?,
            None => x.clone(),
        };
        let mut x = pass.input(&self.path, &x)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        pass.output(&self.path, x)
    }
}

/// Attention within windows and an MLP, each behind a norm and with a shortcut around it.
struct Block {
    path: String,
    norm1: LayerNorm,
    attn: WindowAttention,
    stochastic_depth: StochasticDepth,
    norm2: LayerNorm,
    mlp: MlpBlock,
}

impl Block {
    fn new(
        config: &SwinTransformerConfig,
        stage: usize,
        windows: Windows,
        depth: f64,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let (channels, heads) = (config.embed_dim << stage, config.num_heads[stage]);
        let dropout = config.spec.dropout.unwrap_or(config.dropout);
        let mlp = MlpBlockOptions::new(channels, channels * config.mlp_ratio).dropout(dropout);
        Ok(Self {
            path: vb.path().to_owned(),
            norm1: LayerNorm::new(channels, vb.pp("norm1"))?,
            attn: WindowAttention::new(channels, heads, windows, dropout, vb.pp("attn"))?,
            stochastic_depth: StochasticDepth::new(depth, vb.pp("stochastic_depth"))?,
            norm2: LayerNorm::new(channels, vb.pp("norm2"))?,
            mlp: MlpBlock::new(mlp.init(INIT, Init::Constant(0.0)), vb.pp("mlp"))?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let y = self.attn.forward(&self.norm1.forward(&x, pass)?, pass)?;
        let x = add(&x, &self.stochastic_depth.forward(&y, pass)?)?;
        let y = self.mlp.forward(&self.norm2.forward(&x, pass)?, pass)?;
        let x = add(&x, &self.stochastic_depth.forward(&y, pass)?)?;
        pass.output(&self.path, x)
    }
}

/// Makes each square of four tokens one token that is twice as wide.
pub(super) struct PatchMerging {
    path: String,
    norm: LayerNorm,
    reduction: Linear,
}

impl PatchMerging {
    pub(super) fn new(channels: usize, vb: ParameterBuilder) -> Result<Self> {
        let reduction = LinearOptions::new(4 * channels, 2 * channels).bias(false).init(INIT);
        let reduction = Linear::new(reduction, vb.pp("reduction"))?;
        let norm = LayerNorm::new(4 * channels, vb.pp("norm"))?;
        Ok(Self { path: vb.path().to_owned(), norm, reduction })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let x = self.norm.forward(&squares(&x)?, pass)?;
        let x = self.reduction.forward(&x, pass)?;
        pass.output(&self.path, x)
    }
}

/// `[batch, height, width, channels]` to `[batch, height / 2, width / 2, 4 * channels]`, rounded up: first the token at
/// the top left of each square, then bottom left, top right and bottom right.
fn squares(x: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let x = match [height % 2, width % 2] {
        [0, 0] => x.clone(),
        [below, right] => pad(x, &PadConfig::new([0, below, 0, right]))?,
    };
    let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
    let x = reshape(&x, vec![batch, rows, 2, columns, 2, channels])?;
    reshape(&permute(&x, &[0, 1, 3, 4, 2, 5])?, (batch, rows, columns, 4 * channels))
}
