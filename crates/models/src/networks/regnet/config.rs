//! The sizes of the RegNets.

use super::super::config::{divisible, of_spec};
use super::RegNet;
use crate::ModelSpec;

/// The sizes of a [`RegNet`]: the parameters of the paper's section 3.3, from which the widths of all blocks follow.
///
/// ```
/// use candle_vision_models::RegNetConfig;
///
/// let stages = RegNetConfig::y_400mf().stages();
/// let widths: Vec<_> = stages.iter().map(|stage| (stage.channels, stage.layers)).collect();
/// assert_eq!(widths, [(48, 1), (104, 3), (208, 6), (440, 6)]);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RegNetConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of the first block in channels (`w_0`), a multiple of 8.
    pub initial_width: usize,
    /// Channels by which the width grows from block to block before it is quantised (`w_a`), at least 0.
    pub slope: f64,
    /// Factor between the widths of two stages (`w_m`), above 1.
    pub ratio: f64,
    /// Channels of a group of the 3x3 convolutions.
    pub group_width: usize,
    /// Features within squeeze and excitation, as a fraction of the channels that enter the block. Default: the
    /// blocks have none (RegNetX); RegNetY has 0.25.
    pub squeeze_excitation: Option<f64>,
    /// Channels of the first convolution. Default 32.
    pub stem_channels: usize,
    /// Name, classes and image size. Default: ImageNet's 1000 classes at the published size.
    pub spec: ModelSpec,
}

/// A stage of a [`RegNet`]: blocks of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegNetStage {
    /// Channels that go out.
    pub channels: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Channels of a group of the 3x3 convolutions.
    pub group_width: usize,
}

impl RegNetConfig {
    /// `depth` blocks whose widths begin with `initial_width` and grow by `slope`, in steps of the factor `ratio`, and
    /// no squeeze and excitation. It is called `regnet`. One that is to be built again from a checkpoint needs a
    /// [`NetworkEntry`](crate::NetworkEntry) and takes its spec from there.
    pub fn new(
        depth: usize,
        initial_width: usize,
        slope: f64,
        ratio: f64,
        group_width: usize,
    ) -> Self {
        Self {
            depth,
            initial_width,
            slope,
            ratio,
            group_width,
            squeeze_excitation: None,
            stem_channels: 32,
            spec: ModelSpec::new("regnet", 1000),
        }
    }

    /// RegNetY of 400 million multiply-adds.
    pub fn y_400mf() -> Self {
        Self::y("regnet_y_400mf", Self::new(16, 48, 27.89, 2.09, 8))
    }

    /// RegNetY of 800 million multiply-adds.
    pub fn y_800mf() -> Self {
        Self::y("regnet_y_800mf", Self::new(14, 56, 38.84, 2.4, 16))
    }

    /// RegNetY of 1.6 billion multiply-adds.
    pub fn y_1_6gf() -> Self {
        Self::y("regnet_y_1_6gf", Self::new(27, 48, 20.71, 2.65, 24))
    }

    /// RegNetY of 3.2 billion multiply-adds.
    pub fn y_3_2gf() -> Self {
        Self::y("regnet_y_3_2gf", Self::new(21, 80, 42.63, 2.66, 24))
    }

    /// RegNetY of 8 billion multiply-adds.
    pub fn y_8gf() -> Self {
        Self::y("regnet_y_8gf", Self::new(17, 192, 76.82, 2.19, 56))
    }

    /// RegNetY of 16 billion multiply-adds.
    pub fn y_16gf() -> Self {
        Self::y("regnet_y_16gf", Self::new(18, 200, 106.23, 2.48, 112))
    }

    /// RegNetY of 32 billion multiply-adds.
    pub fn y_32gf() -> Self {
        Self::y("regnet_y_32gf", Self::new(20, 232, 115.89, 2.53, 232))
    }

    /// RegNetY of 128 billion multiply-adds, for images of 384x384 pixels.
    pub fn y_128gf() -> Self {
        Self::y("regnet_y_128gf", Self::new(27, 456, 160.83, 2.52, 264))
    }

    /// RegNetX of 400 million multiply-adds.
    pub fn x_400mf() -> Self {
        Self::new(22, 24, 24.48, 2.54, 16).called("regnet_x_400mf")
    }

    /// RegNetX of 800 million multiply-adds.
    pub fn x_800mf() -> Self {
        Self::new(16, 56, 35.73, 2.28, 16).called("regnet_x_800mf")
    }

    /// RegNetX of 1.6 billion multiply-adds.
    pub fn x_1_6gf() -> Self {
        Self::new(18, 80, 34.01, 2.25, 24).called("regnet_x_1_6gf")
    }

    /// RegNetX of 3.2 billion multiply-adds.
    pub fn x_3_2gf() -> Self {
        Self::new(25, 88, 26.31, 2.25, 48).called("regnet_x_3_2gf")
    }

    /// RegNetX of 8 billion multiply-adds.
    pub fn x_8gf() -> Self {
        Self::new(23, 80, 49.56, 2.88, 120).called("regnet_x_8gf")
    }

