//! Vision transformers: weights for another image size or under older names, a training step, and what they refuse.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::weights::{Strictness, load};
use candle_vision_models::{
    LayerHook, Model, ModelSpec, Parameters, Pass, Precision, SwinTransformer,
    SwinTransformerConfig, VisionTransformer, VisionTransformerConfig, build,
};
use candle_vision_ops::{CrossEntropyConfig, Targets, backward, cross_entropy};
use candle_vision_test_support::reference;

/// The recipe's weights of a network, by name.
fn recipe(model: &dyn Model) -> Result<HashMap<String, Tensor>> {
    let all = model.parameters().all().into_iter();
    let floats = all.filter(|parameter| parameter.var().dtype().is_float());
    let weights = floats.map(|parameter| {
        let (path, shape) = (parameter.path(), parameter.var().dims());
        Ok((path.to_owned(), reference::weight(path, shape, 1.0)?))
    });
    weights.collect()
}

#[test]
fn weights_for_another_size_are_resampled_as_by_timm() -> Result<()> {
    let expected = reference::tensors("tokens.safetensors");
    for (name, tokens, [height, width]) in [
        ("deit_tiny_patch16_224", 1 + 14 * 14, [160, 96]),
        ("vit_small_patch14_dinov2", 1 + 37 * 37, [56, 84]),
    ] {
        let spec = ModelSpec::new(name, 10).input([3, height, width]);
        let model = build(&spec, 0, &Device::Cpu)?;
        let mut weights = recipe(&*model)?;
        let features = weights["pos_embed"].dim(2)?;
        let published = reference::weight("pos_embed", &[1, tokens, features], 1.0)?;
        weights.insert("pos_embed".to_owned(), published);
        load(&*model, &weights, Strictness::Strict)?;

        let positions = model.parameters().get("pos_embed").expect("it has them").detached();
        let what = format!("{name}.resized");
        reference::assert_close(&what, &positions, &expected[&format!("{what}.pos_embed")], 1e-6);
        let images = reference::image_batch(&format!("{what}.input"), &[2, 3, height, width])?;
        let logits = model.forward(&images, &mut Pass::eval())?;
        reference::assert_close(&what, &logits, &expected[&format!("{what}.logits")], 1e-4);

        // A checkpoint of this network has as many positions, which are no square.
        load(&*model, &recipe(&*model)?, Strictness::Strict)?;
        let positions = model.parameters().get("pos_embed").expect("it has them").detached();
        let own = reference::weight("pos_embed", positions.dims(), 1.0)?;
        assert_eq!(
            positions.flatten_all()?.to_vec1::<f32>()?,
            own.flatten_all()?.to_vec1::<f32>()?
        );
    }
    Ok(())
}

/// torchvision's files are older than its `MLP`.
#[test]
fn older_names_of_torchvision_are_read() -> Result<()> {
    let model = small_vit()?;
    let weights = recipe(&model)?.into_iter().map(|(name, tensor)| {
        let name = name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.");
        (name, tensor)
    });
    let weights: HashMap<_, _> = weights.collect();
    assert!(weights.contains_key("encoder.layers.encoder_layer_1.mlp.linear_2.bias"));
    let report = load(&model, &weights, Strictness::Strict)?;
    assert_eq!((report.matched.len(), report.older_names.len()), (weights.len(), 8));
    let path = "encoder.layers.encoder_layer_1.mlp.3.weight";
    let found = model.parameters().get(path).expect("it has it").detached();
    let expected = &weights["encoder.layers.encoder_layer_1.mlp.linear_2.weight"];
    reference::assert_close(path, &found, expected, 0.0);
    Ok(())
}

/// The names in the files of DINOv2, MAE and MoCo v3.
#[test]
fn backbones_are_read_from_their_files() -> Result<()> {
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let config = VisionTransformerConfig::new(8, 1, 2, 16).timm_names().input([3, 16, 16]);
    let model = VisionTransformer::new(config.num_classes(3), vb)?;
    let mut backbone = recipe(&model)?;
    backbone.retain(|name, _| !name.starts_with("head"));
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);

    let mut dinov2 = backbone.clone();
    dinov2.insert("mask_token".to_owned(), zeros(&[1, 16])?);
    let report = load(&model, &dinov2, Strictness::ExceptHead)?;
    assert_eq!(report.left_out, ["mask_token"]);
    assert_eq!(report.new_head, ["head.weight", "head.bias"]);

    let mut moco = HashMap::new();
    for twin in ["base_encoder", "momentum_encoder"] {
        for (name, tensor) in &backbone {
            moco.insert(format!("module.{twin}.{name}"), tensor.clone());
        }
        for layer in [0, 3, 6] {
            moco.insert(format!("module.{twin}.head.{layer}.weight"), zeros(&[16, 16])?);
        }
    }
    moco.insert("module.predictor.0.weight".to_owned(), zeros(&[16, 16])?);
    let report = load(&model, &moco, Strictness::ExceptHead)?;
    assert_eq!(report.prefix.as_deref(), Some("module.base_encoder."));
    assert_eq!(report.matched.len(), backbone.len());
    Ok(())
}

