//! The sizes of the EfficientNets.

use super::super::config::{divisible, of_spec};
use super::EfficientNet;
use crate::ModelSpec;
use crate::layers::ConvNormOptions;

/// A stage of an [`EfficientNet`]: a row of table 1 of the first paper, or of table 4 of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EfficientNetStage {
    /// Whether one plain convolution takes the place of the expansion and the depthwise convolution, without squeeze
    /// and excitation (Fused-MBConv).
    pub fused: bool,
    /// Factor between the channels that come in and those of the expansion.
    pub expansion: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride of the first block.
    pub stride: usize,
    /// Channels that go out.
    pub channels: usize,
    /// Number of blocks.
    pub layers: usize,
}

impl EfficientNetStage {
    /// `layers` blocks with a depthwise convolution and squeeze and excitation (MBConv).
    pub const fn new(
        expansion: usize,
        kernel: usize,
        stride: usize,
        channels: usize,
        layers: usize,
    ) -> Self {
        Self { fused: false, expansion, kernel, stride, channels, layers }
    }

    /// `layers` blocks with one plain 3x3 convolution in place of two (Fused-MBConv).
    pub const fn fused(expansion: usize, stride: usize, channels: usize, layers: usize) -> Self {
        Self { fused: true, ..Self::new(expansion, 3, stride, channels, layers) }
    }

    /// The same with `width` times as many channels, rounded to multiples of 8, and `depth` times as many blocks,
    /// rounded up.
    pub(super) fn scaled(self, width: f64, depth: f64) -> Self {
        let channels = divisible(self.channels as f64 * width, 8);
        Self { channels, layers: (self.layers as f64 * depth).ceil() as usize, ..self }
    }
}

/// EfficientNet-B0, from which the others of its kind are scaled.
pub(super) const B0: [EfficientNetStage; 7] = [
    EfficientNetStage::new(1, 3, 1, 16, 1),
    EfficientNetStage::new(6, 3, 2, 24, 2),
    EfficientNetStage::new(6, 5, 2, 40, 2),
    EfficientNetStage::new(6, 3, 2, 80, 3),
    EfficientNetStage::new(6, 5, 1, 112, 3),
    EfficientNetStage::new(6, 5, 2, 192, 4),
    EfficientNetStage::new(6, 3, 1, 320, 1),
];

const B0_STEM: usize = 32;

const V2_S: [EfficientNetStage; 6] = [
    EfficientNetStage::fused(1, 1, 24, 2),
    EfficientNetStage::fused(4, 2, 48, 4),
    EfficientNetStage::fused(4, 2, 64, 4),
    EfficientNetStage::new(4, 3, 2, 128, 6),
    EfficientNetStage::new(6, 3, 1, 160, 9),
    EfficientNetStage::new(6, 3, 2, 256, 15),
];

const V2_M: [EfficientNetStage; 7] = [
    EfficientNetStage::fused(1, 1, 24, 3),
    EfficientNetStage::fused(4, 2, 48, 5),
    EfficientNetStage::fused(4, 2, 80, 5),
    EfficientNetStage::new(4, 3, 2, 160, 7),
    EfficientNetStage::new(6, 3, 1, 176, 14),
    EfficientNetStage::new(6, 3, 2, 304, 18),
    EfficientNetStage::new(6, 3, 1, 512, 5),
];

const V2_L: [EfficientNetStage; 7] = [
    EfficientNetStage::fused(1, 1, 32, 4),
    EfficientNetStage::fused(4, 2, 64, 7),
    EfficientNetStage::fused(4, 2, 96, 7),
    EfficientNetStage::new(4, 3, 2, 192, 10),
    EfficientNetStage::new(6, 3, 1, 224, 19),
    EfficientNetStage::new(6, 3, 2, 384, 25),
    EfficientNetStage::new(6, 3, 1, 640, 7),
];

/// The sizes of an [`EfficientNet`].
///
/// ```
/// use candle_vision_models::{EfficientNetConfig, EfficientNetStage};
///
/// let b1 = EfficientNetConfig::b1().num_classes(10);
/// assert_eq!((b1.stages[5].channels, b1.stages[5].layers), (192, 5));
/// let own = EfficientNetConfig::new(16, &[EfficientNetStage::fused(4, 2, 32, 2)]);
/// assert_eq!(own.last_channels, 128);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EfficientNetConfig {
    /// Channels of the first convolution.
    pub stem_channels: usize,
    /// The stages in their order.
    pub stages: Vec<EfficientNetStage>,
    /// Channels of the last convolution. Default four times those of the last stage.
    pub last_channels: usize,
    /// What batch norm adds to the variance. Default 1e-5.
    pub norm_eps: f64,
    /// The share of a batch in batch norm's new running statistics. Default 0.1.
    pub norm_momentum: f64,
    /// Probability of dropout before the classifier where the spec names none. Default 0.2.
    pub dropout: f64,
    /// Probability with which training leaves out the branch of the last block; it grows from 0 at the first block
    /// on. Default 0.2.
    pub stochastic_depth: f64,
    /// Name, classes and image size. Default: ImageNet's 1000 classes at the published size.
    pub spec: ModelSpec,
}

