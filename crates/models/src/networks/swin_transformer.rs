//! Swin transformers (Liu et al. 2021, <https://arxiv.org/abs/2103.14030>), torchvision's form.
//!
//! Attention works within windows of 7x7 tokens. Every second block shifts the windows by half their size, so that
//! neighbours meet. Between two stages, four neighbouring tokens become one that is twice as wide. Feature maps stay
//! `[batch, height, width, channels]`, and hooks see `[batch, channels, height, width]`, so class activation maps need
//! no token grid. (Hooks on torchvision's layers see the channels last.)

mod attention;
mod stage;
mod window;

use candle_core::{Result, Tensor, bail};

use super::config::{backbone_and_head, of_spec};
use super::{InputSizes, NetworkEntry, check, torchvision};
use crate::layers::{GlobalAvgPool, LayerNorm, Linear, LinearOptions, images_to_features};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass, TimmNames};
use stage::{PatchMerging, Stage, Stem};
use window::Windows;

const HEAD: &str = "head";

/// What every linear layer begins with; the biases begin with zeros.
const INIT: Init = Init::TruncatedNormal { mean: 0.0, std: 0.02, low: -2.0, high: 2.0 };

pub(super) fn swin_t() -> NetworkEntry {
    swin(SwinTransformerConfig::swin_t).summary("Liu et al. 2021, 12 blocks, 96 channels")
}

pub(super) fn swin_s() -> NetworkEntry {
    swin(SwinTransformerConfig::swin_s).summary("Liu et al. 2021, 24 blocks, 96 channels")
}

pub(super) fn swin_b() -> NetworkEntry {
    swin(SwinTransformerConfig::swin_b).summary("Liu et al. 2021, 24 blocks, 128 channels")
}

fn swin(config: fn() -> SwinTransformerConfig) -> NetworkEntry {
    let form = config();
    let build = move |spec: &ModelSpec, vb| SwinTransformer::new(config().spec(spec), vb);
    torchvision(&form.spec.architecture, build)
        .family("swin")
        .sizes(InputSizes::from(form.patch_size))
        .head(HEAD)
        .cam_layer(&form.cam_layer())
}

/// The sizes of a [`SwinTransformer`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SwinTransformerConfig {
    /// Height and width of a patch in pixels. Default 4.
    pub patch_size: usize,
    /// Channels of the first stage; each further stage has twice as many.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Heads of the attention of each stage.
    pub num_heads: Vec<usize>,
    /// Height and width of a window in tokens. Default 7.
    pub window_size: usize,
    /// How many times wider than a token the middle of the MLP is. Default 4.
    pub mlp_ratio: usize,
    /// Probability of dropout behind the attention and each layer of the MLP where the spec names none. Default 0.
    pub dropout: f64,
    /// Probability that the last block's branches are left out in training. It rises from 0 in the first block.
    pub stochastic_depth: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes of 224x224 pixels.
    pub spec: ModelSpec,
}

impl SwinTransformerConfig {
    /// Stages of `depths` blocks with `num_heads` heads, without stochastic depth. The network is called `swin`; one
    /// that is to be built again from a checkpoint needs a [`NetworkEntry`] and takes its spec from there.
    pub fn new(
        embed_dim: usize,
        depths: impl Into<Vec<usize>>,
        num_heads: impl Into<Vec<usize>>,
    ) -> Self {
        Self {
            patch_size: 4,
            embed_dim,
            depths: depths.into(),
            num_heads: num_heads.into(),
            window_size: 7,
            mlp_ratio: 4,
            dropout: 0.0,
            stochastic_depth: 0.0,
            spec: ModelSpec::of("swin", 1000, [3, 224, 224]),
        }
    }

    /// Swin-T.
    pub fn swin_t() -> Self {
        Self::new(96, [2, 2, 6, 2], [3, 6, 12, 24]).stochastic_depth(0.2).called("swin_t")
    }

    /// Swin-S.
    pub fn swin_s() -> Self {
        Self::new(96, [2, 2, 18, 2], [3, 6, 12, 24]).stochastic_depth(0.3).called("swin_s")
    }

    /// Swin-B.
    pub fn swin_b() -> Self {
        Self::new(128, [2, 2, 18, 2], [4, 8, 16, 32]).stochastic_depth(0.5).called("swin_b")
    }

