//! Attention within the windows of a map.

use candle_core::{Result, Tensor};
use candle_vision_ops::{AttentionOptions, attention, cast};

use super::INIT;
use super::window::Windows;
use crate::layers::{Dropout, Linear, LinearOptions, products_of_attention};
use crate::{Init, Parameter, ParameterBuilder, Pass};

/// torchvision's `ShiftedWindowAttention`: each token attends to those of its window, with a learned bias for each
/// distance of two tokens.
pub(super) struct WindowAttention {
    path: String,
    heads: usize,
    windows: Windows,
    /// `[distances, heads]`
    table: Parameter,
    qkv: Linear,
    proj: Linear,
    dropout: Dropout,
}

impl WindowAttention {
    pub(super) fn new(
        channels: usize,
        heads: usize,
        windows: Windows,
        dropout: f64,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        if heads == 0 || !channels.is_multiple_of(heads) {
            let path = vb.path();
            candle_core::bail!("`{path}`: {channels} channels cannot be split into {heads} heads")
        }
        let zero = Init::Constant(0.0);
        let linear = |to, name| {
            Linear::new(LinearOptions::new(channels, to).init(INIT).bias_init(zero), vb.pp(name))
        };
        let shape = [windows.distances(), heads];
        let table = vb.weight("relative_position_bias_table", &shape, INIT)?;
        // It follows from the size of a window, so that a file's table is not read.
        vb.indices("relative_position_index", &windows.index())?;
        Ok(Self {
            path: vb.path().to_owned(),
            heads,
            windows,
            table,
            qkv: linear(3 * channels, "qkv")?,
            proj: linear(channels, "proj")?,
            // torchvision's dropout has no name.
            dropout: Dropout::new(dropout, vb.pp("dropout")),
        })
    }

    /// `[batch, height, width, channels]` to the same shape.
    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = pass.input(&self.path, x)?;
        let cut = self.windows.of_map(&x)?;
        let qkv = self.qkv.forward(&cut.split(&x)?, pass)?;
        let bias = cast(&self.windows.bias(&self.table.tensor(pass))?, qkv.dtype())?;
        let mask = self.windows.mask(&cut, &qkv)?;
        let options = AttentionOptions::new(self.heads).bias(&bias);
        let options = mask.as_ref().map_or(options, |mask| options.mask(mask));
        let y = attention(&qkv, &options)?;
        pass.products(&self.path, products_of_attention(&y));
        let y = self.dropout.forward(&self.proj.forward(&y, pass)?, pass)?;
        pass.output(&self.path, cut.join(&y)?)
    }
}
