//! RegNetX and RegNetY (Radosavovic et al. 2020, <https://arxiv.org/abs/2003.13678>), torchvision's form.

mod config;

use candle_core::{Result, Tensor, bail};
use candle_vision_ops::Activation;

pub use self::config::{RegNetConfig, RegNetStage};
use super::config::backbone_and_head;
use super::{NetworkEntry, check, torchvision};
use crate::layers::{
    ConvNorm, ConvNormOptions, GlobalAvgPool, Linear, LinearOptions, SqueezeExcitation,
    SqueezeExcitationOptions, images_to_features,
};
use crate::{Init, Model, ModelSpec, ParameterBuilder, Parameters, Pass, TimmNames};

const HEAD: &str = "fc";

pub(super) fn regnet_y_400mf() -> NetworkEntry {
    regnet("regnet_y_400mf", RegNetConfig::y_400mf)
        .summary("Radosavovic et al. 2020, RegNetY, 400 million multiply-adds")
}

pub(super) fn regnet_y_800mf() -> NetworkEntry {
    regnet("regnet_y_800mf", RegNetConfig::y_800mf)
        .summary("Radosavovic et al. 2020, RegNetY, 800 million multiply-adds")
}

pub(super) fn regnet_y_1_6gf() -> NetworkEntry {
    regnet("regnet_y_1_6gf", RegNetConfig::y_1_6gf)
        .summary("Radosavovic et al. 2020, RegNetY, 1.6 billion multiply-adds")
}

pub(super) fn regnet_y_3_2gf() -> NetworkEntry {
    regnet("regnet_y_3_2gf", RegNetConfig::y_3_2gf)
        .summary("Radosavovic et al. 2020, RegNetY, 3.2 billion multiply-adds")
}

pub(super) fn regnet_y_8gf() -> NetworkEntry {
    regnet("regnet_y_8gf", RegNetConfig::y_8gf)
        .summary("Radosavovic et al. 2020, RegNetY, 8 billion multiply-adds")
}

pub(super) fn regnet_y_16gf() -> NetworkEntry {
    regnet("regnet_y_16gf", RegNetConfig::y_16gf)
        .summary("Radosavovic et al. 2020, RegNetY, 16 billion multiply-adds")
}

pub(super) fn regnet_y_32gf() -> NetworkEntry {
    regnet("regnet_y_32gf", RegNetConfig::y_32gf)
        .summary("Radosavovic et al. 2020, RegNetY, 32 billion multiply-adds")
}

pub(super) fn regnet_y_128gf() -> NetworkEntry {
    regnet("regnet_y_128gf", RegNetConfig::y_128gf)
        .summary("Radosavovic et al. 2020, RegNetY, 128 billion multiply-adds")
        .input([3, 384, 384])
}

pub(super) fn regnet_x_400mf() -> NetworkEntry {
    regnet("regnet_x_400mf", RegNetConfig::x_400mf)
        .summary("Radosavovic et al. 2020, RegNetX, 400 million multiply-adds")
}

pub(super) fn regnet_x_800mf() -> NetworkEntry {
    regnet("regnet_x_800mf", RegNetConfig::x_800mf)
        .summary("Radosavovic et al. 2020, RegNetX, 800 million multiply-adds")
}

pub(super) fn regnet_x_1_6gf() -> NetworkEntry {
    regnet("regnet_x_1_6gf", RegNetConfig::x_1_6gf)
        .summary("Radosavovic et al. 2020, RegNetX, 1.6 billion multiply-adds")
}

pub(super) fn regnet_x_3_2gf() -> NetworkEntry {
    regnet("regnet_x_3_2gf", RegNetConfig::x_3_2gf)
        .summary("Radosavovic et al. 2020, RegNetX, 3.2 billion multiply-adds")
}

pub(super) fn regnet_x_8gf() -> NetworkEntry {
    regnet("regnet_x_8gf", RegNetConfig::x_8gf)
        .summary("Radosavovic et al. 2020, RegNetX, 8 billion multiply-adds")
}

