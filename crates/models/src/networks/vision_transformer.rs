//! Vision transformers (Dosovitskiy et al. 2020, <https://arxiv.org/abs/2010.11929>): torchvision's ViT, timm's DeiT
//! (Touvron et al. 2020, <https://arxiv.org/abs/2012.12877>), and backbones that learned without labels.
//!
//! An image is cut into patches. Each patch becomes a token, a class token is put in front, and blocks of attention
//! and an MLP work on all tokens. The class token gives the logits.
//!
//! # Backbones that learned without labels
//!
//! | name here | name in timm | file |
//! |---|---|---|
//! | `vit_small_patch14_dinov2` | `vit_small_patch14_dinov2.lvd142m` | `dinov2_vits14_pretrain.pth` (Oquab et al. 2023, <https://arxiv.org/abs/2304.07193>, Apache-2.0) |
//! | `vit_base_patch14_dinov2` | `vit_base_patch14_dinov2.lvd142m` | `dinov2_vitb14_pretrain.pth` |
//! | `vit_base_patch16_224_mae` | `vit_base_patch16_224.mae` | `mae_pretrain_vit_base.pth` (He et al. 2021, <https://arxiv.org/abs/2111.06377>, CC-BY-NC 4.0) |
//! | `vit_base_patch16_224_mocov3` | `vit_base_patch16_224`, for which timm has no such weights | `vit-b-300ep.pth.tar` (Chen, Xie and He 2021, <https://arxiv.org/abs/2104.02057>, CC-BY-NC 4.0) |
//!
//! These files hold no classifier. timm builds the networks with `num_classes = 0`, without a head. Here they have one,
//! `head`, that reads the class token behind the last norm, as timm has for another `num_classes`. It begins with
//! initial values, so load with [`Strictness::ExceptHead`](crate::weights::Strictness). MoCo v3's file has a projection
//! of three layers under the name `head`, which is left out, and two networks, of which the one under
//! `module.base_encoder.` is taken. DINOv2's mask token is left out. The position embeddings of MAE and MoCo v3 were
//! constants in the pretraining. Here they are learned, as in timm.
//!
//! # Images of another size
//!
//! A network has one position embedding for each patch, so it takes images of the size that it was built for. That may
//! be any multiple of the patch, also with sides that differ. When a file for another size is loaded, its position
//! embeddings are resampled as by timm's `resample_abs_pos_embed`: bicubic, with antialiasing. torchvision's
//! `interpolate_embeddings` and DINOv2's own code differ a little from that.

mod block;
mod names;
mod network;
mod positions;

use candle_core::Result;

use super::config::of_spec;
use super::{
    EvalPreprocessing, InputSizes, NetworkEntry, PublishedWeights, ResizeInterpolation,
    imagenet_classes, row, torchvision,
};
use crate::{ModelSpec, ParameterBuilder};

pub use names::TransformerNames;
pub use network::VisionTransformer;

type Config = VisionTransformerConfig;

pub(super) fn deit_tiny_patch16_224() -> NetworkEntry {
    deit(Config::deit_tiny_patch16_224, "a1311bcf", [0.722_02, 0.911_24])
        .summary("Touvron et al. 2020, 12 layers of 192 features, 16x16 patches")
}

pub(super) fn deit_small_patch16_224() -> NetworkEntry {
    deit(Config::deit_small_patch16_224, "cd65a155", [0.798_54, 0.949_68])
        .summary("Touvron et al. 2020, 12 layers of 384 features, 16x16 patches")
}

pub(super) fn deit_base_patch16_224() -> NetworkEntry {
    deit(Config::deit_base_patch16_224, "b5f2ef4d", [0.818_46, 0.955_94])
        .summary("Touvron et al. 2020, 12 layers of 768 features, 16x16 patches")
}

pub(super) fn vit_b_16() -> NetworkEntry {
    vit(torchvision, Config::vit_b_16)
        .summary("Dosovitskiy et al. 2020, 12 layers of 768 features, 16x16 patches")
}

pub(super) fn vit_b_32() -> NetworkEntry {
    vit(torchvision, Config::vit_b_32)
        .summary("Dosovitskiy et al. 2020, 12 layers of 768 features, 32x32 patches")
}

pub(super) fn vit_l_16() -> NetworkEntry {
    vit(torchvision, Config::vit_l_16)
        .summary("Dosovitskiy et al. 2020, 24 layers of 1024 features, 16x16 patches")
}

pub(super) fn vit_l_32() -> NetworkEntry {
    vit(torchvision, Config::vit_l_32)
        .summary("Dosovitskiy et al. 2020, 24 layers of 1024 features, 32x32 patches")
}

pub(super) fn vit_h_14() -> NetworkEntry {
    vit(torchvision, Config::vit_h_14).summary(
        "Dosovitskiy et al. 2020, 32 layers of 1280 features, 14x14 patches, 518x518 pixels",
    )
}

