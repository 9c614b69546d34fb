//! The network of a vision transformer.

use candle_core::{Result, Tensor, bail};
use candle_vision_ops::{add, cat, mul, reshape, slice};

use super::VisionTransformerConfig;
use super::block::{Block, EPS};
use super::names::{TransformerNames, present_name, timm_name};
use super::positions::resampled;
use crate::layers::{
    Conv2d, Conv2dOptions, Dropout, LayerNorm, LayerNormOptions, Linear, LinearOptions,
    images_to_features, layer_at,
};
use crate::networks::check;
use crate::{
    Init, Model, ModelSpec, Parameter, ParameterBuilder, Parameters, Pass, TimmNames, TokenGrid,
};

/// Where hooks see the class token that the head reads. torchvision and timm have no layer for that.
const POOL: &str = "pool";

/// A vision transformer with torchvision's or timm's names (Dosovitskiy et al. 2020,
/// <https://arxiv.org/abs/2010.11929>).
///
/// It takes images of the size that it was built for. [`Model::forward_features`] gives the tokens behind the last
/// norm, the class token first. The head reads the class token, which hooks see as the output of `pool`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{Model, Parameters, Pass, VisionTransformer, VisionTransformerConfig};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let config = VisionTransformerConfig::new(8, 2, 2, 32).input([3, 32, 48]).num_classes(10);
/// let model = VisionTransformer::new(config, vb)?;
/// let images = Tensor::zeros((1, 3, 32, 48), DType::F32, &Device::Cpu)?;
/// let tokens = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(tokens.dims(), [1, 1 + 4 * 6, 32]);
/// let maps = model.token_grid().unwrap().to_maps(&tokens, [32, 48])?;
/// assert_eq!(maps.dims(), [1, 32, 4, 6]);
/// assert_eq!(model.forward_head(&tokens, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct VisionTransformer {
    spec: ModelSpec,
    parameters: Parameters,
    names: &'static TransformerNames,
    patch_size: usize,
    cam_layer: String,
    class_token: Parameter,
    patches: Conv2d,
    positions: Parameter,
    embedding_dropout: Dropout,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head_dropout: Option<Dropout>,
    head: Linear,
}

impl VisionTransformer {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, the image cannot be cut into patches, the features cannot be split into the heads, or
    /// a name is taken.
    pub fn new(config: VisionTransformerConfig, vb: ParameterBuilder) -> Result<Self> {
        let VisionTransformerConfig { patch_size, hidden_dim, names, .. } = config;
        let spec = &config.spec;
        check(spec)?;
        let [channels, height, width] = spec.input;
        if patch_size == 0 || [height, width].iter().any(|side| !side.is_multiple_of(patch_size)) {
            bail!(
                "`{}` cuts images into patches of {patch_size}x{patch_size} pixels: the image's sides are multiples \
                 of {patch_size}, got {height}x{width}",
                spec.architecture
            )
        }
        let tokens = 1 + height / patch_size * (width / patch_size);
        let (zero, small) = (Init::Constant(0.0), Init::Normal { mean: 0.0, std: 1e-6 });
        let of_class_token = if names.is_timm() { small } else { zero };
        let class_token = vb.weight(names.class_token, &[1, 1, hidden_dim], of_class_token)?;
        let of_positions = match names.is_timm() {
            true => Init::truncated_normal(0.02),
            false => Init::Normal { mean: 0.0, std: 0.02 },
        };
        let positions = || vb.weight(names.positions, &[1, tokens, hidden_dim], of_positions);
        let mut options = Conv2dOptions::new(channels, hidden_dim, patch_size).stride(patch_size);
        if !names.is_timm() {
            let fan_in = channels * patch_size * patch_size;
            options = options.init(Init::truncated_normal((1.0 / fan_in as f64).sqrt()));
            options = options.bias_init(zero);
        }
        let patches = || Conv2d::new(options, vb.pp(names.patches));
        let (patches, positions) = if names.positions_first {
            let positions = positions()?;
            (patches()?, positions)
        } else {
            (patches()?, positions()?)
        };
        let dropout = spec.dropout.unwrap_or(config.dropout);
        let in_blocks = if names.dropout_in_blocks { dropout } else { 0.0 };
        let block = |i: usize| Block::new(&config, i, in_blocks, vb.pp(names.block(i)));
        let blocks = (0..config.num_layers).map(block).collect::<Result<_>>()?;
        let norm = LayerNorm::new(LayerNormOptions::new(hidden_dim).eps(EPS), vb.pp(names.norm))?;
        let head = LinearOptions::new(hidden_dim, spec.num_classes).bias_init(zero);
        let head = Linear::new(head.init(names.init().unwrap_or(zero)), vb.pp(names.head))?;
        Ok(Self {
            parameters: vb.parameters(),
            names,
            patch_size,
            cam_layer: config.cam_layer(),
            class_token,
            patches,
            positions,
            embedding_dropout: Dropout::new(in_blocks, vb.pp(names.embedding_dropout)),
            blocks,
            norm,
            head_dropout: (!names.dropout_in_blocks)
                .then(|| Dropout::new(dropout, vb.pp("head_drop"))),
            head,
            spec: config.spec,
        })
    }

