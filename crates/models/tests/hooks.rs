//! What hooks see, at every layer of every network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::layers::{BatchNorm2d, Conv2d, Conv2dOptions, ConvNorm};
use candle_vision_models::{
    Hooks, LayerHook, Model, ModelSpec, Networks, Parameters, Pass, PreparedLayers, build,
};
use candle_vision_ops::{
    CrossEntropyConfig, Targets, backward, cross_entropy, relu, relu6, why_not_direct,
};

/// One network of each kind of layers, quick to build.
const KINDS: [&str; 3] = ["gap_cnn_deep", "resnet9", "mobilenet_v2"];

fn network(name: &str) -> Result<Box<dyn Model>> {
    build(&ModelSpec::new(name, 3).input([3, 32, 32]), 1, &Device::Cpu)
}

fn images(batch: usize) -> Result<Tensor> {
    images_of(batch, 32)
}

fn images_of(batch: usize, side: usize) -> Result<Tensor> {
    let values = (0..batch * 3 * side * side).map(|i| (i as f32 * 0.7).sin()).collect();
    Tensor::from_vec(values, (batch, 3, side, side), &Device::Cpu)
}

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    assert_eq!(a.dims(), b.dims());
    (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()
}

/// Inputs and outputs of every layer, in order.
#[derive(Default)]
struct Everything {
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
}

impl LayerHook for Everything {
    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
        self.outputs.push((layer.to_owned(), output.detach()));
        Ok(output)
    }

    fn input(&mut self, layer: &str, input: Tensor) -> Result<Tensor> {
        self.inputs.push((layer.to_owned(), input.detach()));
        Ok(input)
    }
}

#[test]
fn every_layer_that_shows_its_output_shows_its_input() -> Result<()> {
    // VGG's linear layers alone take many seconds.
    for entry in Networks::standard().families().filter(|entry| entry.family_name() != "vgg") {
        let (name, side) = (entry.name(), entry.input_sizes().smallest.max(64));
        let model = build(&ModelSpec::new(name, 3).input([3, side, side]), 1, &Device::Cpu)?;
        let mut seen = Everything::default();
        model.forward(&images_of(1, side)?, &mut Pass::eval().with_hooks(&mut seen))?;
        let sorted = |list: &[(String, Tensor)]| {
            let mut paths: Vec<String> = list.iter().map(|(path, _)| path.clone()).collect();
            paths.sort_unstable();
            paths
        };
        assert_eq!(sorted(&seen.inputs), sorted(&seen.outputs), "{name}");
    }
    Ok(())
}

