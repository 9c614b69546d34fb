//! Weight files: what fits is taken, what does not is said.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor};
use candle_vision_models::weights::{Strictness, WeightFile, load, read, tensors};
use candle_vision_models::{Model, ModelSpec, Pass, build};
use candle_vision_test_support::reference;

fn model(name: &str, num_classes: usize, seed: u64) -> Result<Box<dyn Model>> {
    build(&ModelSpec::new(name, num_classes), seed, &Device::Cpu)
}

fn file_of(model: &dyn Model) -> HashMap<String, Tensor> {
    tensors(model.parameters()).into_iter().collect()
}

fn values(model: &dyn Model, path: &str) -> Result<Vec<f32>> {
    let parameter = model.parameters().get(path).expect("the network has this parameter");
    parameter.detached().flatten_all()?.to_vec1()
}

#[test]
fn all_tensors_of_the_same_network_match() -> Result<()> {
    let (source, target) = (model("gap_cnn_deep", 2, 1)?, model("gap_cnn_deep", 2, 2)?);
    let report = load(target.as_ref(), &file_of(source.as_ref()), Strictness::Strict)?;
    assert_eq!(report.matched.len(), source.parameters().all().len());
    assert_eq!(values(target.as_ref(), "fc.weight")?, values(source.as_ref(), "fc.weight")?);
    Ok(())
}

#[test]
fn another_number_of_classes_gets_a_new_head() -> Result<()> {
    let (source, target) = (model("gap_cnn", 10, 1)?, model("gap_cnn", 2, 2)?);
    let fresh = values(target.as_ref(), "fc.weight")?;
    let report = load(target.as_ref(), &file_of(source.as_ref()), Strictness::ExceptHead)?;
    assert_eq!(report.new_head, ["fc.weight", "fc.bias"]);
    assert_eq!(values(target.as_ref(), "fc.weight")?, fresh);
    assert_eq!(values(target.as_ref(), "conv1.bias")?, values(source.as_ref(), "conv1.bias")?);

    let strict = load(target.as_ref(), &file_of(source.as_ref()), Strictness::Strict);
    let message = strict.expect_err("the heads differ").to_string();
    assert!(message.contains("2 of another shape"), "{message}");
    Ok(())
}

#[test]
fn a_missing_and_an_unexpected_name_change_nothing() -> Result<()> {
    let (source, target) = (model("gap_cnn", 2, 1)?, model("gap_cnn", 2, 2)?);
    let mut file = file_of(source.as_ref());
    let weight = file.remove("conv2.weight").expect("the network has this parameter");
    file.insert("conv9.weight".to_owned(), weight);
    let before = values(target.as_ref(), "conv1.weight")?;
    let error =
        load(target.as_ref(), &file, Strictness::ExceptHead).expect_err("a name is missing");
    let message = error.to_string();
    assert!(message.contains("1 missing (conv2.weight)"), "{message}");
    assert!(message.contains("1 unexpected (conv9.weight)"), "{message}");
    assert_eq!(values(target.as_ref(), "conv1.weight")?, before);
    Ok(())
}

#[test]
fn weights_of_another_network_are_named_as_such() -> Result<()> {
    let (source, target) = (model("mlp", 2, 1)?, model("gap_cnn", 2, 2)?);
    let error = load(target.as_ref(), &file_of(source.as_ref()), Strictness::ExceptHead);
    let message = error.expect_err("no name matches").to_string();
    assert!(message.contains("no weights of `gap_cnn`"), "{message}");
    Ok(())
}

