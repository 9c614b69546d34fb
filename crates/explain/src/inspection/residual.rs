//! How much each residual block adds to its input: the branch `F(x)` compared with the shortcut `x`. Studies of
//! residual networks as ensembles look at this ratio (Veit et al. 2016, <https://arxiv.org/abs/1605.06431>).

use candle_core::{DType, Result as TensorResult, Tensor};
use candle_vision_models::{LayerHook, Model, Pass, RecordShapes};

use crate::{Error, Result};

/// A residual block: the branch, and the shortcut that the branch is added to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidualBlock {
    /// The block's path, such as `layer1.0`.
    pub path: String,
    /// The layer whose output is the branch `F(x)`: the layer that the network calls the block's `branch`, or
    /// else the block's last batch norm.
    pub(crate) branch: String,
    /// The layer whose output is the shortcut: the block's projection if it has one, or else the layer before
    /// the block.
    shortcut: String,
}

/// The residual blocks of a network with torchvision's names, in the order of the forward pass. The network
/// runs once on an image of zeros to find them.
///
/// # Errors
/// If the network has no residual blocks.
///
/// # Example
/// ```
/// use candle_core::Device;
/// use candle_vision_explain::inspection::residual_blocks;
/// use candle_vision_models::{ModelSpec, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("resnet18", 2).input([3, 64, 64]), 0, &Device::Cpu)?;
/// let blocks = residual_blocks(model.as_ref())?;
/// assert_eq!((blocks.len(), blocks[7].path.as_str()), (8, "layer4.1"));
/// # Ok(())
/// # }
/// ```
pub fn residual_blocks(model: &dyn Model) -> Result<Vec<ResidualBlock>> {
    let spec = model.spec();
    let [channels, height, width] = spec.input;
    let device = model.parameters().weights().first().map(|weight| weight.var().device().clone());
    let device = device.unwrap_or(candle_core::Device::Cpu);
    let image = Tensor::zeros((1, channels, height, width), DType::F32, &device)?;
    let mut layers = RecordShapes::default();
    model.forward(&image, &mut Pass::eval().with_hooks(&mut layers))?;
    let paths: Vec<&str> = layers.shapes.iter().map(|(path, _)| path.as_str()).collect();
    let blocks: Vec<ResidualBlock> =
        (0..paths.len()).filter_map(|first| block_from(&paths, first)).collect();
    if blocks.is_empty() {
        return Err(Error::NoResidualBlocks { architecture: spec.architecture.clone() });
    }
    Ok(blocks)
}

/// The block whose first convolution is the layer at index `first`. `None` if that layer does not begin a
/// block.
fn block_from(paths: &[&str], first: usize) -> Option<ResidualBlock> {
    let path = paths[first].strip_suffix(".conv1")?;
    let has = |name: &str| paths.contains(&name);
    let norm = |number: usize| format!("{path}.bn{number}");
    let last = (1..).take_while(|number| has(&norm(*number))).last()?;
    let named = format!("{path}.branch");
    let branch = if has(&named) { named } else { norm(last) };
    // A projection, or a shortcut that changes the shape without parameters.
    let of_other_shape = ["downsample.1", "downsample"].map(|name| format!("{path}.{name}"));
    let shortcut = match of_other_shape.into_iter().find(|layer| has(layer)) {
        Some(layer) => layer,
        None => paths[first.checked_sub(1)?].to_owned(),
    };
    has(path).then(|| ResidualBlock { path: path.to_owned(), branch, shortcut })
}

/// What a block does to the images that pass through it, as means over the images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockStatistics {
    /// `|F(x)| / |x|`, the ratio of the Euclidean norms over all units of an image. At 1 the branch is as large
    /// as the shortcut.
    pub ratio: f64,
    /// Cosine of the angle between `F(x)` and `x`, in `-1.0..=1.0`. Below 0 the branch reduces the shortcut.
    pub cosine: f64,
    /// Share of the units whose sign the block changes, in `0.0..=1.0`: positive before and not after, or the
    /// reverse.
    pub switched: f64,
}

