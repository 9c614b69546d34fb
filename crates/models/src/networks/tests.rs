use candle_core::Tensor;

use super::*;
use crate::Pass;

fn images(spec: &ModelSpec, batch: usize) -> Result<Tensor> {
    let [channels, height, width] = spec.input;
    let count = batch * channels * height * width;
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(values, (batch, channels, height, width), &Device::Cpu)
}

fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

/// Small enough to build them all; AlexNet's linear layers alone take a second.
fn small_spec(name: &str) -> ModelSpec {
    let spec = ModelSpec::new(name, 3);
    if spec.input[1] > 64 { spec.input([3, 64, 64]) } else { spec }
}

#[test]
fn logits_are_the_head_of_the_features() -> Result<()> {
    let convolutional =
        ["simple_cnn", "gap_cnn_deep", "resnet9", "resnet18", "mobilenet_v2", "mobilenet_v3_small"];
    let scaled = ["efficientnet_b0", "efficientnet_lite0", "regnet_y_400mf", "convnext_tiny"];
    let of_tokens = ["deit_tiny_patch16_224", "swin_t"];
    for name in ["mlp"].into_iter().chain(convolutional).chain(scaled).chain(of_tokens) {
        let spec = small_spec(name);
        let model = build(&spec, 1, &Device::Cpu)?;
        let images = images(&spec, 2)?;
        for pass in [Pass::eval as fn() -> Pass<'static>, || Pass::train(3)] {
            let whole = model.forward(&images, &mut pass())?;
            let mut pass = pass();
            let features = model.forward_features(&images, &mut pass)?;
            let rank = match name {
                "mlp" => 2,
                "deit_tiny_patch16_224" => 3,
                _ => 4,
            };
            assert_eq!(features.rank(), rank, "{name}");
            let parts = model.forward_head(&features, &mut pass)?;
            assert_eq!(bits(&whole)?, bits(&parts)?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_network_needs_no_name() -> Result<()> {
    let spec = ModelSpec::new("resnet18", 5).input([3, 32, 32]);
    let by_name = build(&spec, 7, &Device::Cpu)?;
    let vb = Parameters::new().builder(7, DType::F32, &Device::Cpu);
    let config = ResNetConfig::resnet18().num_classes(5).input([3, 32, 32]);
    let by_config = ResNet::new(config, vb)?;
    assert_eq!(by_config.spec(), &spec);
    let images = images(&spec, 1)?;
    let logits = |model: &dyn Model| bits(&model.forward(&images, &mut Pass::eval())?);
    assert_eq!(logits(&by_name)?, logits(&by_config)?);
    let expected = "ResNet { architecture: \"resnet18\", num_classes: 5, input: [3, 32, 32], \
                    parameters: 11179077, .. }";
    assert_eq!(format!("{by_config:?}"), expected);
    Ok(())
}

#[test]
fn a_network_behind_a_pointer_is_the_network() -> Result<()> {
    fn head<M: Model>(model: M) -> (String, Option<String>, usize) {
        let cam = model.cam_layer().map(str::to_owned);
        (model.head().to_owned(), cam, model.images_to_fit())
    }
    let spec = ModelSpec::new("resnet9", 2);
    let boxed = build(&spec, 0, &Device::Cpu)?;
    let shared: std::sync::Arc<dyn Model> = std::sync::Arc::from(build(&spec, 0, &Device::Cpu)?);
    let expected = ("fc".to_owned(), Some("layer3".to_owned()), 2000);
    assert_eq!(head(&boxed), expected);
    assert_eq!(head(boxed), expected);
    assert_eq!(head(shared.clone()), expected);
    let features = shared.forward_features(&images(&spec, 1)?, &mut Pass::eval())?;
    assert_eq!(features.dims(), [1, 512, 4, 4]);
    Ok(())
}

/// The table of torchvision's weights is whole, and each line is one that a network could have.
#[test]
fn published_weights_are_read_line_by_line() {
    let lines = include_str!("torchvision_weights.tsv").lines().skip(1);
    let networks: Vec<&str> = lines.filter_map(|line| line.split('\t').next()).collect();
    let read = networks.iter().flat_map(|network| TorchvisionWeights::of(network)).count();
    assert!(read >= networks.len() && networks.len() > 100);
    let resnet50 = TorchvisionWeights::of("resnet50").map(|own| own.weights.name);
    assert_eq!(resnet50.collect::<Vec<_>>(), ["IMAGENET1K_V2", "IMAGENET1K_V1"]);
    let resnet18 = TorchvisionWeights::of("resnet18").next().expect("the table has it").weights;
    assert_eq!((resnet18.parameters, resnet18.multiply_adds), (11_689_512, 1_814_000_000));
    assert_eq!((resnet18.accuracy, &*resnet18.sha256), (0.69758, "f37072fd"));
}

/// The size of the images is that for which the weights of the network's name were published.
#[test]
fn images_are_of_the_size_of_the_first_weights() {
    for entry in &Networks::standard() {
        if let Some(weights) = entry.published_weights().first() {
            let crop = weights.preprocessing.crop;
            assert_eq!(entry.published_input(), [3, crop, crop], "{}", entry.name());
        }
    }
}

/// Building checks that a row and its network agree; this builds those that are not slow to make.
#[test]
fn rows_say_what_the_networks_say() -> Result<()> {
    let networks = Networks::standard();
    for entry in networks.iter() {
        let name = entry.name();
        assert!(!entry.summary_line().is_empty() && entry.head_path().is_some(), "{name}");
        for weights in entry.published_weights() {
            assert_eq!(weights.num_classes, entry.class_names().len(), "{name}");
            let of_hub = weights.url.starts_with("https://huggingface.co/");
            let named = weights.sha256.get(..8).is_some_and(|sum| weights.url.contains(sum));
            assert!(of_hub || named, "{name}");
        }
        let is_first = networks.families().any(|first| first.name() == name);
        if is_first && !name.starts_with("alexnet") && !name.starts_with("vgg") {
            let model = networks.build(&entry.spec(2), 0, &Device::Cpu)?;
            assert_eq!(entry.cam_path(), model.cam_layer(), "{name}");
        }
        let too_small = entry.input_sizes().smallest.saturating_sub(1);
        if too_small > 0 {
            let spec = entry.spec(2).input([3, too_small, 224]);
            assert!(networks.build(&spec, 0, &Device::Cpu).is_err(), "{name}");
        }
    }
    Ok(())
}

#[test]
fn an_unknown_name_says_what_to_do() {
    let message = |name: &str| {
        let error = build(&ModelSpec::new(name, 2), 0, &Device::Cpu).unwrap_err().to_string();
        error.lines().next().map(str::to_owned).unwrap_or_default()
    };
    let near = message("resnet81");
    assert!(near.starts_with("no network is called `resnet81`; did you mean `resnet18`"), "{near}");
    let own = "network of a program's own has to be registered there with `Registry::network`";
    assert!(near.ends_with(&format!("? A {own}")), "{near}");
    let unknown = message("transformer_of_mine");
    assert!(unknown.starts_with("no network is called `transformer_of_mine`; known: mlp, "));
    assert!(unknown.ends_with(&format!("in all); a {own}")), "{unknown}");
}

#[test]
fn what_would_make_a_checkpoint_lie_is_refused() -> Result<()> {
    let small = |spec: &ModelSpec, vb| GapCnn::new(GapCnnConfig::plain().spec(spec), vb);
    let mut networks = Networks::standard();
    let mut add = |entry: NetworkEntry| networks.add(entry).map(|_| ()).map_err(Error::wrap);
    add(NetworkEntry::new("own", small).input([3, 16, 16]).head("fc"))?;
    add(NetworkEntry::new("other_head", small).head("classifier"))?;
    add(NetworkEntry::new("forgets", |_, vb| GapCnn::new(GapCnnConfig::plain(), vb)))?;
    let twice = add(NetworkEntry::new("resnet18", small)).unwrap_err().to_string();
    assert!(twice.starts_with("there are two entries `resnet18` among the networks"), "{twice}");

    assert_eq!(networks.spec("own", 4)?.input, [3, 16, 16]);
    let build = |spec: &ModelSpec| networks.build(spec, 0, &Device::Cpu);
    let own = networks.spec("own", 4)?.setting("depth", 3);
    assert_eq!(build(&own)?.spec(), &own);
    let message = |spec: ModelSpec| build(&spec).unwrap_err().to_string();
    let disagrees = message(networks.spec("other_head", 2)?);
    assert!(
        disagrees.contains("its head is `classifier`, its `Model::head` says `fc`"),
        "{disagrees}"
    );
    let forgets = message(networks.spec("forgets", 2)?);
    assert!(forgets.contains("build it from the spec"), "{forgets}");
    let settings = message(ModelSpec::new("resnet18", 2).setting("depth", 3));
    assert!(settings.contains("`resnet18` are wrong: it has none, but `depth`"), "{settings}");
    Ok(())
}

#[test]
fn what_a_network_of_ones_own_leaves_out_is_said() -> Result<()> {
    struct Least(GapCnn);
    impl Model for Least {
        fn spec(&self) -> &ModelSpec {
            self.0.spec()
        }
        fn parameters(&self) -> &Parameters {
            self.0.parameters()
        }
        fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
            self.0.forward(images, pass)
        }
    }
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let config = GapCnnConfig::plain().input([3, 16, 16]);
    let model = Least(GapCnn::new(config, vb)?);
    assert_eq!((model.head(), model.cam_layer()), ("", None));
    let error = model.forward_features(&images(model.spec(), 1)?, &mut Pass::eval()).unwrap_err();
    assert!(error.to_string().contains("implement `Model::forward_features`"), "{error}");
    Ok(())
}