/// timm's networks that pad as TensorFlow does have the names and shapes of those without `tf_`.
#[test]
fn weights_of_a_network_that_pads_otherwise_are_refused() -> Result<()> {
    let target = model("mobilenet_v3_small", 3, 1)?;
    let weights = file_of(target.as_ref());
    let folder = tempfile::tempdir()?;
    let by_name = folder.path().join("tf_mobilenetv3_small_100.safetensors");
    candle_core::safetensors::save(&weights, &by_name)?;
    let refusal = |path| -> Result<String> {
        let refused = WeightFile::read(path)?.load(target.as_ref(), Strictness::Strict);
        Ok(refused.expect_err("another network").to_string())
    };
    let message = refusal(&by_name)?;
    assert!(
        message.contains("timm's `tf_mobilenetv3_small_100`, which pads unevenly"),
        "{message}"
    );
    assert!(message.contains("take weights of timm's network without `tf_`"), "{message}");

    // The file of a repository of the hub says its network beside it.
    let of_hub = folder.path().join("model.safetensors");
    std::fs::rename(&by_name, &of_hub)?;
    WeightFile::read(&of_hub)?.load(target.as_ref(), Strictness::Strict)?;
    let config = |name: &str| format!(r#"{{"architecture": "{name}", "num_classes": 3}}"#);
    std::fs::write(folder.path().join("config.json"), config("tf_mobilenetv3_small_100"))?;
    assert!(refusal(&of_hub)?.contains("timm's `tf_mobilenetv3_small_100`"));
    std::fs::write(folder.path().join("config.json"), config("mobilenetv3_small_100"))?;
    WeightFile::read(&of_hub)?.load(target.as_ref(), Strictness::Strict)?;
    Ok(())
}

#[test]
fn the_small_alexnet_takes_the_centre_of_the_large_stem() -> Result<()> {
    let (source, target) = (model("alexnet_32", 10, 0)?, model("alexnet_32", 10, 1)?);
    let stem = Tensor::arange(0f32, (64 * 3 * 121) as f32, &Device::Cpu)?;
    let stem = stem.reshape((64, 3, 11, 11))?;
    let mut file = file_of(source.as_ref());
    file.insert("features.0.weight".to_owned(), stem.clone());
    load(target.as_ref(), &file, Strictness::ExceptHead)?;
    let centre = stem.narrow(2, 4, 3)?.narrow(3, 4, 3)?.flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(values(target.as_ref(), "features.0.weight")?, centre);
    Ok(())
}

#[test]
fn a_file_that_is_cut_short_or_no_weights_is_an_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("w.safetensors");
    candle_core::safetensors::save(&file_of(model("gap_cnn", 2, 1)?.as_ref()), &path)?;
    assert_eq!(read(&path)?.len(), 8);
    let bytes = std::fs::read(&path)?;
    for cut in [0, 4, 20, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut])?;
        let message = read(&path).expect_err("the file is cut").to_string();
        assert!(message.contains("w.safetensors"), "{message}");
    }
    std::fs::write(&path, "<html>404</html>")?;
    assert!(read(&path).is_err());
    let message = read(&folder.path().join("none.safetensors")).expect_err("no such file");
    assert!(message.to_string().starts_with("there is no weight file"), "{message}");
    assert!(read(&folder.path().join("w.zip")).is_err());
    Ok(())
}

/// Real ImageNet weights, when the data folder is there.
#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn published_resnet18_weights_fit() -> Result<()> {
    let Some(data) = std::env::var_os("CANDLE_VISION_DATA") else {
        println!("skipped: CANDLE_VISION_DATA is not set");
        return Ok(());
    };
    let file = read(&std::path::Path::new(&data).join("weights/resnet18.safetensors"))?;
    let report = load(model("resnet18", 1000, 0)?.as_ref(), &file, Strictness::Strict)?;
    assert_eq!(report.matched.len(), 122);
    let report = load(model("resnet18", 2, 0)?.as_ref(), &file, Strictness::ExceptHead)?;
    assert_eq!((report.matched.len(), report.new_head.len()), (120, 2));
    Ok(())
}