/// A hook that measures every residual block while images pass through the network.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::inspection::{ResidualLens, residual_blocks};
/// use candle_vision_models::{ModelSpec, Pass, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("resnet18", 2).input([3, 32, 32]), 0, &Device::Cpu)?;
/// let mut lens = ResidualLens::new(residual_blocks(model.as_ref())?);
/// let images = Tensor::ones((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// model.forward(&images, &mut Pass::eval().with_hooks(&mut lens))?;
/// assert!(lens.statistics()[0].1.ratio > 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ResidualLens {
    blocks: Vec<ResidualBlock>,
    sums: Vec<BlockStatistics>,
    images: Vec<usize>,
    /// The latest output of any layer that is the shortcut of a block.
    shortcut: Option<Tensor>,
}

impl ResidualLens {
    /// A hook that measures these blocks.
    pub fn new(blocks: Vec<ResidualBlock>) -> Self {
        let nothing = BlockStatistics { ratio: 0.0, cosine: 0.0, switched: 0.0 };
        let (sums, images) = (vec![nothing; blocks.len()], vec![0; blocks.len()]);
        Self { blocks, sums, images, shortcut: None }
    }

    /// Every block with its means over the images so far. They are 0 before the first image.
    pub fn statistics(&self) -> Vec<(&ResidualBlock, BlockStatistics)> {
        let mean = |(sum, images): (&BlockStatistics, &usize)| {
            let images = (*images).max(1) as f64;
            BlockStatistics {
                ratio: sum.ratio / images,
                cosine: sum.cosine / images,
                switched: sum.switched / images,
            }
        };
        self.blocks.iter().zip(self.sums.iter().zip(&self.images).map(mean)).collect()
    }

    fn add(&mut self, block: usize, branch: &Tensor) -> TensorResult<()> {
        let Some(shortcut) = &self.shortcut else {
            candle_core::bail!("`{}` ran before its shortcut", self.blocks[block].path)
        };
        let flat = |tensor: &Tensor| tensor.detach().to_dtype(DType::F32)?.flatten_from(1);
        let (x, f) = (flat(shortcut)?, flat(branch)?);
        let sum = |tensor: Tensor| tensor.sum(1)?.to_vec1::<f32>();
        let (xx, ff, xf) = (sum(x.sqr()?)?, sum(f.sqr()?)?, sum((&x * &f)?)?);
        let before = x.gt(0f32)?;
        let switched = before.ne(&(x + f)?.gt(0f32)?)?.to_dtype(DType::F32)?.mean(1)?;
        let switched = switched.to_vec1::<f32>()?;
        let sums = &mut self.sums[block];
        for (((xx, ff), xf), switched) in xx.iter().zip(&ff).zip(&xf).zip(&switched) {
            let [xx, ff, xf] = [*xx, *ff, *xf].map(f64::from);
            // If every unit of the image is 0 here, there is no ratio and no angle.
            if xx > 0.0 {
                sums.ratio += (ff / xx).sqrt();
                sums.cosine += if ff > 0.0 { xf / (xx * ff).sqrt() } else { 0.0 };
            }
            sums.switched += f64::from(*switched);
        }
        self.images[block] += xx.len();
        Ok(())
    }
}