fn small_vit() -> Result<VisionTransformer> {
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let config = VisionTransformerConfig::new(8, 2, 2, 32).input([3, 32, 32]).num_classes(10);
    VisionTransformer::new(config, vb)
}

fn small_swin() -> Result<SwinTransformer> {
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let config = SwinTransformerConfig::new(16, [2, 2], [2, 4]).window_size(4);
    SwinTransformer::new(config.input([3, 32, 32]).num_classes(10), vb)
}

fn small_dinov2() -> Result<VisionTransformer> {
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    let config = VisionTransformerConfig::new(8, 2, 2, 32).timm_names().layer_scale(1e-5);
    let config = config.input([3, 32, 32]).num_classes(10);
    VisionTransformer::new(config, vb)
}

#[test]
fn a_training_step_is_that_of_pytorch() -> Result<()> {
    let expected = reference::tensors("tokens.safetensors");
    let networks: [(&str, Box<dyn Model>); 2] =
        [("small_vit", Box::new(small_vit()?)), ("small_swin", Box::new(small_swin()?))];
    for (case, model) in networks {
        for (path, weight) in recipe(&*model)? {
            model.parameters().get(&path).expect("it has it").set(&weight)?;
        }
        let images = reference::image_batch(&format!("{case}.x0"), &[4, 3, 32, 32])?;
        let labels = reference::labels(&format!("{case}.y0"), 4, 10)?;
        let logits = model.forward(&images, &mut Pass::train(0))?;
        let config = CrossEntropyConfig::default();
        let loss = cross_entropy(&logits, Targets::Labels(&labels), &config)?;
        let found = loss.to_dtype(DType::F32)?.reshape(1)?;
        reference::assert_close(case, &found, &expected[&format!("{case}.loss")], 1e-5);
        let gradients = backward(&loss)?;
        let trainable = model.parameters().trainable();
        for parameter in &trainable {
            let name = format!("{case}.step0_grad.{}", parameter.path());
            let gradient = gradients.get(parameter.var()).expect("each parameter has one");
            reference::assert_close(&name, gradient, &expected[&name], 1e-4);
        }
        let stored = expected.keys().filter(|name| name.starts_with(&format!("{case}.step0")));
        assert_eq!(stored.count(), trainable.len());
    }
    Ok(())
}

/// Notes the number type of each layer's output.
#[derive(Default)]
struct NumberTypes(Vec<(String, DType)>);

impl LayerHook for NumberTypes {
    fn output(&mut self, layer: &str, output: Tensor) -> Result<Tensor> {
        self.0.push((layer.to_owned(), output.dtype()));
        Ok(output)
    }
}

#[test]
fn halves_are_handed_on_and_logits_are_near() -> Result<()> {
    let images = reference::image_batch("halves", &[2, 3, 32, 32])?;
    let networks: [Box<dyn Model>; 3] =
        [Box::new(small_vit()?), Box::new(small_swin()?), Box::new(small_dinov2()?)];
    for model in networks {
        for (path, weight) in recipe(&*model)? {
            model.parameters().get(&path).expect("it has it").set(&weight)?;
        }
        let full = model.forward(&images, &mut Pass::eval())?;
        for (precision, half, tolerance) in
            [(Precision::Bf16, DType::BF16, 0.05), (Precision::F16, DType::F16, 0.005)]
        {
            for pass in [Pass::eval(), Pass::train(0)] {
                let mut types = NumberTypes::default();
                let mut pass = pass.precision(precision).with_hooks(&mut types);
                let logits = model.forward(&images, &mut pass)?;
                reference::assert_close("halves", &logits, &full, tolerance);
                let (last, others) = types.0.split_last().expect("a network has layers");
                assert_eq!(last.1, DType::F32);
                for (layer, found) in others {
                    assert_eq!(*found, half, "{layer}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn images_that_are_not_cut_into_patches_are_refused() -> Result<()> {
    let spec = ModelSpec::new("deit_tiny_patch16_224", 2);
    let built = build(&spec.clone().input([3, 100, 96]), 0, &Device::Cpu);
    let message = built.expect_err("100 is no multiple of 16").to_string();
    assert!(message.contains("16x16 pixels") && message.contains("100x96"), "{message}");
    let model = build(&spec.input([3, 32, 32]), 0, &Device::Cpu)?;
    let images = Tensor::zeros((1, 3, 64, 32), DType::F32, &Device::Cpu)?;
    let message = model.forward(&images, &mut Pass::eval()).unwrap_err().to_string();
    assert!(message.contains("32x32 pixels, got 64x32"), "{message}");
    Ok(())
}

#[test]
fn images_have_as_many_channels_as_the_network_is_built_for() -> Result<()> {
    for name in ["deit_tiny_patch16_224", "swin_t"] {
        let model = build(&ModelSpec::new(name, 2).input([1, 32, 32]), 0, &Device::Cpu)?;
        let images = Tensor::zeros((1, 1, 32, 32), DType::F32, &Device::Cpu)?;
        assert_eq!(model.forward(&images, &mut Pass::eval())?.dims(), [1, 2]);
    }
    Ok(())
}