pub(super) fn vit_small_patch14_dinov2() -> NetworkEntry {
    backbone(Config::vit_small_patch14_dinov2, &LVD142M, "vit_small_patch14_dinov2.lvd142m")
        .summary("Oquab et al. 2023, DINOv2's ViT-S/14, a backbone without a trained head")
}

pub(super) fn vit_base_patch14_dinov2() -> NetworkEntry {
    backbone(Config::vit_base_patch14_dinov2, &LVD142M, "vit_base_patch14_dinov2.lvd142m")
        .summary("Oquab et al. 2023, DINOv2's ViT-B/14, a backbone without a trained head")
}

pub(super) fn vit_base_patch16_224_mae() -> NetworkEntry {
    backbone(Config::vit_base_patch16_224_mae, &MAE, "vit_base_patch16_224.mae")
        .summary("He et al. 2021, masked autoencoder's ViT-B/16, a backbone without a trained head")
}

pub(super) fn vit_base_patch16_224_mocov3() -> NetworkEntry {
    vit(row, Config::vit_base_patch16_224_mocov3)
        .summary("Chen, Xie and He 2021, MoCo v3's ViT-B/16, a backbone without a trained head")
}

type Build = Box<dyn Fn(&ModelSpec, ParameterBuilder) -> Result<VisionTransformer> + Send + Sync>;

/// `row` makes a row with or without torchvision's weights.
fn vit(
    row: fn(&str, Build) -> NetworkEntry,
    config: fn() -> VisionTransformerConfig,
) -> NetworkEntry {
    let form = config();
    let build: Build = Box::new(move |spec, vb| VisionTransformer::new(config().spec(spec), vb));
    row(&form.spec.architecture, build)
        .family("vit")
        .input(form.spec.input)
        .sizes(InputSizes::fixed_from(form.patch_size))
        .head(form.names.head)
        .cam_layer(&form.cam_layer())
}

/// Self-supervised weights, as timm has them on the hub.
struct SelfSupervised {
    version: &'static str,
    source: &'static str,
    /// Share of the resized image that is cut out, as timm's `crop_pct`.
    crop: f64,
}

const LVD142M: SelfSupervised = SelfSupervised {
    version: "LVD142M",
    source: "Meta AI's DINOv2 by timm, Apache-2.0",
    crop: 1.0,
};
const MAE: SelfSupervised =
    SelfSupervised { version: "MAE", source: "Meta AI's MAE by timm, CC-BY-NC 4.0", crop: 0.9 };

/// A network whose published weights have no head, from the repository `timm/NAME` of the hub. timm has none of MoCo v3.
fn backbone(
    config: fn() -> VisionTransformerConfig,
    weights: &SelfSupervised,
    name: &str,
) -> NetworkEntry {
    let spec = config().spec;
    let side = spec.input[1];
    let preprocessing = EvalPreprocessing::IMAGENET
        .sizes((side as f64 / weights.crop) as usize, side)
        .interpolation(ResizeInterpolation::Bicubic);
    // The hub names the checksum of a file itself when the file is fetched.
    let url = format!("https://huggingface.co/timm/{name}/resolve/main/model.safetensors");
    let published = PublishedWeights::new(weights.version, &spec.architecture, 0)
        .url(&url, "")
        .source(weights.source)
        .preprocessing(preprocessing);
    vit(row, config).weights(published)
}

/// The accuracies are those that `README_deit.md` of <https://github.com/facebookresearch/deit> has for `main.py --eval`,
/// whose preprocessing this is.
fn deit(
    config: fn() -> VisionTransformerConfig,
    sha256: &str,
    [accuracy, top5]: [f64; 2],
) -> NetworkEntry {
    let name = config().spec.architecture;
    let url = format!("https://dl.fbaipublicfiles.com/deit/{name}-{sha256}.pth");
    let bicubic = EvalPreprocessing::IMAGENET.interpolation(ResizeInterpolation::Bicubic);
    let weights = PublishedWeights::new("IMAGENET1K", &name, 1000)
        .url(&url, sha256)
        .source("Meta AI's DeiT, Apache-2.0")
        .accuracy(accuracy)
        .top5_accuracy(top5)
        .preprocessing(bicubic);
    vit(row, config).weights(weights).classes(imagenet_classes())
}

