//! What torchvision and timm call the parts of a vision transformer.

use crate::Init;
use crate::layers::{AttentionNames, MlpBlockOptions};

/// The names of a [`VisionTransformer`](super::VisionTransformer)'s parameters and layers: those of torchvision or
/// those of timm.
#[derive(Debug, PartialEq)]
pub struct TransformerNames {
    pub(super) class_token: &'static str,
    pub(super) positions: &'static str,
    pub(super) patches: &'static str,
    /// Whether the position embeddings come before the patches in the order of the parameters.
    pub(super) positions_first: bool,
    /// What holds the positions, the blocks and the last norm, if it has a name.
    pub(super) encoder: Option<&'static str>,
    pub(super) embedding_dropout: &'static str,
    pub(super) blocks: &'static str,
    /// What stands before the number of a block.
    block_prefix: &'static str,
    pub(super) norms: [&'static str; 2],
    pub(super) attention: &'static str,
    pub(super) attention_names: AttentionNames,
    pub(super) norm: &'static str,
    pub(super) head: &'static str,
    /// Where dropout lies: in the embedding and the blocks, or before the head.
    pub(super) dropout_in_blocks: bool,
}

impl TransformerNames {
    /// torchvision's: `class_token`, `conv_proj`, `encoder.layers.encoder_layer_0.self_attention`, `heads.head`.
    pub const TORCHVISION: Self = Self {
        class_token: "class_token",
        positions: "encoder.pos_embedding",
        patches: "conv_proj",
        positions_first: false,
        encoder: Some("encoder"),
        embedding_dropout: "encoder.dropout",
        blocks: "encoder.layers",
        block_prefix: "encoder_layer_",
        norms: ["ln_1", "ln_2"],
        attention: "self_attention",
        attention_names: AttentionNames::Torch,
        norm: "encoder.ln",
        head: "heads.head",
        dropout_in_blocks: true,
    };

    /// timm's: `cls_token`, `pos_embed`, `patch_embed.proj`, `blocks.0.attn`, `head`.
    pub const TIMM: Self = Self {
        class_token: "cls_token",
        positions: "pos_embed",
        patches: "patch_embed.proj",
        positions_first: true,
        encoder: None,
        embedding_dropout: "pos_drop",
        blocks: "blocks",
        block_prefix: "",
        norms: ["norm1", "norm2"],
        attention: "attn",
        attention_names: AttentionNames::Timm,
        norm: "norm",
        head: "head",
        dropout_in_blocks: false,
    };

    /// The path of block `i`.
    pub(super) fn block(&self, i: usize) -> String {
        format!("{}.{}{i}", self.blocks, self.block_prefix)
    }

    pub(super) fn is_timm(&self) -> bool {
        self.attention_names == AttentionNames::Timm
    }

    /// What torchvision and timm let the linear layers of a block begin with.
    pub(super) fn init(&self) -> Option<Init> {
        self.is_timm().then_some(Init::truncated_normal(0.02))
    }

    pub(super) fn mlp(&self, features: usize, hidden_features: usize) -> MlpBlockOptions {
        let options = MlpBlockOptions::new(features, hidden_features);
        match self.init() {
            Some(init) => options.timm_names().init(init, Init::Constant(0.0)),
            None => options,
        }
    }
}

/// timm's name of a parameter that torchvision calls so.
pub(super) fn timm_name(path: &[&str]) -> Option<String> {
    Some(match path {
        ["class_token"] => "cls_token".to_owned(),
        ["encoder", "pos_embedding"] => "pos_embed".to_owned(),
        ["conv_proj", field] => format!("patch_embed.proj.{field}"),
        ["encoder", "ln", field] => format!("norm.{field}"),
        ["heads", "head", field] => format!("head.{field}"),
        ["encoder", "layers", layer, inner @ ..] => {
            let inner = match inner {
                ["ln_1", field] => format!("norm1.{field}"),
                ["ln_2", field] => format!("norm2.{field}"),
                ["self_attention", "in_proj_weight"] => "attn.qkv.weight".to_owned(),
                ["self_attention", "in_proj_bias"] => "attn.qkv.bias".to_owned(),
                ["self_attention", "out_proj", field] => format!("attn.proj.{field}"),
                ["mlp", "0", field] => format!("mlp.fc1.{field}"),
                ["mlp", "3", field] => format!("mlp.fc2.{field}"),
                _ => return None,
            };
            format!("blocks.{}.{inner}", layer.strip_prefix("encoder_layer_")?)
        }
        _ => return None,
    })
}

/// The present name of a tensor in torchvision's published files, which are older than its `MLP`: there the linear
/// layers of a block are called `mlp.linear_1` and `mlp.linear_2`.
pub(super) fn present_name(name: &str) -> Option<String> {
    let (block, field) = name.rsplit_once(".mlp.linear_")?;
    let (number, field) = field.split_once('.')?;
    let place = match number {
        "1" => 0,
        "2" => 3,
        _ => return None,
    };
    Some(format!("{block}.mlp.{place}.{field}"))
}

#[cfg(test)]
mod tests {
    use super::present_name;

    #[test]
    fn linear_layers_have_the_places_of_torchvisions_mlp() {
        let of = |name: &str| present_name(&format!("encoder.layers.encoder_layer_3.{name}"));
        let first = of("mlp.linear_1.weight");
        assert_eq!(first.as_deref(), Some("encoder.layers.encoder_layer_3.mlp.0.weight"));
        let second = of("mlp.linear_2.bias");
        assert_eq!(second.as_deref(), Some("encoder.layers.encoder_layer_3.mlp.3.bias"));
        assert_eq!(of("mlp.0.weight"), None);
        assert_eq!(present_name("encoder.ln.weight"), None);
    }
}
