//! Class activation maps of transformers against pytorch-grad-cam with its reshape transforms (`tests/reference`).

use candle_vision_test_support::reference;

mod support;

use candle_core::{DType, Device, Tensor};
use candle_vision_explain::{CamOptions, Error, Method, Target, embeddings, grad_cam};
use candle_vision_models::parity::fill;
use candle_vision_models::{
    Model, Parameters, Pass, SwinTransformer, SwinTransformerConfig, VisionTransformer,
    VisionTransformerConfig,
};
use support::{TestResult, tensor};

/// The networks `small_vit` and `small_swin` of `generate.py`.
fn network(name: &str) -> candle_core::Result<Box<dyn Model>> {
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let input = [3, 32, 32];
    let model: Box<dyn Model> = match name {
        "small_vit" => {
            let config = VisionTransformerConfig::new(8, 2, 2, 32).input(input).num_classes(10);
            Box::new(VisionTransformer::new(config, vb)?)
        }
        _ => {
            let config = SwinTransformerConfig::new(16, [2, 2], [2, 4]).window_size(4);
            Box::new(SwinTransformer::new(config.input(input).num_classes(10), vb)?)
        }
    };
    fill(&*model, 1.0)?;
    Ok(model)
}

#[test]
fn maps_are_those_of_pytorch_grad_cam() -> TestResult {
    let expected = reference::tensors("explain_tokens.safetensors");
    let cases = reference::json("explain_tokens.json");
    let cases = cases.as_array().expect("a list");
    assert_eq!(cases.len(), 10);
    for entry in cases {
        let (name, method) = (entry["model"].as_str(), entry["method"].as_str());
        let (name, written) = (name.expect("a name"), method.expect("a name"));
        let method: Method = written.parse()?;
        let model = network(name)?;
        let images = reference::image_batch(&format!("cam.{name}"), &[1, 3, 32, 32])?;
        let options = CamOptions { target: Target::Class(3), ..CamOptions::default() };
        let maps = method.maps(model.as_ref(), &images, &options)?;
        let case = format!("{name}.{written}");
        let tolerance = if method.name() == "scorecam" { 1e-2 } else { 1e-3 };
        reference::assert_close(&case, &tensor(&maps[0])?, &expected[&case], tolerance);
    }
    Ok(())
}

#[test]
fn every_block_of_tokens_gives_maps_and_the_class_token_does_not() -> TestResult {
    let model = network("small_vit")?;
    let images = reference::image_batch("tokens", &[2, 3, 32, 32])?;
    let at = |layer: &str| {
        let options = CamOptions { layer: Some(layer.to_owned()), ..CamOptions::default() };
        grad_cam(model.as_ref(), &images, &options)
    };
    for layer in ["conv_proj", "encoder.layers.encoder_layer_0", "encoder.ln"] {
        assert_eq!(at(layer)?[1].map.len(), 32 * 32, "{layer}");
    }
    assert!(matches!(at("pool"), Err(Error::NotSpatial { .. })));
    Ok(())
}

#[test]
fn the_embedding_is_what_the_head_reads() -> TestResult {
    let images = reference::image_batch("tokens", &[2, 3, 32, 32])?;
    for name in ["small_vit", "small_swin"] {
        let model = network(name)?;
        let found = embeddings(model.as_ref(), &images)?;
        let features = model.forward_features(&images, &mut Pass::eval())?;
        let expected: Tensor = match name {
            "small_vit" => features.narrow(1, 0, 1)?.squeeze(1)?,
            _ => features.mean((2, 3))?,
        };
        reference::assert_close(name, &found, &expected, 1e-6);
    }
    Ok(())
}
