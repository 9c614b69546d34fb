//! The older networks: VGG, SqueezeNet, GoogLeNet, Inception v3, DenseNet, ShuffleNet v2, MNASNet and LeNet-5.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::weights::{self, Strictness};
use candle_vision_models::{
    AuxiliaryOutputs, DenseNet, DenseNetConfig, GoogLeNet, GoogLeNetConfig, Model, ModelSpec,
    ParameterBuilder, Parameters, Pass, PreparedLayers, Vgg, VggConfig, build,
};
use candle_vision_ops::{
    CrossEntropyConfig, Targets, add, backward, cross_entropy, is_direct, scale,
};
use candle_vision_test_support::reference;
use serde_json::Value;

use super::{cases, check, fill};

fn input(case: &Value) -> Vec<usize> {
    serde_json::from_value(case["input"].clone()).expect("a shape is a list of sizes")
}

fn builder(seed: u64) -> ParameterBuilder {
    Parameters::new().builder(seed, DType::F32, &Device::Cpu)
}

#[test]
fn squeezenet_is_torchvisions() -> Result<()> {
    ["squeezenet1_0", "squeezenet1_1"].into_iter().try_for_each(check)
}

#[test]
fn googlenet_is_torchvisions() -> Result<()> {
    check("googlenet")
}

#[test]
fn inception_v3_is_torchvisions() -> Result<()> {
    check("inception_v3")
}

#[test]
fn densenet_is_torchvisions() -> Result<()> {
    check("densenet121")
}

#[test]
fn shufflenet_v2_is_torchvisions() -> Result<()> {
    ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0"].into_iter().try_for_each(check)
}

#[test]
fn mnasnet_is_torchvisions() -> Result<()> {
    ["mnasnet0_5", "mnasnet1_3"].into_iter().try_for_each(check)
}

#[test]
fn lenet_is_pytorchs() -> Result<()> {
    check("lenet5")
}

#[test]
fn plain_and_residual_networks_for_cifar_are_pytorchs() -> Result<()> {
    ["resnet20_cifar", "plain20_cifar"].into_iter().try_for_each(check)
}

#[test]
fn airbench_is_the_published_scripts() -> Result<()> {
    ["airbench94", "airbench96"].into_iter().try_for_each(check)
}

/// The paper's table has 0.27, 0.46, 0.66, 0.85 and 1.7 million.
#[test]
fn networks_for_cifar_have_as_many_parameters_as_the_paper_says() -> Result<()> {
    let counts = [
        ("resnet20_cifar", 269_722),
        ("resnet32_cifar", 464_154),
        ("resnet44_cifar", 658_586),
        ("resnet56_cifar", 853_018),
        ("resnet110_cifar", 1_727_962),
        ("plain20_cifar", 269_722),
        ("plain56_cifar", 853_018),
    ];
    for (name, expected) in counts {
        let model = build(&ModelSpec::new(name, 10), 0, &Device::Cpu)?;
        assert_eq!(model.parameters().count(), expected, "{name}");
    }
    Ok(())
}

/// The network called `name` for ten classes, without dropout. VGG has small linear layers.
fn small(name: &str, input: [usize; 3]) -> Result<Box<dyn Model>> {
    let spec = ModelSpec::new(name, 10).input(input).dropout(0.0);
    if name == "vgg11_bn" {
        let config = VggConfig::vgg11().batch_norm(true).hidden(64);
        return Ok(Box::new(Vgg::new(config.spec(&spec), builder(0))?));
    }
    build(&spec, 0, &Device::Cpu)
}