    /// The class token and a token for each patch.
    fn tokens(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [channels, height, width] = self.spec.input;
        let x = images_to_features(images, channels)?;
        let (batch, found_height, found_width, _) = x.dims4()?;
        if [found_height, found_width] != [height, width] {
            bail!(
                "this `{}` was built for images of {height}x{width} pixels, got {found_height}x{found_width}; build it \
                 for that size, and load the weights into it",
                self.spec.architecture
            )
        }
        let x = self.patches.forward(&x, pass)?;
        let (_, rows, columns, features) = x.dims4()?;
        let patches = reshape(&x, (batch, rows * columns, features))?;
        cat(&[&for_each_image(&self.class_token, batch, pass)?, &patches], 1)
    }

    fn encode(&self, tokens: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = add(tokens, &for_each_image(&self.positions, tokens.dim(0)?, pass)?)?;
        let x = self.embedding_dropout.forward(&x, pass)?;
        let mut x = pass.input(self.names.blocks, &x)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        let x = pass.output(self.names.blocks, x)?;
        self.norm.forward(&x, pass)
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let tokens = self.tokens(images, pass)?;
        let Some(encoder) = self.names.encoder else {
            return self.encode(&tokens, pass);
        };
        let tokens = pass.input(encoder, &tokens)?;
        let x = self.encode(&tokens, pass)?;
        pass.output(encoder, x)
    }

    fn classify(&self, tokens: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (batch, _, features) = tokens.dims3()?;
        let first = |x: &Tensor| reshape(&slice(x, 1, 0..1)?, (batch, features));
        let mut x = layer_at(POOL, tokens, pass, first)?;
        if let Some(dropout) = &self.head_dropout {
            x = dropout.forward(&x, pass)?;
        }
        self.head.logits(&x, pass)
    }
}

/// A parameter `[1, tokens, features]` once for each image.
fn for_each_image(parameter: &Parameter, batch: usize, pass: &Pass<'_>) -> Result<Tensor> {
    let x = repeated(&parameter.in_product(pass)?, batch)?;
    let (_, _, tokens, features) = x.dims4()?;
    reshape(&x, (batch, tokens, features))
}

impl Model for VisionTransformer {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.classify(&self.features(images, pass)?, pass)
    }

    fn forward_features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.features(images, pass)
    }

    fn forward_head(&self, features: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.classify(features, pass)
    }

    fn head(&self) -> &str {
        self.names.head
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(&self.cam_layer)
    }

    fn token_grid(&self) -> Option<TokenGrid> {
        Some(TokenGrid::new(1, [self.patch_size; 2]))
    }

    /// Position embeddings of another image size are resampled. A file with as many positions as the network has is
    /// taken as it is: it may be a checkpoint of this network, whose image need not be square.
    fn adapt_weight(&self, path: &str, tensor: &Tensor) -> Result<Option<Tensor>> {
        if path != self.names.positions || tensor.dims() == self.positions.var().dims() {
            return Ok(None);
        }
        let [_, height, width] = self.spec.input;
        resampled(tensor, [height / self.patch_size, width / self.patch_size])
    }

    fn rename_weight(&self, name: &str) -> Option<String> {
        if self.names.is_timm() { None } else { present_name(name) }
    }

    fn leaves_out_weight(&self, name: &str) -> bool {
        name == "mask_token"
    }

    fn timm_names(&self) -> Option<TimmNames> {
        let is_torchvision = !self.names.is_timm();
        is_torchvision.then(|| TimmNames::of(&self.parameters, |path, _| timm_name(path)))
    }
}

/// `x` once for each of `count` rows of a new first axis. [`add`] does not broadcast.
fn repeated(x: &Tensor, count: usize) -> Result<Tensor> {
    let mut shape = vec![1; x.rank() + 1];
    shape[0] = count;
    mul(x, &Tensor::ones(shape, x.dtype(), x.device())?)
}
