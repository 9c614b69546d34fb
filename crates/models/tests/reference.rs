//! Logits and counts against torchvision, on weights that any language can rebuild.

use candle_vision_test_support::reference;

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::parity::fill;
use candle_vision_models::{AuxiliaryOutputs, Model, ModelSpec, Pass, build};

#[path = "reference/classic.rs"]
mod classic;
#[path = "reference/mobile.rs"]
mod mobile;

/// The files of reference values, without their endings. Where two have a network, the first one counts: `classic` has
/// the auxiliary classifiers, which `models` lacks.
const GROUPS: [&str; 5] = ["classic", "resnet", "mobile", "tokens", "models"];

/// The network with the recipe's weights.
fn filled(spec: &ModelSpec) -> Result<Box<dyn Model>> {
    filled_by(spec, 1.0)
}

/// The same with the factor `gain` of the kernels.
fn filled_by(spec: &ModelSpec, gain: f64) -> Result<Box<dyn Model>> {
    let model = build(spec, 0, &Device::Cpu)?;
    fill(&*model, gain)?;
    Ok(model)
}

fn cases(group: &str) -> Vec<serde_json::Value> {
    reference::json(&format!("{group}.json")).as_array().expect("the file is a list").clone()
}

/// The file that has the network called `name`, and what it says of it.
fn find_case(name: &str) -> Option<(&'static str, serde_json::Value)> {
    let of_group = |group| cases(group).into_iter().map(move |case| (group, case));
    GROUPS.into_iter().flat_map(of_group).find(|(_, case)| case["model"] == name)
}

#[track_caller]
fn check(name: &str) -> Result<()> {
    let [logits, difference] = errors(name)?;
    assert!(logits <= 1e-4, "{name}: relative error {logits:.2e} of the logits");
    // What the images differ in must agree too: the logits' common part hides small errors.
    assert!(difference <= 1e-3, "{name}: relative error {difference:.2e} of the difference");
    Ok(())
}

/// Relative errors of the logits, and of the difference between those of the two images.
#[track_caller]
fn errors(name: &str) -> Result<[f64; 2]> {
    let (group, case) = find_case(name).expect("the model has a case");
    let shape: Vec<usize> =
        serde_json::from_value(case["input"].clone()).expect("a shape is a list of sizes");
    let gain = case["gain"].as_f64().expect("the case has a gain");
    let spec = ModelSpec::new(name, 10).input([shape[1], shape[2], shape[3]]);
    let model = filled_by(&spec, gain)?;
    let parameters = model.parameters();
    assert_eq!(parameters.count() as u64, case["parameters"].as_u64().unwrap_or(0), "{name}");
    assert_eq!(parameters.all().len() as u64, case["keys"].as_u64().unwrap_or(0), "{name}");

    let images = reference::image_batch(&format!("{name}.input"), &shape)?;
    let logits = model.forward(&images, &mut Pass::eval())?;
    let tensors = reference::tensors(&format!("{group}.safetensors"));
    let expected = &tensors[&format!("{name}.logits")];
    let difference = |t: &Tensor| t.get(0)?.sub(&t.get(1)?);
    let of_difference = reference::relative_error(&difference(&logits)?, &difference(expected)?)?;
    Ok([reference::relative_error(&logits, expected)?, of_difference])
}

#[test]
fn resnet18_is_torchvisions() -> Result<()> {
    check("resnet18")
}

#[test]
fn resnet34_is_torchvisions() -> Result<()> {
    check("resnet34")
}

#[test]
fn bottleneck_networks_are_torchvisions() -> Result<()> {
    ["resnet50", "resnext50_32x4d", "wide_resnet50_2"].into_iter().try_for_each(check)
}

#[test]
fn mobilenet_v2_is_torchvisions() -> Result<()> {
    check("mobilenet_v2")
}

#[test]
fn mobilenet_v3_is_torchvisions() -> Result<()> {
    ["mobilenet_v3_small", "mobilenet_v3_large"].into_iter().try_for_each(check)
}

#[test]
fn efficientnet_is_torchvisions() -> Result<()> {
    ["efficientnet_b0", "efficientnet_v2_s"].into_iter().try_for_each(check)
}

#[test]
fn efficientnet_lite_is_timms() -> Result<()> {
    ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
        .into_iter()
        .try_for_each(check)
}

