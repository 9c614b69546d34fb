//! The networks of He et al. 2015 (<https://arxiv.org/abs/1512.03385>, section 4.2) for CIFAR-10: residual networks, and
//! plain ones of the same layers without shortcuts, which show what shortcuts are for.

use candle_core::{Result, Tensor};
use candle_vision_ops::{AvgPool2dConfig, avg_pool2d, cat};

use super::config::{backbone_and_head, of_spec};
use super::{InputSizes, NetworkEntry, check, row};
use crate::layers::{
    ConvNorm, ConvNormOptions, GlobalAvgPool, Linear, images_to_features, layer_at,
};
use crate::{Model, ModelSpec, ParameterBuilder, Parameters, Pass};

const HEAD: &str = "fc";
const CAM_LAYER: &str = "layer3";

pub(super) fn resnet20_cifar() -> NetworkEntry {
    residual(
        "resnet20_cifar",
        3,
        "He et al. 2015, 20 layers for 32x32 images, shortcuts without parameters",
    )
}

pub(super) fn resnet32_cifar() -> NetworkEntry {
    residual("resnet32_cifar", 5, "He et al. 2015, 32 layers for 32x32 images")
}

pub(super) fn resnet44_cifar() -> NetworkEntry {
    residual("resnet44_cifar", 7, "He et al. 2015, 44 layers for 32x32 images")
}

pub(super) fn resnet56_cifar() -> NetworkEntry {
    residual("resnet56_cifar", 9, "He et al. 2015, 56 layers for 32x32 images")
}

pub(super) fn resnet110_cifar() -> NetworkEntry {
    residual("resnet110_cifar", 18, "He et al. 2015, 110 layers for 32x32 images")
}

pub(super) fn plain20_cifar() -> NetworkEntry {
    plain("plain20_cifar", 3, "He et al. 2015, resnet20_cifar without its shortcuts")
}

pub(super) fn plain32_cifar() -> NetworkEntry {
    plain("plain32_cifar", 5, "He et al. 2015, resnet32_cifar without its shortcuts")
}

pub(super) fn plain44_cifar() -> NetworkEntry {
    plain("plain44_cifar", 7, "He et al. 2015, resnet44_cifar without its shortcuts")
}

pub(super) fn plain56_cifar() -> NetworkEntry {
    plain("plain56_cifar", 9, "He et al. 2015, resnet56_cifar without its shortcuts")
}

fn residual(name: &str, blocks: usize, summary: &str) -> NetworkEntry {
    entry(name, (blocks, true), summary)
}

fn plain(name: &str, blocks: usize, summary: &str) -> NetworkEntry {
    entry(name, (blocks, false), summary)
}

fn entry(name: &str, (blocks, shortcuts): (usize, bool), summary: &str) -> NetworkEntry {
    // The config is made when the network is built: a new spec looks into the table that this row becomes a part of.
    let config =
        move |spec: &ModelSpec| CifarResNetConfig { blocks, shortcuts, spec: spec.clone() };
    row(name, move |spec, vb| CifarResNet::new(config(spec), vb))
        .summary(summary)
        .family("resnet_cifar")
        .input([3, 32, 32])
        .sizes(InputSizes::from(4))
        .head(HEAD)
        .cam_layer(CAM_LAYER)
}

/// The sizes of a [`CifarResNet`].
///
/// ```
/// use candle_vision_models::CifarResNetConfig;
///
/// let plain56 = CifarResNetConfig::new(9).shortcuts(false);
/// assert_eq!(plain56.depth(), 56);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CifarResNetConfig {
    /// Blocks of each of the three stages: the paper's `n`.
    pub blocks: usize,
    /// Whether there is a shortcut around each block. Default true.
    pub shortcuts: bool,
    /// Name, classes and image size. Default: CIFAR-10's 10 classes of 32x32 pixels.
    pub spec: ModelSpec,
}

impl CifarResNetConfig {
    /// `blocks` blocks in each stage.
    pub fn new(blocks: usize) -> Self {
        let spec = ModelSpec::new("resnet_cifar", 10).input([3, 32, 32]);
        Self { blocks, shortcuts: true, spec }
    }

    /// Sets whether there is a shortcut around each block.
    pub fn shortcuts(self, shortcuts: bool) -> Self {
        Self { shortcuts, ..self }
    }

    /// The number of layers with weights: two convolutions in each block, the stem and the classifier.
    pub fn depth(&self) -> usize {
        6 * self.blocks + 2
    }
}

of_spec!(CifarResNet, CifarResNetConfig);

/// `conv1` (3x3, 16 channels), `layer1` to `layer3` of blocks with two 3x3 convolutions (16, 32 and 64 channels; the
/// second and third stage halve the map), a global average pool, and `fc`. Every convolution has batch norm behind it.
///
/// A shortcut around a block that halves the map takes every second pixel and gets as many channels of zeros on both
/// sides as are missing (the paper's option A). So plain and residual networks have the same parameters.
pub struct CifarResNet {
    spec: ModelSpec,
    parameters: Parameters,
    stem: ConvNorm,
    stages: Vec<Stage>,
    avgpool: GlobalAvgPool,
    fc: Linear,
}