impl EfficientNetConfig {
    /// A network of `stages`. It is called `efficientnet`. One that is to be built again from a checkpoint needs a
    /// [`NetworkEntry`](crate::NetworkEntry) and takes its spec from there.
    pub fn new(stem_channels: usize, stages: &[EfficientNetStage]) -> Self {
        let last = stages.last().map_or(stem_channels, |stage| stage.channels);
        Self {
            stem_channels,
            stages: stages.to_vec(),
            last_channels: 4 * last,
            norm_eps: 1e-5,
            norm_momentum: 0.1,
            dropout: 0.2,
            stochastic_depth: 0.2,
            spec: ModelSpec::new("efficientnet", 1000),
        }
    }

    /// EfficientNet-B0 with `width` times as many channels and `depth` times as many blocks.
    pub fn scaled(width: f64, depth: f64) -> Self {
        let stem = divisible(B0_STEM as f64 * width, 8);
        Self::new(stem, &B0.map(|stage| stage.scaled(width, depth)))
    }

    /// EfficientNet-B0, for images of 224x224 pixels.
    pub fn b0() -> Self {
        Self::scaled(1.0, 1.0).called("efficientnet_b0")
    }

    /// EfficientNet-B1, for images of 240x240 pixels.
    pub fn b1() -> Self {
        Self::scaled(1.0, 1.1).called("efficientnet_b1")
    }

    /// EfficientNet-B2, for images of 288x288 pixels.
    pub fn b2() -> Self {
        Self::scaled(1.1, 1.2).dropout(0.3).called("efficientnet_b2")
    }

    /// EfficientNet-B3, for images of 300x300 pixels.
    pub fn b3() -> Self {
        Self::scaled(1.2, 1.4).dropout(0.3).called("efficientnet_b3")
    }

    /// EfficientNet-B4, for images of 380x380 pixels.
    pub fn b4() -> Self {
        Self::scaled(1.4, 1.8).dropout(0.4).called("efficientnet_b4")
    }

    /// EfficientNet-B5, for images of 456x456 pixels.
    pub fn b5() -> Self {
        Self::scaled(1.6, 2.2).dropout(0.4).norm(1e-3, 0.01).called("efficientnet_b5")
    }

    /// EfficientNet-B6, for images of 528x528 pixels.
    pub fn b6() -> Self {
        Self::scaled(1.8, 2.6).dropout(0.5).norm(1e-3, 0.01).called("efficientnet_b6")
    }

    /// EfficientNet-B7, for images of 600x600 pixels.
    pub fn b7() -> Self {
        Self::scaled(2.0, 3.1).dropout(0.5).norm(1e-3, 0.01).called("efficientnet_b7")
    }

    /// EfficientNetV2-S, for images of 384x384 pixels.
    pub fn v2_s() -> Self {
        Self::v2(24, &V2_S).called("efficientnet_v2_s")
    }

    /// EfficientNetV2-M, for images of 480x480 pixels.
    pub fn v2_m() -> Self {
        Self::v2(24, &V2_M).dropout(0.3).called("efficientnet_v2_m")
    }

    /// EfficientNetV2-L, for images of 480x480 pixels.
    pub fn v2_l() -> Self {
        Self::v2(32, &V2_L).dropout(0.4).called("efficientnet_v2_l")
    }

    fn v2(stem_channels: usize, stages: &[EfficientNetStage]) -> Self {
        Self::new(stem_channels, stages).last_channels(1280).norm(1e-3, 0.1)
    }

    /// Sets the channels of the last convolution.
    pub fn last_channels(mut self, channels: usize) -> Self {
        self.last_channels = channels;
        self
    }

    /// Sets what batch norm adds to the variance, and the share of a batch in its new running statistics.
    pub fn norm(mut self, eps: f64, momentum: f64) -> Self {
        (self.norm_eps, self.norm_momentum) = (eps, momentum);
        self
    }

    /// Sets the probability of dropout before the classifier, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }

    /// Sets the probability with which training leaves out the branch of the last block, a fraction in `0.0..1.0`.
    pub fn stochastic_depth(mut self, probability: f64) -> Self {
        self.stochastic_depth = probability;
        self
    }

    /// Takes the name of a row, and with it the published size of the images.
    fn called(mut self, name: &str) -> Self {
        self.spec = ModelSpec::new(name, self.spec.num_classes);
        self
    }

    /// `options` with this network's batch norm.
    pub(super) fn normed(&self, options: ConvNormOptions) -> ConvNormOptions {
        options.eps(self.norm_eps).momentum(self.norm_momentum)
    }
}

of_spec!(EfficientNet, EfficientNetConfig);
