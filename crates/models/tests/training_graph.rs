//! Every op of a training step is one of `candle-vision-ops`, so that `backward` is the fast one.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::{
    AuxiliaryOutputs, EfficientNet, EfficientNetConfig, EfficientNetStage, Model, ModelSpec,
    Networks, Parameters, Pass, RecordShapes, build,
};
use candle_vision_ops::{
    CrossEntropyConfig, Targets, add, backward, cross_entropy, is_direct, scale,
};

#[test]
fn the_way_back_is_direct() -> Result<()> {
    let labels = Tensor::new(&[0u32, 3], &Device::Cpu)?;
    let networks = Networks::standard();
    // VGG's linear layers alone take many seconds; `reference.rs` has a small one.
    let small = networks.families().filter(|entry| entry.family_name() != "vgg");
    for entry in small.chain(networks.get("resnet50")) {
        let name = entry.name();
        let side = entry.input_sizes().smallest.max(64);
        let model = build(&ModelSpec::new(name, 4).input([3, side, side]), 1, &Device::Cpu)?;
        let images = Tensor::zeros((2, 3, side, side), DType::F32, &Device::Cpu)?;
        let of = |logits: &Tensor| {
            cross_entropy(logits, Targets::Labels(&labels), &CrossEntropyConfig::default())
        };
        let AuxiliaryOutputs { logits, auxiliary } =
            model.forward_auxiliary(&images, &mut Pass::train(0))?;
        let mut loss = of(&logits)?;
        for (logits, weight) in auxiliary {
            loss = add(&loss, &scale(&of(&logits)?, weight)?)?;
        }
        assert!(is_direct(&loss), "{name}");
        let gradients = backward(&loss)?;
        for parameter in model.parameters().trainable() {
            assert!(gradients.get(parameter.var()).is_some(), "{name}: {}", parameter.path());
        }
    }
    Ok(())
}

/// Version 2 of EfficientNet has blocks that the first row of its family lacks.
#[test]
fn fused_blocks_are_direct_with_stochastic_depth_and_with_hooks() -> Result<()> {
    let stages = [
        EfficientNetStage::fused(1, 1, 8, 2),
        EfficientNetStage::fused(4, 2, 16, 2),
        EfficientNetStage::new(4, 3, 2, 16, 2),
    ];
    let config = EfficientNetConfig::new(8, &stages).stochastic_depth(0.5).num_classes(4);
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let model = EfficientNet::new(config, vb)?;
    let images = Tensor::ones((8, 3, 32, 32), DType::F32, &Device::Cpu)?;
    let logits = model.forward(&images, &mut Pass::train(1))?;
    assert!(is_direct(&logits));
    let gradients = backward(&logits.sqr()?.sum_all()?)?;
    for parameter in model.parameters().trainable() {
        assert!(gradients.get(parameter.var()).is_some(), "{}", parameter.path());
    }
    // The ones of a batch differ only in what is left out of them.
    let rows = logits.to_vec2::<f32>()?;
    assert!(rows.iter().any(|row| row != &rows[0]));
    // A hook at the layer takes the fused sum apart, and changes nothing but the rounding.
    let mut shapes = RecordShapes::default();
    let hooked = model.forward(&images, &mut Pass::eval().with_hooks(&mut shapes))?;
    let plain = model.forward(&images, &mut Pass::eval())?;
    let difference = (hooked - plain)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(difference < 1e-4, "{difference}");
    let seen = |path: &str| shapes.shapes.iter().any(|(layer, _)| layer == path);
    assert!(seen("features.1.1.stochastic_depth") && seen("features.3.1.stochastic_depth"));
    assert!(!seen("features.2.0.stochastic_depth"), "the block changes the shape");
    Ok(())
}