pub(super) fn regnet_x_16gf() -> NetworkEntry {
    regnet("regnet_x_16gf", RegNetConfig::x_16gf)
        .summary("Radosavovic et al. 2020, RegNetX, 16 billion multiply-adds")
}

pub(super) fn regnet_x_32gf() -> NetworkEntry {
    regnet("regnet_x_32gf", RegNetConfig::x_32gf)
        .summary("Radosavovic et al. 2020, RegNetX, 32 billion multiply-adds")
}

fn regnet(name: &str, config: fn() -> RegNetConfig) -> NetworkEntry {
    torchvision(name, move |spec, vb| RegNet::new(config().spec(spec), vb))
        .family("regnet")
        .head(HEAD)
        .cam_layer("trunk_output.block4")
}

/// torchvision's RegNets: `stem`, `trunk_output.block1..`, `fc`.
///
/// ```
/// use candle_vision_models::candle_core::{DType, Device, Tensor};
/// use candle_vision_models::{Model, Parameters, Pass, RegNet, RegNetConfig};
///
/// let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
/// let config = RegNetConfig::new(4, 16, 16.0, 2.0, 8).squeeze_excitation(0.25).num_classes(10);
/// assert_eq!(config.stages().len(), 3);
/// let model = RegNet::new(config, vb)?;
/// let images = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// let features = model.forward_features(&images, &mut Pass::eval())?;
/// assert_eq!(features.dims(), [1, 64, 2, 2]);
/// assert_eq!(model.forward_head(&features, &mut Pass::eval())?.dims(), [1, 10]);
/// # candle_vision_models::candle_core::Result::Ok(())
/// ```
pub struct RegNet {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    stages: Vec<Stage>,
    avgpool: GlobalAvgPool,
    fc: Linear,
    cam_layer: String,
}

/// Blocks of one width. The first one halves the map.
struct Stage {
    path: String,
    blocks: Vec<Block>,
}

impl Stage {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = pass.input(&self.path, x)?;
        for block in &self.blocks {
            x = block.forward(&x, pass)?;
        }
        pass.output(&self.path, x)
    }
}

/// A 1x1, a grouped 3x3 and a 1x1 convolution of one width (`f.a`, `f.b`, `f.c`), and a shortcut around them.
struct Block {
    path: String,
    project: Option<ConvNorm>,
    a: ConvNorm,
    b: ConvNorm,
    squeeze_excitation: Option<SqueezeExcitation>,
    c: ConvNorm,
}

impl Block {
    fn new(
        from: usize,
        stage: RegNetStage,
        stride: usize,
        squeeze_excitation: Option<f64>,
        vb: ParameterBuilder,
    ) -> Result<Self> {
        let RegNetStage { channels, group_width, .. } = stage;
        let conv = ConvNormOptions::new;
        let linear = |options: ConvNormOptions| options.activation(Activation::Identity);
        let project = (from != channels || stride != 1)
            .then(|| ConvNorm::new(linear(conv(from, channels, 1).stride(stride)), vb.pp("proj")));
        let project = project.transpose()?;
        let f = vb.pp("f");
        let a = ConvNorm::new(conv(from, channels, 1), f.pp("a"))?;
        let b = conv(channels, channels, 3).stride(stride).groups(channels / group_width);
        let b = ConvNorm::new(b, f.pp("b"))?;
        let squeeze_excitation = squeeze_excitation.map(|ratio| {
            let squeezed = (ratio * from as f64).round_ties_even() as usize;
            let options = SqueezeExcitationOptions::new(channels, squeezed).fan_out_init();
            SqueezeExcitation::new(options, f.pp("se"))
        });
        let squeeze_excitation = squeeze_excitation.transpose()?;
        let c = ConvNorm::new(linear(conv(channels, channels, 1)), f.pp("c"))?;
        let c = c.activated(Activation::Relu, vb.pp("activation"));
        Ok(Self { path: vb.path().to_owned(), project, a, b, squeeze_excitation, c })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = &pass.input(&self.path, x)?;
        let shortcut = match &self.project {
            Some(project) => project.forward(x, pass)?,
            None => x.clone(),
        };
        let y = self.a.forward(x, pass)?;
        let mut y = self.b.forward(&y, pass)?;
        if let Some(squeeze_excitation) = &self.squeeze_excitation {
            y = squeeze_excitation.forward(&y, pass)?;
        }
        let y = self.c.forward_residual(&y, &shortcut, pass)?;
        pass.output(&self.path, y)
    }
}