struct Stage {
    path: String,
    blocks: Vec<Block>,
}

struct Block {
    path: String,
    convs: [ConvNorm; 2],
    shortcut: Option<Shortcut>,
}

/// What a block's last batch norm is added to.
enum Shortcut {
    Identity,
    /// Every second pixel, with so many channels of zeros on each side.
    Halved {
        zeros: usize,
    },
}

impl Block {
    fn new(from: usize, to: usize, shortcuts: bool, vb: ParameterBuilder) -> Result<Self> {
        let conv = |i: usize, options: ConvNormOptions| {
            let [conv, bn, relu] = ["conv", "bn", "relu"].map(|name| format!("{name}{i}"));
            ConvNorm::new(options.names(&conv, &bn, &relu), vb.clone())
        };
        let stride = if from == to { 1 } else { 2 };
        let shortcut = match from == to {
            true => Shortcut::Identity,
            false => Shortcut::Halved { zeros: (to - from) / 2 },
        };
        let first = ConvNormOptions::new(from, to, 3).stride(stride);
        Ok(Self {
            path: vb.path().to_owned(),
            convs: [conv(1, first)?, conv(2, ConvNormOptions::new(to, to, 3))?],
            shortcut: shortcuts.then_some(shortcut),
        })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [first, last] = &self.convs;
        let Some(shortcut) = &self.shortcut else {
            // Without a shortcut it is no block that hooks could look at as one.
            return last.forward(&first.forward(x, pass)?, pass);
        };
        let x = &pass.input(&self.path, x)?;
        let y = first.forward(x, pass)?;
        let y = match shortcut {
            Shortcut::Identity => last.forward_residual(&y, x, pass)?,
            Shortcut::Halved { zeros } => {
                let path = format!("{}.downsample", self.path);
                let shortcut = layer_at(&path, x, pass, |x| halved(x, *zeros))?;
                last.forward_residual(&y, &shortcut, pass)?
            }
        };
        pass.output(&self.path, y)
    }
}

/// Every second pixel, with `zeros` channels of zeros on each side.
fn halved(x: &Tensor, zeros: usize) -> Result<Tensor> {
    // A window of one pixel averages nothing.
    let x = avg_pool2d(x, &AvgPool2dConfig::new(1).stride(2))?;
    let (batch, height, width, _) = x.dims4()?;
    let zeros = Tensor::zeros((batch, height, width, zeros), x.dtype(), x.device())?;
    cat(&[&zeros, &x, &zeros], 3)
}

impl CifarResNet {
    /// The network with new parameters.
    ///
    /// # Errors
    /// If there are no classes or no blocks, or a name is taken.
    pub fn new(config: CifarResNetConfig, vb: ParameterBuilder) -> Result<Self> {
        let CifarResNetConfig { blocks, shortcuts, spec } = config;
        check(&spec)?;
        if blocks == 0 {
            candle_core::bail!("`{}` needs at least one block in each stage", spec.architecture)
        }
        let stem = ConvNormOptions::new(spec.input[0], 16, 3).names("conv1", "bn1", "relu");
        let stem = ConvNorm::new(stem, vb.clone())?;
        let mut stages = Vec::new();
        let mut from = 16;
        for (path, to) in [("layer1", 16), ("layer2", 32), (CAM_LAYER, 64)] {
            let vb = vb.pp(path);
            let mut in_stage = Vec::new();
            for i in 0..blocks {
                in_stage.push(Block::new(from, to, shortcuts, vb.pp(i))?);
                from = to;
            }
            stages.push(Stage { path: vb.path().to_owned(), blocks: in_stage });
        }
        Ok(Self {
            avgpool: GlobalAvgPool::new(vb.pp("avgpool")),
            fc: Linear::new((from, spec.num_classes), vb.pp(HEAD))?,
            parameters: vb.parameters(),
            spec,
            stem,
            stages,
        })
    }

    fn features(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = images_to_features(images, self.spec.input[0])?;
        let mut x = self.stem.forward(&x, pass)?;
        for stage in &self.stages {
            x = pass.input(&stage.path, &x)?;
            for block in &stage.blocks {
                x = block.forward(&x, pass)?;
            }
            x = pass.output(&stage.path, x)?;
        }
        Ok(x)
    }

    fn classify(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.fc.logits(&self.avgpool.forward(x, pass)?, pass)
    }
}

impl Model for CifarResNet {
    backbone_and_head!();

    fn head(&self) -> &str {
        HEAD
    }

    fn cam_layer(&self) -> Option<&str> {
        Some(CAM_LAYER)
    }
}