/// The logits, the loss of a training step, and for each gradient its norm and its product with other numbers.
#[track_caller]
fn check_step(name: &str) -> Result<()> {
    let case = cases("classic_steps").into_iter().find(|case| case["model"] == name);
    let case = case.expect("the network has a case");
    let shape = input(&case);
    let model = small(name, [shape[1], shape[2], shape[3]])?;
    fill(&*model, case["gain"].as_f64().expect("a gain"))?;

    let images = reference::image_batch(&format!("{name}.step.x"), &shape)?;
    let expected: Vec<Vec<f32>> =
        serde_json::from_value(case["logits"].clone()).expect("a row for each image");
    let expected = Tensor::new(expected, &Device::Cpu)?;
    let logits = model.forward(&images, &mut Pass::eval())?;
    reference::assert_close(name, &logits, &expected, 1e-4);
    let prepared = PreparedLayers::new();
    let logits = model.forward(&images, &mut Pass::eval().with_prepared(&prepared))?;
    reference::assert_close(name, &logits, &expected, 1e-4);

    let labels = reference::labels(&format!("{name}.step.y"), shape[0], 10)?;
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
    let expected = case["loss"].as_f64().expect("a loss");
    let found = f64::from(loss.to_scalar::<f32>()?);
    assert!((found - expected).abs() <= 1e-4 * expected, "{name}: loss {found}, not {expected}");

    let gradients = backward(&loss)?;
    let expected: BTreeMap<String, [f64; 2]> =
        serde_json::from_value(case["gradients"].clone()).expect("two numbers for each");
    // The gradient of a bias in front of a batch norm is rounding noise.
    let largest = expected.values().map(|[norm, _]| *norm).fold(0.0, f64::max);
    let weights = model.parameters().weights();
    assert_eq!(weights.len(), expected.len(), "{name}");
    let (mut worst, mut squares) = ((0.0, String::new()), [0.0, 0.0]);
    for parameter in weights {
        let path = parameter.path();
        let gradient = gradients.get(parameter.var()).expect("a gradient for every parameter");
        let gradient = gradient.to_dtype(DType::F64)?;
        let signed = reference::signed(&format!("{name}.step.{path}"), gradient.dims())?;
        let product = (&gradient * signed.to_dtype(DType::F64)?)?.sum_all()?.to_scalar::<f64>()?;
        let norm = gradient.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        let [their_norm, their_product] = expected[path];
        let error = (norm - their_norm).abs().max((product - their_product).abs());
        squares = [squares[0] + error.powi(2), squares[1] + their_norm.powi(2)];
        let error = error / (their_norm + 1e-4 * largest);
        if error > worst.0 {
            worst = (error, path.to_owned());
        }
    }
    let whole = (squares[0] / squares[1]).sqrt();
    // PyTorch's own difference between `f32` and `f64` is 2.2e-2 for the whole of Inception v3, whose auxiliary
    // classifier normalises four numbers, and up to 3e-2 for one tensor of it or of GoogLeNet.
    let tolerance = if name == "inception_v3" { 6e-2 } else { 2e-2 };
    assert!(whole < tolerance, "{name}: the gradients differ by {whole}");
    assert!(worst.0 < 6e-2, "{name}: the gradient of {} differs by {}", worst.1, worst.0);
    Ok(())
}

#[test]
fn a_step_of_vgg_is_torchvisions() -> Result<()> {
    check_step("vgg11_bn")
}

#[test]
fn a_step_of_squeezenet_is_torchvisions() -> Result<()> {
    check_step("squeezenet1_1")
}

#[test]
fn a_step_of_googlenet_with_its_auxiliary_classifiers_is_torchvisions() -> Result<()> {
    check_step("googlenet")
}

#[test]
#[ignore = "images of 299x299 pixels, which torchvision's auxiliary classifier needs"]
fn a_step_of_inception_v3_with_its_auxiliary_classifier_is_torchvisions() -> Result<()> {
    check_step("inception_v3")
}

#[test]
fn a_step_of_densenet_is_torchvisions() -> Result<()> {
    check_step("densenet121")
}

#[test]
fn a_step_of_shufflenet_v2_is_torchvisions() -> Result<()> {
    check_step("shufflenet_v2_x0_5")
}

#[test]
fn a_step_of_mnasnet_is_torchvisions() -> Result<()> {
    check_step("mnasnet0_5")
}

#[test]
fn steps_of_plain_and_residual_networks_for_cifar_are_pytorchs() -> Result<()> {
    ["resnet20_cifar", "plain20_cifar", "airbench94", "airbench96"]
        .into_iter()
        .try_for_each(check_step)
}

#[test]
fn a_step_of_lenet_is_pytorchs() -> Result<()> {
    check_step("lenet5")
}

#[test]
fn logits_are_the_head_of_the_features() -> Result<()> {
    for (name, input, features) in [
        ("vgg11_bn", [3, 32, 32], [2, 512, 1, 1]),
        ("squeezenet1_1", [3, 64, 48], [2, 512, 3, 2]),
        ("googlenet", [1, 64, 64], [2, 1024, 2, 2]),
        ("inception_v3", [3, 75, 107], [2, 2048, 1, 2]),
        ("densenet121", [3, 64, 96], [2, 1024, 2, 3]),
        ("shufflenet_v2_x0_5", [4, 64, 64], [2, 1024, 2, 2]),
        ("mnasnet0_5", [3, 64, 32], [2, 1280, 2, 1]),
        ("lenet5", [1, 28, 28], [2, 16, 5, 5]),
        ("lenet5", [3, 32, 40], [2, 16, 5, 7]),
    ] {
        let model = small(name, input)?;
        let [channels, height, width] = input;
        let images = reference::image_batch("parts", &[2, channels, height, width])?;
        for pass in [Pass::eval as fn() -> Pass<'static>, || Pass::train(3)] {
            let whole = model.forward(&images, &mut pass())?;
            let mut pass = pass();
            let maps = model.forward_features(&images, &mut pass)?;
            assert_eq!(maps.dims(), features, "{name}");
            let parts = model.forward_head(&maps, &mut pass)?;
            assert_eq!(whole.to_vec2::<f32>()?, parts.to_vec2::<f32>()?, "{name}");
        }
    }
    Ok(())
}

fn stored(model: &dyn Model) -> HashMap<String, Tensor> {
    weights::tensors(model.parameters()).into_iter().collect()
}

