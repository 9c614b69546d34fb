//! Networks of candle-nn as models, and models as modules.

use std::collections::HashMap;

use candle_core::{Device, Module, Result, Tensor};
use candle_nn::{BatchNorm, Conv2d, Conv2dConfig, Linear, ModuleT};
use candle_vision_models::interop::{AsModule, CandleNet};
use candle_vision_models::weights::{Strictness, load, tensors};
use candle_vision_models::{
    Hooks, Model, ModelSpec, NetworkEntry, Networks, ParameterBuilder, Pass, build,
};
use candle_vision_ops::{CrossEntropyConfig, Targets, backward, cross_entropy, why_not_direct};

struct Backbone {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ModuleT for Backbone {
    fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        images.apply(&self.conv)?.apply_t(&self.norm, train)?.relu()
    }
}

struct Classifier(Linear);

impl Module for Classifier {
    fn forward(&self, maps: &Tensor) -> Result<Tensor> {
        maps.mean((2, 3))?.apply(&self.0)
    }
}

fn small(spec: &ModelSpec, vb: ParameterBuilder) -> Result<CandleNet> {
    CandleNet::in_two(spec, vb, "features", |vb| {
        let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let conv = candle_nn::conv2d(spec.input[0], 6, 3, config, vb.pp("conv"))?;
        let norm = candle_nn::batch_norm(6, 1e-5, vb.pp("bn"))?;
        let fc = candle_nn::linear(6, spec.num_classes, vb.pp("fc"))?;
        Ok((Backbone { conv, norm }, Classifier(fc)))
    })?
    .head("fc")
}

fn network(seed: u64) -> Result<Box<dyn Model>> {
    let mut networks = Networks::standard();
    let entry = NetworkEntry::new("small", small).input([3, 8, 8]).head("fc").cam_layer("features");
    networks.add(entry).map_err(candle_core::Error::wrap)?;
    networks.build(&networks.spec("small", 3)?, seed, &Device::Cpu)
}

fn images() -> Result<Tensor> {
    let values: Vec<f32> = (0..4 * 192).map(|i| (i as f32 * 0.61).sin()).collect();
    Tensor::from_vec(values, (4, 3, 8, 8), &Device::Cpu)
}

fn loss(model: &dyn Model) -> Result<Tensor> {
    let labels = Tensor::new(&[0u32, 1, 2, 0], &Device::Cpu)?;
    let logits = model.forward(&images()?, &mut Pass::train(0))?;
    cross_entropy(&logits, Targets::Labels(&labels), &CrossEntropyConfig::default())
}

fn values(model: &dyn Model, path: &str) -> Result<Vec<f32>> {
    model.parameters().get(path).expect("the network has it").detached().flatten_all()?.to_vec1()
}

#[test]
fn a_candle_network_learns_and_its_statistics_are_buffers() -> Result<()> {
    let model = network(1)?;
    let model = model.as_ref();
    let trainable: Vec<String> =
        model.parameters().trainable().iter().map(|p| p.path().to_owned()).collect();
    let expected = ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias"];
    assert_eq!(trainable, expected);
    assert_eq!(model.parameters().all().len(), 8);

    let before = loss(model)?;
    assert_ne!(values(model, "bn.running_mean")?, [0.0; 6]);
    // candle's layers take `backward` off its fast path, and the reason can be told.
    assert!(why_not_direct(&before).is_some());
    let gradients = backward(&before)?;
    for parameter in model.parameters().trainable() {
        let gradient = gradients.get(parameter.var()).expect("every parameter has a gradient");
        parameter.set(&(parameter.detached() - (gradient * 0.1)?)?)?;
    }
    let (before, after) = (before.to_scalar::<f32>()?, loss(model)?.to_scalar::<f32>()?);
    assert!(after < before, "{before} to {after}");
    // Evaluation leaves the statistics.
    let mean = values(model, "bn.running_mean")?;
    model.forward(&images()?, &mut Pass::eval())?;
    assert_eq!(values(model, "bn.running_mean")?, mean);
    Ok(())
}

#[test]
fn a_candle_network_is_seeded_and_its_weights_make_the_round_trip() -> Result<()> {
    let logits = |model: &dyn Model| -> Result<Vec<Vec<f32>>> {
        model.forward(&images()?, &mut Pass::eval())?.to_vec2()
    };
    let (source, same, other) = (network(1)?, network(1)?, network(2)?);
    assert_eq!(logits(&source)?, logits(&same)?);
    assert_ne!(logits(&source)?, logits(&other)?);
    loss(&source)?;
    let file: HashMap<String, Tensor> = tensors(source.parameters()).into_iter().collect();
    load(&other, &file, Strictness::Strict)?;
    assert_eq!(logits(&source)?, logits(&other)?);
    Ok(())
}

#[test]
fn hooks_see_the_maps_between_the_parts() -> Result<()> {
    let model = network(1)?;
    let mut seen = Vec::new();
    let mut hooks = Hooks::new();
    hooks.on_output("*", |layer, output| {
        seen.push((layer.to_owned(), output.dims().to_vec()));
        Ok(None)
    });
    let logits = model.forward(&images()?, &mut Pass::eval().with_hooks(&mut hooks))?;
    drop(hooks);
    assert_eq!(seen, [("features".to_owned(), vec![4, 6, 8, 8]), ("fc".to_owned(), vec![4, 3])]);
    let features = model.forward_features(&images()?, &mut Pass::eval())?;
    let parts = model.forward_head(&features, &mut Pass::eval())?;
    assert_eq!(parts.to_vec2::<f32>()?, logits.to_vec2::<f32>()?);
    let mut mask = Hooks::mask("features", [0, 1, 2, 3, 4, 5]);
    let masked = model.forward(&images()?, &mut Pass::eval().with_hooks(&mut mask))?;
    assert_eq!(masked.get(0)?.to_vec1::<f32>()?, values(&model, "fc.bias")?);
    Ok(())
}

#[test]
fn a_network_in_one_part_says_what_it_lacks() -> Result<()> {
    let net = CandleNet::new("probe", [3, 8, 8], 2, |vb| {
        let fc = candle_nn::linear(192, 2, vb.pp("fc"))?;
        Ok(candle_nn::func(move |images| images.flatten_from(1)?.apply(&fc)))
    })?;
    let error = net.forward_features(&images()?, &mut Pass::eval()).unwrap_err().to_string();
    assert!(error.contains("`CandleNet::in_two`"), "{error}");
    let error = net.head("fcc").unwrap_err().to_string();
    assert!(error.starts_with("`probe` has no layer `fcc` that could be its head"), "{error}");
    Ok(())
}

#[test]
fn a_module_gives_the_logits_of_evaluation() -> Result<()> {
    let model = build(&ModelSpec::new("gap_cnn_deep", 2).input([3, 8, 8]), 0, &Device::Cpu)?;
    let logits = model.forward(&images()?, &mut Pass::eval())?.to_vec2::<f32>()?;
    assert_eq!(AsModule::new(&model).forward(&images()?)?.to_vec2::<f32>()?, logits);
    assert_eq!(AsModule::new(model).forward(&images()?)?.to_vec2::<f32>()?, logits);
    Ok(())
}