#[test]
fn regnet_is_torchvisions() -> Result<()> {
    ["regnet_y_400mf", "regnet_x_400mf"].into_iter().try_for_each(check)
}

#[test]
fn convnext_is_torchvisions() -> Result<()> {
    check("convnext_tiny")
}

#[test]
fn alexnet_is_torchvisions() -> Result<()> {
    check("alexnet")
}

/// Every network that somebody else has published or defined. Those of this project alone have no values.
#[test]
#[ignore = "builds networks of up to 645 million parameters; `cargo xtask parity-all` runs it"]
#[expect(clippy::print_stdout, reason = "the test takes long, and says how far it is")]
fn every_row_has_its_values() -> Result<()> {
    for entry in &candle_vision_models::Networks::standard() {
        let name = entry.name();
        if find_case(name).is_some() {
            let [logits, difference] = errors(name)?;
            println!("{name}: {logits:.2e}, difference {difference:.2e}");
            assert!(logits <= 1e-4 && difference <= 1e-3, "{name}");
        } else {
            assert!(entry.published_weights().is_empty(), "{name} has no values to compare with");
        }
    }
    Ok(())
}

#[test]
fn vit_is_torchvisions() -> Result<()> {
    check("vit_b_16")
}

#[test]
fn vit_with_other_names_is_timms() -> Result<()> {
    ["deit_tiny_patch16_224", "vit_small_patch14_dinov2"].into_iter().try_for_each(check)
}

#[test]
fn swin_is_torchvisions() -> Result<()> {
    check("swin_t")
}

#[test]
fn small_networks_have_their_published_sizes() -> Result<()> {
    let count = |spec: ModelSpec| {
        Ok::<_, candle_core::Error>(build(&spec, 0, &Device::Cpu)?.parameters().count())
    };
    assert_eq!(count(ModelSpec::new("mlp", 10))?, 101_770);
    assert_eq!(count(ModelSpec::new("mlp", 10).input([3, 32, 32]))?, 394_634);
    assert_eq!(count(ModelSpec::new("resnet18", 1000))?, 11_689_512);
    assert_eq!(count(ModelSpec::new("alexnet", 1000))?, 61_100_840);
    // 896 + 18,496 + 73,856 for the convolutions, 1,049,088 and 5,130 for the linear layers.
    assert_eq!(count(ModelSpec::new("simple_cnn", 10))?, 1_147_466);
    Ok(())
}

#[test]
fn a_channels_last_view_gives_the_same_logits() -> Result<()> {
    let model = filled(&ModelSpec::new("gap_cnn_deep", 2))?;
    let images = reference::image_batch("layout", &[2, 3, 33, 21])?;
    let view = images.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?;
    let plain = model.forward(&images, &mut Pass::eval())?;
    let viewed = model.forward(&view, &mut Pass::eval())?;
    assert_eq!(plain.to_vec2::<f32>()?, viewed.to_vec2::<f32>()?);
    Ok(())
}

/// The smallest network of each family, for three classes, and small images where it takes such. Those whose
/// linear layers alone take seconds are left out.
fn small_specs(side: usize) -> Vec<ModelSpec> {
    let networks = candle_vision_models::Networks::standard();
    let slow = |name: &str| ["alexnet", "vgg"].iter().any(|slow| name.starts_with(slow));
    // Bottleneck blocks have code of their own.
    let more = networks.get("resnet50").into_iter();
    let quick = networks.families().chain(more).filter(|entry| !slow(entry.name()));
    let specs = quick.map(|entry| {
        let spec = entry.spec(3);
        let (sizes, [channels, height, _]) = (entry.input_sizes(), spec.input);
        let side = side.max(sizes.smallest).min(height);
        spec.input([channels, side, side])
    });
    specs.collect()
}