#[track_caller]
fn assert_same(one: &dyn Model, other: &dyn Model, path: &str) -> Result<()> {
    let values = |model: &dyn Model| {
        model.parameters().get(path).expect("it has the parameter").detached().flatten_all()
    };
    assert_eq!(values(one)?.to_vec1::<f32>()?, values(other)?.to_vec1::<f32>()?, "{path}");
    Ok(())
}

/// `densenet121-a639ec97.pth` and its like.
#[test]
fn densenets_published_names_are_read() -> Result<()> {
    let config = || DenseNetConfig::new([2, 1, 1, 1]).growth_rate(4).init_features(8);
    let (one, other) = (DenseNet::new(config(), builder(1))?, DenseNet::new(config(), builder(2))?);
    let older = |name: String| {
        let dotted = ["norm1", "norm2", "conv1", "conv2"]
            .into_iter()
            .find(|kind| name.contains("denselayer") && name.split('.').any(|part| part == *kind));
        match dotted {
            Some(kind) => name.replace(kind, &format!("{}.{}", &kind[..4], &kind[4..])),
            None => name,
        }
    };
    for prefix in ["", "module."] {
        let renamed = stored(&one).into_iter();
        let renamed = renamed.filter(|(name, _)| !name.ends_with("num_batches_tracked"));
        let file: HashMap<String, Tensor> =
            renamed.map(|(name, tensor)| (format!("{prefix}{}", older(name)), tensor)).collect();
        let report = weights::load(&other, &file, Strictness::Strict)?;
        // Two norms of four tensors, two convolutions, in five layers.
        assert_eq!(report.older_names.len(), 5 * (2 * 4 + 2));
        assert!(report.to_string().contains("50 of them under an older name"), "{report}");
        assert_same(&one, &other, "features.denseblock1.denselayer2.norm2.running_var")?;
        assert_same(&one, &other, "features.denseblock4.denselayer1.conv1.weight")?;
    }
    assert!(weights::load(&other, &stored(&one), Strictness::Strict)?.older_names.is_empty());
    Ok(())
}

/// How many parameters the auxiliary classifiers of GoogLeNet have.
fn new_auxiliary(model: &dyn Model) -> usize {
    let all = model.parameters().all();
    let paths = all.iter().map(|parameter| parameter.path());
    paths.filter(|path| path.starts_with("aux")).count()
}

#[test]
fn auxiliary_classifiers_of_a_file_are_taken_or_left() -> Result<()> {
    let config = |classes| GoogLeNetConfig::new().num_classes(classes);
    let published = GoogLeNet::new(config(7), builder(1))?;
    let file = stored(&published);
    // A network without them leaves them out.
    let without = GoogLeNet::new(config(7).aux_logits(false), builder(2))?;
    let report = weights::load(&without, &file, Strictness::Strict)?;
    assert!(report.left_out.iter().all(|name| name.starts_with("aux")), "{report}");
    assert_eq!(report.left_out.len(), 2 * 9, "{report}");
    // Where the classes differ, only the last layer of each is new.
    let other = GoogLeNet::new(config(3), builder(3))?;
    let report = weights::load(&other, &file, Strictness::ExceptHead)?;
    let last = ["aux1.fc2.weight", "aux1.fc2.bias", "aux2.fc2.weight", "aux2.fc2.bias"];
    assert_eq!(report.new_auxiliary, last);
    assert_eq!(report.new_head, ["fc.weight", "fc.bias"]);
    assert_same(&published, &other, "aux2.fc1.weight")?;
    // A file without them, as torchvision saves an evaluated network, does for fine-tuning.
    let report = weights::load(&other, &stored(&without), Strictness::ExceptHead)?;
    assert!(report.new_auxiliary.iter().any(|name| name == "aux1.conv.conv.weight"), "{report}");
    assert_same(&without, &other, "inception5b.branch1.conv.weight")?;
    // It does for evaluation too, which runs none of them, but not as a checkpoint to go on from.
    assert!(weights::load(&published, &stored(&without), Strictness::Strict).is_err());
    let report = weights::load(&published, &stored(&without), Strictness::ExceptAuxiliary)?;
    assert!(report.is_complete() && report.new_head.is_empty(), "{report}");
    assert_eq!(report.new_auxiliary.len(), new_auxiliary(&published), "{report}");
    assert_same(&without, &published, "fc.weight")?;
    let mut headless = stored(&without);
    headless.retain(|name, _| !name.starts_with("fc."));
    assert!(weights::load(&published, &headless, Strictness::ExceptAuxiliary).is_err());
    Ok(())
}

/// torchvision sets the size; smaller images have their own pool here.
#[test]
fn inceptions_auxiliary_classifier_takes_small_images() -> Result<()> {
    let model = small("inception_v3", [3, 96, 96])?;
    let images = reference::image_batch("small", &[2, 3, 96, 96])?;
    let outputs = model.forward_auxiliary(&images, &mut Pass::train(0))?;
    let [(logits, weight)] = &outputs.auxiliary[..] else { panic!("there is one") };
    assert_eq!((logits.dims(), *weight), (&[2, 10][..], 0.4));
    assert!(model.forward_auxiliary(&images, &mut Pass::eval())?.auxiliary.is_empty());
    Ok(())
}