impl RegNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes, the parameters give no widths, or a name is taken.
    pub fn new(config: RegNetConfig, vb: ParameterBuilder) -> Result<Self> {
        check(&config.spec)?;
        check_widths(&config)?;
        let stem = ConvNormOptions::new(config.spec.input[0], config.stem_channels, 3).stride(2);
        let stem = ConvNorm::new(stem, vb.pp("stem"))?;
        let trunk = vb.pp("trunk_output");
        let (mut stages, mut from) = (Vec::new(), config.stem_channels);
        for (i, stage) in config.stages().into_iter().enumerate() {
            let vb = trunk.pp(format!("block{}", i + 1));
            let mut blocks = Vec::new();
            for j in 0..stage.layers {
                let stride = if j == 0 { 2 } else { 1 };
                let vb = vb.pp(format!("block{}-{j}", i + 1));
                blocks.push(Block::new(from, stage, stride, config.squeeze_excitation, vb)?);
                from = stage.channels;
            }
            stages.push(Stage { path: vb.path().to_owned(), blocks });
        }
        let cam_layer = stages.last().map(|stage| stage.path.clone()).unwrap_or_default();
        let fc = LinearOptions::new(from, config.spec.num_classes);
        let fc = fc.init(Init::Normal { mean: 0.0, std: 0.01 }).bias_init(Init::Constant(0.0));
        Ok(Self {
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            fc: Linear::new(fc, vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec: config.spec,
            stem,
            stages,
            cam_layer,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for stage in &self.stages {
            x = stage.forward(&x, pass)?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.fc.logits(&self.avgpool.forward(x, pass)?, pass)
    }
}

fn check_widths(config: &RegNetConfig) -> Result<()> {
    let RegNetConfig { depth, initial_width, slope, ratio, group_width, .. } = *config;
    let ranges = slope >= 0.0 && slope.is_finite() && ratio > 1.0 && ratio.is_finite();
    let widths = initial_width > 0 && initial_width.is_multiple_of(8) && group_width > 0;
    if depth > 0 && ranges && widths {
        return Ok(());
    }
    bail!(
        "a RegNet needs a block, an initial width that is a multiple of 8, a slope from 0, a ratio above 1 and \
         channels in a group, got {depth}, {initial_width}, {slope}, {ratio} and {group_width}"
    )
}

/// timm's name of a parameter.
fn timm_name(path: &[&str]) -> Option<String> {
    let layer = |place: &str| if place == "0" { "conv" } else { "bn" };
    Some(match path {
        ["fc", field] => format!("head.fc.{field}"),
        ["stem", place, field] => format!("stem.{}.{field}", layer(place)),
        ["trunk_output", _, block, inner @ ..] => {
            let (stage, number) = block.strip_prefix("block")?.split_once('-')?;
            let inner = match inner {
                ["proj", place, field] => format!("downsample.{}.{field}", layer(place)),
                ["f", "se", fc, field] => format!("se.{fc}.{field}"),
                ["f", "a", place, field] => format!("conv1.{}.{field}", layer(place)),
                ["f", "b", place, field] => format!("conv2.{}.{field}", layer(place)),
                ["f", "c", place, field] => format!("conv3.{}.{field}", layer(place)),
                _ => return None,
            };
            format!("s{stage}.b{}.{inner}", number.parse::<usize>().ok()? + 1)
        }
        _ => return None,
    })
}

impl Model for RegNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(&self.cam_layer)
    }

    fn timm_names(&self) -> Option<TimmNames> {
        Some(TimmNames::of(&self.parameters, |path, _| timm_name(path)))
    }
}