/// As timm's `adapt_input_conv`: `conv.sum(1, keepdim=True)` for grey images, and for others
/// `conv.repeat(1, 2, 1, 1)[:, :4] * (3 / 4)`.
#[test]
fn a_stem_for_colours_is_fitted_to_other_channels() -> Result<()> {
    let source = model("gap_cnn", 10, 1)?;
    let stem = values(source.as_ref(), "conv1.weight")?;
    let fitted = |channels: usize| -> Result<(Vec<f32>, Option<String>)> {
        let spec = ModelSpec::new("gap_cnn", 2).input([channels, 224, 224]);
        let target = build(&spec, 2, &Device::Cpu)?;
        let report = load(target.as_ref(), &file_of(source.as_ref()), Strictness::ExceptHead)?;
        Ok((values(target.as_ref(), "conv1.weight")?, report.stem))
    };
    let (grey, said) = fitted(1)?;
    assert_eq!(said.as_deref(), Some("conv1.weight"));
    for (i, value) in grey.iter().enumerate() {
        let (out, place) = (i / 9, i % 9);
        let sum: f32 = (0..3).map(|channel| stem[(out * 3 + channel) * 9 + place]).sum();
        assert!((value - sum).abs() < 1e-6, "{i}: {value} instead of {sum}");
    }
    let (four, _) = fitted(4)?;
    for (i, value) in four.iter().enumerate() {
        let (out, channel, place) = (i / 36, i / 9 % 4, i % 9);
        let expected = 0.75 * stem[(out * 3 + channel % 3) * 9 + place];
        assert!((value - expected).abs() < 1e-6, "{i}: {value} instead of {expected}");
    }
    let strict = ModelSpec::new("gap_cnn", 10).input([1, 224, 224]);
    let strict = build(&strict, 2, &Device::Cpu)?;
    assert!(load(strict.as_ref(), &file_of(source.as_ref()), Strictness::Strict).is_err());
    Ok(())
}

/// Every hundredth logit of real ImageNet weights, when the data folder is there.
#[track_caller]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn check_published_logits(name: &str, expected: [f32; 10]) -> Result<()> {
    let Some(data) = std::env::var_os("CANDLE_VISION_DATA") else {
        println!("skipped: CANDLE_VISION_DATA is not set");
        return Ok(());
    };
    let file = read(&std::path::Path::new(&data).join(format!("weights/{name}.safetensors")))?;
    let model = model(name, 1000, 0)?;
    let report = load(model.as_ref(), &file, Strictness::Strict)?;
    assert_eq!(report.matched.len(), file.len());
    let images = reference::image_batch(&format!("{name}.published"), &[1, 3, 224, 224])?;
    let logits = model.forward(&images, &mut Pass::eval())?.get(0)?;
    let places = Tensor::arange_step(0u32, 1000, 100, &Device::Cpu)?;
    let expected = Tensor::new(&expected, &Device::Cpu)?;
    reference::assert_close(name, &logits.index_select(&places, 0)?, &expected, 1e-4);
    Ok(())
}

/// ```python
/// model = timm.create_model("tf_efficientnet_lite0").eval()
/// model.load_state_dict(load_file("weights/efficientnet_lite0.safetensors"))
/// x = recipe.image_batch("efficientnet_lite0.published", (1, 3, 224, 224))
/// print(model(torch.from_numpy(x))[0, ::100].tolist())
/// ```
#[test]
fn published_efficientnet_lite_gives_timms_logits() -> Result<()> {
    let expected = [
        -2.487_288_2,
        1.514_642_4,
        -0.385_881_22,
        -0.069_612_525,
        -1.240_088_8,
        -0.404_875_1,
        2.305_101,
        0.486_868_08,
        -1.989_682_6,
        1.354_108_1,
    ];
    check_published_logits("efficientnet_lite0", expected)
}

/// The same lines with `torchvision.models.resnet18()`.
#[test]
fn published_resnet18_gives_torchvisions_logits() -> Result<()> {
    let expected = [
        -0.006_699_139,
        -0.176_250_74,
        -2.531_833_7,
        -0.475_256_12,
        -1.620_997_3,
        0.670_249_6,
        2.135_825_6,
        0.627_168_1,
        -1.931_503_7,
        1.807_448_7,
    ];
    check_published_logits("resnet18", expected)
}

/// The same lines with `torchvision.models.mobilenet_v2()`.
#[test]
fn published_mobilenet_v2_gives_torchvisions_logits() -> Result<()> {
    let expected = [
        0.569_059_5,
        -0.155_041_78,
        0.125_114_95,
        -0.306_595_36,
        1.623_831_9,
        -1.848_309_8,
        0.501_526_24,
        3.070_951,
        -0.162_491_86,
        -1.077_148_4,
    ];
    check_published_logits("mobilenet_v2", expected)
}
