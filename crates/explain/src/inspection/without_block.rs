//! A network without one of its residual blocks.

use candle_core::{Result, Tensor};
use candle_vision_models::{LayerHook, Model, ModelSpec, Parameters, Pass};

use super::ResidualBlock;

/// A residual network in which one block adds nothing: its branch is 0, and only its shortcut passes. The
/// network always runs in evaluation mode.
///
/// # Example
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_vision_explain::inspection::{WithoutBlock, residual_blocks};
/// use candle_vision_models::{Model, ModelSpec, Pass, build};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = build(&ModelSpec::new("resnet18", 2).input([3, 32, 32]), 0, &Device::Cpu)?;
/// let blocks = residual_blocks(model.as_ref())?;
/// let without = WithoutBlock::new(model.as_ref(), &blocks[3]);
/// let images = Tensor::ones((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
/// assert_eq!(without.forward(&images, &mut Pass::eval())?.dims(), [1, 2]);
/// # Ok(())
/// # }
/// ```
pub struct WithoutBlock<'a> {
    model: &'a dyn Model,
    block: &'a ResidualBlock,
}

impl<'a> WithoutBlock<'a> {
    /// `model` without `block`, which must be one of its own blocks.
    pub fn new(model: &'a dyn Model, block: &'a ResidualBlock) -> Self {
        Self { model, block }
    }
}

impl Model for WithoutBlock<'_> {
    fn spec(&self) -> &ModelSpec {
        self.model.spec()
    }

    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn forward(&self, images: &Tensor, _: &mut Pass<'_>) -> Result<Tensor> {
        let mut silence = Silence { layer: &self.block.branch };
        self.model.forward(images, &mut Pass::eval().with_hooks(&mut silence))
    }

    fn head(&self) -> &str {
        self.model.head()
    }

    fn cam_layer(&self) -> Option<&str> {
        self.model.cam_layer()
    }
}

/// A hook that replaces the output of one layer by zeros.
struct Silence<'a> {
    layer: &'a str,
}

impl LayerHook for Silence<'_> {
    fn wants(&self, layer: &str) -> bool {
        layer == self.layer
    }

    fn wants_input(&self, _: &str) -> bool {
        false
    }

    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
        if self.wants(layer) { output.zeros_like() } else { Ok(output) }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_vision_models::build;

    use super::*;
    use crate::inspection::residual_blocks;
    use crate::{Recorder, Result};

    #[test]
    fn a_skipped_block_passes_its_input_on() -> Result<()> {
        let model = build(&ModelSpec::new("resnet18", 2).input([3, 32, 32]), 0, &Device::Cpu)?;
        let images = Tensor::rand(0f32, 1.0, (1, 3, 32, 32), &Device::Cpu)?;
        let blocks = residual_blocks(model.as_ref())?;
        let block = blocks.iter().find(|block| block.path == "layer1.1").expect("it has one");
        let logits = model.forward(&images, &mut Pass::eval())?.to_vec2::<f32>()?;
        let without =
            WithoutBlock::new(model.as_ref(), block).forward(&images, &mut Pass::eval())?;
        assert_ne!(without.to_vec2::<f32>()?, logits);

        // The block's input is positive already, so its output is its input.
        struct Both<'a>(Silence<'a>, Recorder);
        impl LayerHook for Both<'_> {
            fn wants(&self, layer: &str) -> bool {
                self.0.wants(layer) || self.1.wants(layer)
            }
            fn output(&mut self, layer: &str, output: Tensor) -> candle_core::Result<Tensor> {
                let output = self.0.output(layer, output)?;
                self.1.output(layer, output)
            }
        }
        let layers = Recorder::new(["layer1.0", "layer1.1"]);
        let mut both = Both(Silence { layer: "layer1.1.bn2" }, layers);
        model.forward(&images, &mut Pass::eval().with_hooks(&mut both))?;
        let values = |layer: &str| {
            let output = both.1.get(layer).expect("it ran");
            output.flatten_all()?.to_vec1::<f32>()
        };
        assert_eq!(values("layer1.0")?, values("layer1.1")?);
        Ok(())
    }
}