#[test]
fn a_closure_at_one_layer_sees_what_it_sees_at_all() -> Result<()> {
    for name in KINDS {
        let (model, images) = (network(name)?, images(1)?);
        let mut all = Everything::default();
        model.forward(&images, &mut Pass::eval().with_hooks(&mut all))?;
        let is_fused =
            |path: &str| ["relu", "pool", ".2", "residual"].iter().any(|part| path.contains(part));
        for (path, input) in all.inputs.iter().filter(|(path, _)| is_fused(path)).take(12) {
            let mut difference = None;
            let mut hooks = Hooks::new();
            hooks.on_input(path, |_, found| {
                difference = Some(largest_difference(found, input)?);
                Ok(None)
            });
            model.forward(&images, &mut Pass::eval().with_hooks(&mut hooks))?;
            drop(hooks);
            // All others stay fused, and round in other places.
            assert!(
                difference.is_some_and(|difference| difference < 1e-3),
                "{name}: {path}: {difference:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn an_activation_gets_what_a_pre_hook_would_see() -> Result<()> {
    for (name, activation, relu_path, below, plus) in [
        ("resnet18", relu as fn(&Tensor) -> Result<Tensor>, "relu", "bn1", None),
        ("resnet18", relu, "layer1.0.relu1", "layer1.0.bn1", None),
        // The sum, not the batch norm alone.
        ("resnet18", relu, "layer2.0.relu2", "layer2.0.bn2", Some("layer2.0.downsample.1")),
        ("mobilenet_v2", relu6, "features.0.2", "features.0.1", None),
        ("gap_cnn_deep", relu, "relu2", "bn2", None),
        ("resnet9", relu, "layer1.residual.relu1", "layer1.residual.bn1", None),
    ] {
        let mut seen = Everything::default();
        network(name)?.forward(&images(1)?, &mut Pass::eval().with_hooks(&mut seen))?;
        let get = |list: &[(String, Tensor)], path: &str| {
            list.iter().find(|(found, _)| found == path).expect("it ran").1.clone()
        };
        let mut expected = get(&seen.outputs, below);
        if let Some(shortcut) = plus {
            expected = (expected + get(&seen.outputs, shortcut))?;
        }
        let input = get(&seen.inputs, relu_path);
        assert!(largest_difference(&input, &expected)? < 1e-6, "{name}");
        assert!(
            input.flatten_all()?.min(0)?.to_scalar::<f32>()? < 0.0,
            "{name}: before the activation"
        );
        let output = get(&seen.outputs, relu_path);
        assert!(largest_difference(&activation(&input)?, &output)? < 1e-6, "{name}");
    }
    Ok(())
}

#[test]
fn an_input_that_is_replaced_is_what_the_activation_gets() -> Result<()> {
    let model = network("resnet18")?;
    let mut outputs = Everything::default();
    let mut hooks = Hooks::new();
    hooks.on_input("relu", |_, input| Ok(Some(input.neg()?)));
    let replaced = model.forward(&images(1)?, &mut Pass::eval().with_hooks(&mut hooks))?;
    let plain = model.forward(&images(1)?, &mut Pass::eval().with_hooks(&mut outputs))?;
    assert!(largest_difference(&replaced, &plain)? > 0.0);
    Ok(())
}

fn loss(model: &dyn Model, pass: Pass<'_>) -> Result<Tensor> {
    let mut pass = pass;
    let logits = model.forward(&images(2)?, &mut pass)?;
    let labels = Tensor::new(&[0u32, 2], &Device::Cpu)?;
    cross_entropy(&logits, Targets::Labels(&labels), &CrossEntropyConfig::default())
}

fn train() -> Pass<'static> {
    Pass::train(0)
}

#[test]
fn gradient_hooks_keep_backward_fast_and_its_values() -> Result<()> {
    for name in KINDS {
        let model = network(name)?;
        let plain = backward(&loss(model.as_ref(), train())?)?;
        let mut paths = Everything::default();
        model.forward(&images(1)?, &mut Pass::eval().with_hooks(&mut paths))?;
        let every = paths.outputs.iter().map(|(path, _)| path.as_str());
        // At every layer, and at activations alone, behind which the rest stays fused.
        let activations = |path: &&str| path.contains("relu");
        let choices: [Vec<&str>; 2] =
            [every.clone().collect(), every.filter(activations).collect()];
        for (at, exact) in choices.iter().zip([false, true]) {
            let seen = Arc::new(Mutex::new(BTreeMap::new()));
            let mut hooks = Hooks::new();
            for path in at {
                let seen = seen.clone();
                hooks.on_gradient(path, move |layer, gradient| {
                    let shape = gradient.dims().to_vec();
                    seen.lock().expect("not poisoned").insert(layer.to_owned(), shape);
                    Ok(None)
                });
            }
            let loss = loss(model.as_ref(), train().with_hooks(&mut hooks))?;
            assert_eq!(why_not_direct(&loss), None, "{name}");
            let hooked = backward(&loss)?;
            // The walk of candle's below calls the hooks again.
            let seen = seen.lock().expect("not poisoned").clone();
            assert_eq!(seen.len(), at.len(), "{name}: {seen:?}");
            for (path, output) in &paths.outputs {
                if let Some(shape) = seen.get(path) {
                    assert_eq!(shape[1..], output.dims()[1..], "{name}: {path}");
                }
            }
            let walked = loss.backward()?;
            for parameter in model.parameters().trainable() {
                let path = parameter.path();
                let get = |gradients: &candle_core::backprop::GradStore| {
                    gradients.get(parameter.var()).cloned().expect("it is trained")
                };
                let (plain, hooked, walked) = (get(&plain), get(&hooked), get(&walked));
                let size = plain.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
                let difference = largest_difference(&plain, &hooked)?;
                // Ops that are taken apart round in other places.
                let allowed = if exact { 0.0 } else { 1e-3 * size + 1e-6 };
                assert!(difference <= allowed, "{name}: {path}: {difference} of {size}");
                assert!(
                    largest_difference(&walked, &hooked)? <= 1e-3 * size + 1e-6,
                    "{name}: {path}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_hook_that_returns_another_shape_is_named() -> Result<()> {
    let model = network("resnet18")?;
    let failing = |hooks: &mut Hooks<'_>| {
        let result = model.forward(&images(2)?, &mut Pass::eval().with_hooks(hooks));
        Ok::<String, candle_core::Error>(result.expect_err("another shape").to_string())
    };
    let mut hooks = Hooks::new();
    hooks.on_output("layer1.0.conv1", |_, output| Ok(Some(output.narrow(1, 0, 3)?)));
    let message = failing(&mut hooks)?;
    let expected = "the hook on the output of layer `layer1.0.conv1` returned F32 of shape \
                    [2, 3, 8, 8], expected F32 of shape [2, 64, 8, 8]";
    assert!(message.contains(expected), "{message}");

    let mut hooks = Hooks::new();
    hooks.on_input("fc", |_, input| Ok(Some(input.sum_all()?)));
    let message = failing(&mut hooks)?;
    assert!(
        message.contains("the hook on the input of layer `fc` returned F32 of shape []"),
        "{message}"
    );

    let mut hooks = Hooks::new();
    hooks.on_output("layer2", |_, output| Ok(Some(output.narrow(0, 0, 1)?)));
    assert!(failing(&mut hooks)?.contains("layer `layer2` returned F32 of shape [1, 128"));

    let mut hooks = Hooks::new();
    hooks.on_output("avgpool", |_, output| Ok(Some(output.to_dtype(DType::F64)?)));
    assert!(failing(&mut hooks)?.contains("layer `avgpool` returned F64"));

    /// A hook with a state of its own is held to the same.
    struct Halved;
    impl LayerHook for Halved {
        fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
            if layer == "layer3" { output.narrow(2, 0, 1) } else { Ok(output) }
        }
    }
    let error = model.forward(&images(1)?, &mut Pass::eval().with_hooks(&mut Halved));
    assert!(error.expect_err("another shape").to_string().contains("layer `layer3` returned"));
    Ok(())
}

#[test]
fn a_gradient_hook_that_returns_another_shape_is_named() -> Result<()> {
    let model = network("gap_cnn")?;
    for (layer, expected) in [("conv2", "[2, 32, 16, 16]"), ("fc", "[2, 3]")] {
        let mut hooks = Hooks::new();
        hooks.on_gradient(layer, |_, gradient| Ok(Some(gradient.sum_all()?)));
        let loss = loss(model.as_ref(), train().with_hooks(&mut hooks))?;
        let message = backward(&loss).expect_err("another shape").to_string();
        let named =
            format!("the gradient hook on layer `{layer}` returned F32 of shape [], expected");
        assert!(message.contains(&named) && message.contains(expected), "{message}");
    }
    Ok(())
}

/// One convolution of which two batch norms are made use, as for two domains.
#[test]
fn a_convolution_with_two_batch_norms_is_prepared_for_each() -> Result<()> {
    let parameters = Parameters::new();
    let vb = parameters.builder(3, DType::F32, &Device::Cpu);
    let conv = Conv2d::new(Conv2dOptions::new(3, 4, 3).padding(1).bias(false), vb.pp("conv"))?;
    let norms = [BatchNorm2d::new(4, vb.pp("bn1"))?, BatchNorm2d::new(4, vb.pp("bn2"))?];
    let set = |path: &str, value: f64| -> Result<()> {
        let parameter = parameters.get(path).expect("it was made");
        parameter.set(&(parameter.detached().ones_like()? * value)?)
    };
    set("bn1.running_var", 4.0)?;
    set("bn2.bias", 5.0)?;
    let pairs = norms.map(|norm| ConvNorm::of(conv.clone(), norm));
    let pairs = pairs.into_iter().collect::<Result<Vec<_>>>()?;
    let x = images(1)?.permute((0, 2, 3, 1))?.contiguous()?;
    let prepared = PreparedLayers::new();
    for _ in 0..2 {
        for pair in &pairs {
            let plain = pair.forward(&x, &mut Pass::eval())?;
            let mut pass = Pass::eval().with_prepared(&prepared);
            let folded = pair.forward(&x, &mut pass)?;
            assert!(largest_difference(&plain, &folded)? < 1e-4);
        }
    }
    Ok(())
}