impl LayerHook for ResidualLens {
    fn wants(&self, layer: &str) -> bool {
        self.blocks.iter().any(|block| block.branch == layer || block.shortcut == layer)
    }

    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, layer: &str, output: Tensor) -> TensorResult<Tensor> {
        if let Some(block) = self.blocks.iter().position(|block| block.branch == layer) {
            self.add(block, &output)?;
        } else if self.blocks.iter().any(|block| block.shortcut == layer) {
            self.shortcut = Some(output.clone());
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_vision_models::{ModelSpec, build};

    use super::*;

    fn block(paths: &[&str], first: usize) -> Option<(String, String, String)> {
        let block = block_from(paths, first)?;
        Some((block.path, block.branch, block.shortcut))
    }

    #[test]
    fn blocks_are_found_by_their_names() {
        let paths = [
            "maxpool",
            "a.conv1",
            "a.bn1",
            "a.conv2",
            "a.bn2",
            "a",
            "b.conv1",
            "b.bn1",
            "b.downsample.0",
            "b.downsample.1",
            "b.bn2",
            "b",
            "c.conv1",
            "c.bn1",
            "conv1",
            "d.conv1",
            "d.bn1",
            "d.relu1",
            "d.branch",
            "d",
        ];
        let text = |texts: [&str; 3]| Some(texts.map(str::to_owned).into());
        assert_eq!(block(&paths, 1), text(["a", "a.bn2", "maxpool"]));
        assert_eq!(block(&paths, 6), text(["b", "b.bn2", "b.downsample.1"]));
        // No output under the block's own name; no block at all.
        assert_eq!(block(&paths, 12), None);
        assert_eq!(block(&paths, 14), None);
        assert_eq!(block(&paths, 15), text(["d", "d.branch", "conv1"]));
    }

    #[test]
    fn a_branch_is_measured_against_its_shortcut() -> Result<()> {
        let names = |text: &str| text.to_owned();
        let block =
            ResidualBlock { path: names("b"), branch: names("b.bn2"), shortcut: names("a") };
        let mut lens = ResidualLens::new(vec![block]);
        let tensor = |values: [f32; 4]| Tensor::from_slice(&values, (1, 1, 2, 2), &Device::Cpu);
        // x = (3, 4, 0, 0), F = (-6, 0, 8, 0): |F| / |x| = 2, cosine = -18 / 50; the first unit goes
        // off, the third on.
        lens.output("a", tensor([3.0, 4.0, 0.0, 0.0])?)?;
        lens.output("b.bn2", tensor([-6.0, 0.0, 8.0, 0.0])?)?;
        let (_, found) = lens.statistics()[0];
        assert!((found.ratio - 2.0).abs() < 1e-6, "{found:?}");
        assert!((found.cosine + 0.36).abs() < 1e-6, "{found:?}");
        assert_eq!(found.switched, 0.5);
        // An image that died out counts as one in which nothing happens.
        lens.output("a", tensor([0.0; 4])?)?;
        lens.output("b.bn2", tensor([0.0; 4])?)?;
        assert_eq!(lens.statistics()[0].1.switched, 0.25);
        Ok(())
    }

    #[test]
    fn every_block_of_a_network_is_seen_once_a_pass() -> Result<()> {
        for (network, count, branch) in
            [("resnet50", 3 + 4 + 6 + 3, "layer1.0.bn3"), ("resnet9", 2, "layer1.residual.branch")]
        {
            let spec = ModelSpec::new(network, 2).input([3, 32, 32]);
            let model = build(&spec, 0, &Device::Cpu)?;
            let mut lens = ResidualLens::new(residual_blocks(model.as_ref())?);
            assert_eq!(lens.blocks.len(), count);
            assert_eq!(lens.blocks[0].branch, branch);
            let images = Tensor::rand(0f32, 1.0, (2, 3, 32, 32), &Device::Cpu)?;
            model.forward(&images, &mut Pass::eval().with_hooks(&mut lens))?;
            assert_eq!(lens.images, vec![2; count]);
        }
        Ok(())
    }

    #[test]
    fn a_network_without_blocks_is_an_error() -> Result<()> {
        let model = build(&ModelSpec::new("gap_cnn", 2), 0, &Device::Cpu)?;
        let found = residual_blocks(model.as_ref());
        assert!(matches!(found, Err(Error::NoResidualBlocks { .. })));
        Ok(())
    }
}