    /// RegNetX of 16 billion multiply-adds.
    pub fn x_16gf() -> Self {
        Self::new(22, 216, 55.59, 2.1, 128).called("regnet_x_16gf")
    }

    /// RegNetX of 32 billion multiply-adds.
    pub fn x_32gf() -> Self {
        Self::new(23, 320, 69.86, 2.0, 168).called("regnet_x_32gf")
    }

    fn y(name: &str, config: Self) -> Self {
        config.squeeze_excitation(0.25).called(name)
    }

    /// Sets that blocks have squeeze and excitation with `ratio` times as many features as channels enter the block.
    pub fn squeeze_excitation(mut self, ratio: f64) -> Self {
        self.squeeze_excitation = Some(ratio);
        self
    }

    /// Sets the channels of the first convolution.
    pub fn stem_channels(mut self, channels: usize) -> Self {
        self.stem_channels = channels;
        self
    }

    /// Takes the name of a row, and with it the published size of the images.
    fn called(mut self, name: &str) -> Self {
        self.spec = ModelSpec::new(name, self.spec.num_classes);
        self
    }

    /// The stages that follow from the parameters (equations 2 to 4): the width of each block grows linearly and is
    /// then rounded, first to a power of the ratio and then to a multiple of 8. Blocks of one width make a stage. Its
    /// width is at last made a multiple of the groups' width.
    pub fn stages(&self) -> Vec<RegNetStage> {
        let initial = self.initial_width as f64;
        let mut stages: Vec<RegNetStage> = Vec::new();
        for block in 0..self.depth {
            let linear = initial + self.slope * block as f64;
            let power = ((linear / initial).ln() / self.ratio.ln()).round_ties_even();
            let width = initial * self.ratio.powf(power) / 8.0;
            let channels = width.round_ties_even() as usize * 8;
            match stages.last_mut() {
                Some(stage) if stage.channels == channels => stage.layers += 1,
                _ => stages.push(RegNetStage { channels, layers: 1, group_width: 0 }),
            }
        }
        for stage in &mut stages {
            stage.group_width = self.group_width.min(stage.channels);
            stage.channels = divisible(stage.channels as f64, stage.group_width);
        }
        stages
    }
}

of_spec!(RegNet, RegNetConfig);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: RegNetConfig, expected: &[(usize, usize, usize)]) {
        let stages = config.stages();
        let numbers = stages.iter().map(|stage| (stage.channels, stage.layers, stage.group_width));
        assert_eq!(numbers.collect::<Vec<_>>(), expected, "{}", config.spec.architecture);
    }

    /// `BlockParams.from_init_params(...)` of `torchvision.models.regnet`: widths, depths and group widths.
    #[test]
    fn stages_are_torchvisions() {
        check(RegNetConfig::y_400mf(), &[(48, 1, 8), (104, 3, 8), (208, 6, 8), (440, 6, 8)]);
        check(RegNetConfig::y_800mf(), &[(64, 1, 16), (144, 3, 16), (320, 8, 16), (784, 2, 16)]);
        check(RegNetConfig::y_1_6gf(), &[(48, 2, 24), (120, 6, 24), (336, 17, 24), (888, 2, 24)]);
        check(RegNetConfig::y_3_2gf(), &[(72, 2, 24), (216, 5, 24), (576, 13, 24), (1512, 1, 24)]);
        check(RegNetConfig::y_8gf(), &[(224, 2, 56), (448, 4, 56), (896, 10, 56), (2016, 1, 56)]);
        check(
            RegNetConfig::y_16gf(),
            &[(224, 2, 112), (448, 4, 112), (1232, 11, 112), (3024, 1, 112)],
        );
        check(
            RegNetConfig::y_32gf(),
            &[(232, 2, 232), (696, 5, 232), (1392, 12, 232), (3712, 1, 232)],
        );
        check(
            RegNetConfig::y_128gf(),
            &[(528, 2, 264), (1056, 7, 264), (2904, 17, 264), (7392, 1, 264)],
        );
        check(RegNetConfig::x_400mf(), &[(32, 1, 16), (64, 2, 16), (160, 7, 16), (400, 12, 16)]);
        check(RegNetConfig::x_800mf(), &[(64, 1, 16), (128, 3, 16), (288, 7, 16), (672, 5, 16)]);
        check(RegNetConfig::x_1_6gf(), &[(72, 2, 24), (168, 4, 24), (408, 10, 24), (912, 2, 24)]);
        check(RegNetConfig::x_3_2gf(), &[(96, 2, 48), (192, 6, 48), (432, 15, 48), (1008, 2, 48)]);
        check(RegNetConfig::x_8gf(), &[(80, 2, 80), (240, 5, 120), (720, 15, 120), (1920, 1, 120)]);
        check(
            RegNetConfig::x_16gf(),
            &[(256, 2, 128), (512, 6, 128), (896, 13, 128), (2048, 1, 128)],
        );
        check(
            RegNetConfig::x_32gf(),
            &[(336, 2, 168), (672, 7, 168), (1344, 13, 168), (2520, 1, 168)],
        );
    }
}