/// The sizes of a [`VisionTransformer`].
///
/// ```
/// use candle_vision_models::VisionTransformerConfig;
///
/// let tiny = VisionTransformerConfig::new(8, 2, 2, 32).input([3, 32, 32]).num_classes(10);
/// assert_eq!(tiny.mlp_dim, 128);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VisionTransformerConfig {
    /// Height and width of a patch in pixels.
    pub patch_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Heads of each attention.
    pub num_heads: usize,
    /// Features of a token.
    pub hidden_dim: usize,
    /// Features between the two linear layers of a block.
    pub mlp_dim: usize,
    /// What the learned factors of the branches begin with (Touvron et al. 2021, <https://arxiv.org/abs/2103.17239>).
    /// No factors if `None`, the default.
    pub layer_scale: Option<f64>,
    /// The names of the parameters, and their initial values. Default torchvision's.
    pub names: &'static TransformerNames,
    /// Probability of dropout where the spec names none: behind the position embeddings, the attention and each layer
    /// of the MLP with torchvision's names, and before the head with timm's. Default 0.
    pub dropout: f64,
    /// Probability that the last block's branches are left out in training. It rises from 0 in the first block.
    /// Default 0.
    pub stochastic_depth: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl VisionTransformerConfig {
    /// A network of `num_layers` blocks with torchvision's names, whose MLP is four times as wide as `hidden_dim`. It
    /// is called `vit`; one that is to be built again from a checkpoint needs a [`NetworkEntry`] and takes its spec
    /// from there.
    pub fn new(patch_size: usize, num_layers: usize, num_heads: usize, hidden_dim: usize) -> Self {
        Self {
            patch_size,
            num_layers,
            num_heads,
            hidden_dim,
            mlp_dim: 4 * hidden_dim,
            layer_scale: None,
            names: &TransformerNames::TORCHVISION,
            dropout: 0.0,
            stochastic_depth: 0.0,
            spec: Self::spec_of("vit", 224),
        }
    }

    /// ViT-B/16.
    pub fn vit_b_16() -> Self {
        Self::new(16, 12, 12, 768).called("vit_b_16", 224)
    }

    /// ViT-B/32.
    pub fn vit_b_32() -> Self {
        Self::new(32, 12, 12, 768).called("vit_b_32", 224)
    }

    /// ViT-L/16.
    pub fn vit_l_16() -> Self {
        Self::new(16, 24, 16, 1024).called("vit_l_16", 224)
    }

    /// ViT-L/32.
    pub fn vit_l_32() -> Self {
        Self::new(32, 24, 16, 1024).called("vit_l_32", 224)
    }

    /// ViT-H/14, for the 518x518 pixels of its first published weights.
    pub fn vit_h_14() -> Self {
        Self::new(14, 32, 16, 1280).called("vit_h_14", 518)
    }

    /// DeiT-tiny.
    pub fn deit_tiny_patch16_224() -> Self {
        Self::new(16, 12, 3, 192).timm_names().called("deit_tiny_patch16_224", 224)
    }

    /// DeiT-small.
    pub fn deit_small_patch16_224() -> Self {
        Self::new(16, 12, 6, 384).timm_names().called("deit_small_patch16_224", 224)
    }

    /// DeiT-base.
    pub fn deit_base_patch16_224() -> Self {
        Self::new(16, 12, 12, 768).timm_names().called("deit_base_patch16_224", 224)
    }

    /// DINOv2's ViT-S/14, for the 518x518 pixels of its published weights.
    pub fn vit_small_patch14_dinov2() -> Self {
        let config = Self::new(14, 12, 6, 384).timm_names().layer_scale(1e-5);
        config.called("vit_small_patch14_dinov2", 518)
    }

    /// DINOv2's ViT-B/14, for the 518x518 pixels of its published weights.
    pub fn vit_base_patch14_dinov2() -> Self {
        let config = Self::new(14, 12, 12, 768).timm_names().layer_scale(1e-5);
        config.called("vit_base_patch14_dinov2", 518)
    }

    /// The ViT-B/16 of the masked autoencoder.
    pub fn vit_base_patch16_224_mae() -> Self {
        Self::new(16, 12, 12, 768).timm_names().called("vit_base_patch16_224_mae", 224)
    }

    /// The ViT-B/16 of MoCo v3.
    pub fn vit_base_patch16_224_mocov3() -> Self {
        Self::new(16, 12, 12, 768).timm_names().called("vit_base_patch16_224_mocov3", 224)
    }

    /// Takes timm's names and initial values.
    pub fn timm_names(mut self) -> Self {
        self.names = &TransformerNames::TIMM;
        self
    }

    /// Gives each branch learned factors that begin with `value`.
    pub fn layer_scale(mut self, value: f64) -> Self {
        self.layer_scale = Some(value);
        self
    }

    /// Sets the probability of dropout, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Sets the probability that the last block's branches are left out in training, a fraction in `0.0..1.0`.
    pub fn stochastic_depth(mut self, probability: f64) -> Self {
        self.stochastic_depth = probability;
        self
    }

    fn called(mut self, name: &str, side: usize) -> Self {
        self.spec = Self::spec_of(name, side);
        self
    }

    /// The table of networks is made of these configs, so it cannot be asked for the published size.
    fn spec_of(name: &str, side: usize) -> ModelSpec {
        ModelSpec::of(name, 1000, [3, side, side])
    }

    /// The first norm of the last block, as pytorch-grad-cam recommends.
    fn cam_layer(&self) -> String {
        let last = self.num_layers.saturating_sub(1);
        format!("{}.{}", self.names.block(last), self.names.norms[0])
    }
}

of_spec!(VisionTransformer, VisionTransformerConfig);
