//! Every op of a training step is one of `candle-vision-ops`, so that `backward` is the fast one.

use candle_core::{Device, Result, Tensor};
use candle_vision_models::{ModelSpec, Networks, Pass, build};
use candle_vision_ops::{CrossEntropyConfig, Targets, backward, cross_entropy, is_direct};

#[test]
fn the_way_back_is_direct() -> Result<()> {
    let labels = Tensor::new(&[0u32, 3], &Device::Cpu)?;
    for entry in Networks::standard().families() {
        let name = entry.name();
        let side = entry.input_sizes().smallest.max(64);
        let model = build(&ModelSpec::new(name, 4).input([3, side, side]), 1, &Device::Cpu)?;
        let images = Tensor::zeros((2, 3, side, side), candle_core::DType::F32, &Device::Cpu)?;
        let logits = model.forward(&images, &mut Pass::train(0))?;
        let config = CrossEntropyConfig::default();
        let loss = cross_entropy(&logits, Targets::Labels(&labels), &config)?;
        assert!(is_direct(&loss), "{name}");
        let gradients = backward(&loss)?;
        for parameter in model.parameters().trainable() {
            assert!(gradients.get(parameter.var()).is_some(), "{name}: {}", parameter.path());
        }
    }
    Ok(())
}