#[test]
fn every_network_runs_and_learns_on_a_batch() -> Result<()> {
    use candle_vision_ops::{CrossEntropyConfig, Targets, cross_entropy};
    for spec in small_specs(48) {
        // Its noise would hide what six small steps learn.
        let spec = spec.dropout(0.0);
        let name = &spec.architecture;
        let model = build(&spec, 1, &Device::Cpu)?;
        let [channels, height, width] = spec.input;
        let images = reference::image_batch("batch", &[6, channels, height, width])?;
        let labels = Tensor::new(&[0u32, 1, 2, 0, 1, 2], &Device::Cpu)?;
        let mut losses = Vec::new();
        for step in 0..6 {
            let mut pass = Pass::train(step);
            let of = |logits: &Tensor| {
                let targets = Targets::Labels(&labels);
                cross_entropy(logits, targets, &CrossEntropyConfig::default())
            };
            let AuxiliaryOutputs { logits, auxiliary } =
                model.forward_auxiliary(&images, &mut pass)?;
            let mut loss = of(&logits)?;
            for (logits, weight) in auxiliary {
                loss = (loss + (of(&logits)? * weight)?)?;
            }
            losses.push(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            let gradients = loss.backward()?;
            for parameter in model.parameters().trainable() {
                let var = parameter.var();
                let gradient = gradients
                    .get(var)
                    .unwrap_or_else(|| panic!("{name}: no gradient for {}", parameter.path()));
                parameter.set(&(var.as_tensor() - (gradient * 0.001)?)?)?;
            }
        }
        // The loss of Inception v3 jumps about at first, in PyTorch too: its head begins with large weights.
        assert!(losses[5] < losses[0] || name == "inception_v3", "{name}: {losses:?}");
    }
    Ok(())
}

#[test]
fn prepared_layers_change_nothing_but_the_rounding() -> Result<()> {
    use candle_vision_models::PreparedLayers;
    for spec in small_specs(64) {
        let name = &spec.architecture;
        let model = filled(&spec)?;
        let [channels, height, width] = spec.input;
        let prepared = PreparedLayers::new();
        for batch in [1, 3] {
            let images = reference::image_batch("prepared", &[batch, channels, height, width])?;
            let plain = model.forward(&images, &mut Pass::eval())?;
            let logits = model.forward(&images, &mut Pass::eval().with_prepared(&prepared))?;
            reference::assert_close(name, &logits, &plain, 1e-4);
        }
    }
    Ok(())
}

/// Makes a leaf of the output of one shortcut.
struct Shortcut(Option<candle_core::Var>);

impl candle_vision_models::LayerHook for Shortcut {
    fn wants(&self, layer: &str) -> bool {
        layer == "layer4.0.downsample.1"
    }

    fn output(&mut self, _: &str, output: Tensor) -> Result<Tensor> {
        let leaf = candle_core::Var::from_tensor(&output)?;
        Ok(self.0.insert(leaf).as_tensor().clone())
    }
}

/// A gradient that is asked for is not lost, and training does not take what was prepared.
#[test]
fn prepared_layers_leave_gradients_and_training_alone() -> Result<()> {
    use candle_core::Var;
    use candle_vision_models::PreparedLayers;
    let model = filled(&ModelSpec::new("resnet18", 4))?;
    let prepared = PreparedLayers::new();
    let images = Var::from_tensor(&reference::image_batch("prepared", &[2, 3, 32, 32])?)?;
    let logits = model.forward(&images, &mut Pass::eval().with_prepared(&prepared))?;
    assert!(logits.sum_all()?.backward()?.get(&images).is_some());
    // A hook that makes a leaf of the shortcut alone gets its gradient.
    let mut leaf = Shortcut(None);
    let pass = Pass::eval().with_prepared(&prepared);
    let logits = model.forward(&images.as_detached_tensor(), &mut pass.with_hooks(&mut leaf))?;
    let gradients = logits.sum_all()?.backward()?;
    assert!(gradients.get(leaf.0.as_ref().expect("the shortcut was passed")).is_some());
    // A hook between a convolution and its batch norm sees what it would without any of this.
    let between = |pass: Pass| -> Result<Tensor> {
        let mut seen = candle_vision_models::RecordShapes::default();
        model.forward(&images.as_detached_tensor(), &mut pass.with_hooks(&mut seen))
    };
    let plain = between(Pass::eval())?;
    model.forward(&images.as_detached_tensor(), &mut Pass::eval().with_prepared(&prepared))?;
    let hooked = between(Pass::eval().with_prepared(&prepared))?;
    reference::assert_close("hooked", &hooked, &plain, 1e-4);
    model.forward(&images.as_detached_tensor(), &mut Pass::eval().with_prepared(&prepared))?;
    let mut pass = Pass::train(0).with_prepared(&prepared);
    let logits = model.forward(&images.as_detached_tensor(), &mut pass)?;
    let gradients = logits.sqr()?.sum_all()?.backward()?;
    for parameter in model.parameters().trainable() {
        assert!(gradients.get(parameter.var()).is_some(), "{}", parameter.path());
    }
    Ok(())
}

/// In training, frozen convolutions are kept and learning ones are not.
#[test]
fn frozen_layers_are_prepared_in_training_too() -> Result<()> {
    use candle_vision_models::PreparedLayers;
    let model = filled(&ModelSpec::new("resnet18", 4))?;
    model.parameters().freeze("")?;
    model.parameters().unfreeze(model.head())?;
    let images = reference::image_batch("prepared", &[4, 3, 64, 64])?;
    let prepared = PreparedLayers::new();
    let train = || Pass::train(0);
    let plain = model.forward(&images, &mut train())?;
    let kept = model.forward(&images, &mut train().with_prepared(&prepared))?;
    reference::assert_close("kept", &kept, &plain, 1e-4);
    let gradients = kept.sqr()?.sum_all()?.backward()?;
    let head = model.parameters().get("fc.weight").expect("resnet18 has fc");
    assert!(gradients.get(head.var()).is_some());
    // A change of a frozen kernel is not seen, as documented: it was kept. Once it learns, it is.
    let kernel = model.parameters().get("layer3.0.conv1.weight").expect("resnet18 has layer3");
    kernel.set(&kernel.detached().zeros_like()?)?;
    let unseen = model.forward(&images, &mut train().with_prepared(&prepared))?;
    reference::assert_close("unseen", &unseen, &kept, 1e-6);
    model.parameters().unfreeze("layer3")?;
    let seen = model.forward(&images, &mut train().with_prepared(&prepared))?;
    assert!(reference::relative_error(&seen, &plain)? > 1e-3);
    Ok(())
}

#[test]
fn train_and_eval_differ_where_there_is_batch_norm() -> Result<()> {
    let model = filled(&ModelSpec::new("resnet18", 4))?;
    let images = reference::image_batch("modes", &[2, 3, 32, 32])?;
    let before = model.parameters().get("bn1.running_mean").map(|p| p.detached());
    let before = before.expect("resnet18 has bn1").copy()?;
    let eval = model.forward(&images, &mut Pass::eval())?;
    let mut pass = Pass::train(0);
    let train = model.forward(&images, &mut pass)?;
    assert!(reference::relative_error(&train, &eval)? > 1e-2);
    let after = model.parameters().get("bn1.running_mean").map(|p| p.detached());
    assert!(reference::relative_error(&after.expect("resnet18 has bn1"), &before)? > 1e-3);
    Ok(())
}

/// The frozen batch norm's choice, bit for bit.
#[test]
fn frozen_batch_norm_keeps_or_updates_its_statistics() -> Result<()> {
    use candle_vision_models::FrozenBatchNorm::{KeepStatistics, UpdateStatistics};
    let images = reference::image_batch("frozen", &[2, 3, 32, 32])?;
    for (choice, moves) in [(KeepStatistics, false), (UpdateStatistics, true)] {
        let model = filled(&ModelSpec::new("resnet18", 4))?;
        model.parameters().freeze("")?;
        model.parameters().unfreeze("fc")?;
        let statistics = || -> Result<Vec<f32>> {
            let parameter = model.parameters().get("layer3.0.bn1.running_var");
            parameter.expect("resnet18 has it").detached().to_vec1()
        };
        let before = statistics()?;
        let mut pass = Pass::train(0).frozen_batch_norm(choice);
        model.forward(&images, &mut pass)?;
        assert_eq!(statistics()? != before, moves, "{choice:?}");
    }
    Ok(())
}

#[test]
fn a_wrong_image_is_an_error_that_names_the_shapes() -> Result<()> {
    let grey = Tensor::zeros((1, 1, 28, 28), DType::F32, &Device::Cpu)?;
    let message = |name: &str| -> Result<String> {
        let model = build(&ModelSpec::new(name, 2), 0, &Device::Cpu)?;
        let error = model.forward(&grey, &mut Pass::eval()).expect_err("the image is grey");
        Ok(error.to_string())
    };
    for name in ["resnet18", "simple_cnn"] {
        let message = message(name)?;
        assert!(message.contains("[batch, 3, height, width]"), "{message}");
        assert!(message.contains("[1, 1, 28, 28]"), "{message}");
    }
    assert!(
        build(&ModelSpec::new("resnet81", 2), 0, &Device::Cpu)
            .err()
            .is_some_and(|error| error.to_string().contains("did you mean `resnet18`"))
    );
    Ok(())
}