    /// Sets height and width of a window in tokens.
    pub fn window_size(mut self, window_size: usize) -> Self {
        self.window_size = window_size;
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

    fn called(mut self, name: &str) -> Self {
        self.spec.architecture = name.to_owned();
        self
    }

    /// The first norm of the last block, as pytorch-grad-cam recommends.
    fn cam_layer(&self) -> String {
        let (stages, blocks) = (self.depths.len(), self.depths.last().copied().unwrap_or(1));
        format!("features.{}.{}.norm1", (2 * stages).saturating_sub(1), blocks.saturating_sub(1))
    }
}

of_spec!(SwinTransformer, SwinTransformerConfig);

/// torchvision's Swin transformer: `features.0..7`, `norm` and `head`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{Model, Parameters, Pass, SwinTransformer, SwinTransformerConfig};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let config = SwinTransformerConfig::new(16, [2, 2], [2, 4]).window_size(4).num_classes(10);
/// let model = SwinTransformer::new(config, vb)?;
/// let images = Tensor::zeros((1, 3, 32, 48), DType::F32, &Device::Cpu)?;
/// let maps = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(maps.dims(), [1, 32, 4, 6]);
/// assert_eq!(model.forward_head(&maps, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct SwinTransformer {
    spec: ModelSpec,
    parameters: Parameters,
    cam_layer: String,
    stem: Stem,
    stages: Vec<Stage>,
    norm: LayerNorm,
    avgpool: GlobalAvgPool,
    head: Linear,
}

impl SwinTransformer {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, the stages have not as many depths as heads, channels cannot be split into the heads,
    /// or a name is taken.
    pub fn new(config: SwinTransformerConfig, vb: ParameterBuilder) -> Result<Self> {
        check(&config.spec)?;
        let SwinTransformerConfig { depths, num_heads, embed_dim, window_size, .. } = &config;
        if depths.len() != num_heads.len() || depths.contains(&0) || depths.is_empty() {
            bail!(
                "a Swin transformer has blocks and heads in each stage, got {depths:?} and {num_heads:?}"
            )
        }
        let features = vb.pp("features");
        let stem = Stem::new(&config, features.pp(0))?;
        let windows = Windows::new(*window_size, &vb)?;
        let mut stages = Vec::new();
        for i in 0..depths.len() {
            let merging = i
                .checked_sub(1)
                .map(|before| PatchMerging::new(embed_dim << before, features.pp(2 * i)));
            let path = features.pp(2 * i + 1);
            stages.push(Stage::new(&config, i, merging.transpose()?, &windows, path)?);
        }
        let channels = embed_dim << (depths.len() - 1);
        let head = LinearOptions::new(channels, config.spec.num_classes).init(INIT);
        Ok(Self {
            parameters: vb.parameters(),
            cam_layer: config.cam_layer(),
            stem,
            stages,
            norm: LayerNorm::new(channels, vb.pp("norm"))?,
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            head: Linear::new(head.bias_init(Init::Constant(0.0)), vb.pp(HEAD))?,
            spec: config.spec,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for stage in &self.stages {
            x = stage.forward(&x, pass)?;
        }
        self.norm.forward(&x, pass)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.head.logits(&self.avgpool.forward(x, pass)?, pass)
    }
}

/// timm's name of a parameter.
fn timm_name(path: &[&str]) -> Option<String> {
    Some(match path {
        ["head", field] => format!("head.fc.{field}"),
        ["features", "0", "0", field] => format!("patch_embed.proj.{field}"),
        ["features", "0", "2", field] => format!("patch_embed.norm.{field}"),
        ["features", place, rest @ ..] => {
            // Stages and what lies between them take turns.
            let place: usize = place.parse().ok()?;
            let (stage, next) = ((place - 1) / 2, place / 2);
            match rest {
                [layer, field] => format!("layers.{next}.downsample.{layer}.{field}"),
                [block, "mlp", "0", field] => {
                    format!("layers.{stage}.blocks.{block}.mlp.fc1.{field}")
                }
                [block, "mlp", "3", field] => {
                    format!("layers.{stage}.blocks.{block}.mlp.fc2.{field}")
                }
                [block, inner @ ..] => format!("layers.{stage}.blocks.{block}.{}", inner.join(".")),
                [] => return None,
            }
        }
        _ => return None,
    })
}

/// What the authors' files and those of timm before 0.9 call a parameter: a stage merges its patches at its end, where
/// today's timm merges them at the start of the next one.
fn older_timm_name(name: &str) -> String {
    let segments: Vec<&str> = name.split('.').collect();
    match segments.as_slice() {
        ["head", "fc", field] => format!("head.{field}"),
        ["layers", stage, "downsample", rest @ ..] => match stage.parse::<usize>() {
            Ok(stage) => {
                format!("layers.{}.downsample.{}", stage.saturating_sub(1), rest.join("."))
            }
            Err(_) => name.to_owned(),
        },
        _ => name.to_owned(),
    }
}

impl Model for SwinTransformer {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(&self.cam_layer)
    }

    fn timm_names(&self) -> Option<TimmNames> {
        let names = TimmNames::of(&self.parameters, |path, _| timm_name(path));
        let names = names.computed(".relative_position_index");
        Some(names.older(older_timm_name, &[".relative_position_index", ".attn_mask"]))
    }
}
