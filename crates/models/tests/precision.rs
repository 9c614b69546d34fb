//! Passes in half precision: what is rounded, what stays in `f32`, and that the results are near.

use candle_vision_test_support::reference;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::{LayerHook, Model, ModelSpec, Pass, Precision, PreparedLayers, build};
use candle_vision_ops::{CrossEntropyConfig, Targets, backward, cross_entropy};

const HALVES: [(Precision, DType); 2] =
    [(Precision::Bf16, DType::BF16), (Precision::F16, DType::F16)];

fn network(name: &str) -> Result<Box<dyn Model>> {
    build(&ModelSpec::new(name, 4).input([3, 32, 32]).dropout(0.0), 1, &Device::Cpu)
}

fn images() -> Result<Tensor> {
    reference::image_batch("precision", &[8, 3, 32, 32])
}

fn train_pass(precision: Precision) -> Pass<'static> {
    Pass::train(0).precision(precision)
}

/// Logits, and the gradient of every parameter that learns.
fn step(model: &dyn Model, precision: Precision) -> Result<(Tensor, BTreeMap<String, Tensor>)> {
    let logits = model.forward(&images()?, &mut train_pass(precision))?;
    let labels = Tensor::new(&[0u32, 1, 2, 3, 0, 1, 2, 3], &Device::Cpu)?;
    let loss = cross_entropy(&logits, Targets::Labels(&labels), &CrossEntropyConfig::default())?;
    let mut gradients = backward(&loss)?;
    let trainable = model.parameters().trainable().into_iter();
    let gradients = trainable.map(|parameter| {
        let gradient = gradients.remove(parameter.var()).expect("each parameter has one");
        (parameter.path().to_owned(), gradient)
    });
    Ok((logits, gradients.collect()))
}

/// The length of the difference over that of what is expected.
fn error(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let length = |x: &Tensor| x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>();
    Ok((length(&(found - expected)?)? / length(expected)?).sqrt())
}

/// Every kind of layer is in one of these.
const NETWORKS: [&str; 7] = [
    "mlp",
    "simple_cnn",
    "gap_cnn_deep",
    "resnet18",
    "mobilenet_v2",
    "efficientnet_b0",
    "convnext_tiny",
];

/// Roundings add up from layer to layer, and batch norm over few values makes them larger: at this
/// size MobileNetV2 normalises over eight, which leaves nothing to compare.
#[test]
fn a_training_step_in_half_is_near_that_in_f32() -> Result<()> {
    for (name, layers) in
        [("mlp", 1.0), ("simple_cnn", 1.0), ("gap_cnn_deep", 1.0), ("resnet18", 10.0)]
    {
        // Batch norm moves its statistics in each pass, so each gets a network of its own.
        let (logits, gradients) = step(network(name)?.as_ref(), Precision::F32)?;
        // Half a unit in the last place is 2^-9 and 2^-12; a ReLU that switches counts more.
        for (precision, of_logits, of_gradients) in
            [(Precision::Bf16, 0.015, 0.7), (Precision::F16, 0.002, 0.25)]
        {
            let (rounded, of_rounded) = step(network(name)?.as_ref(), precision)?;
            assert_eq!(rounded.dtype(), DType::F32);
            let difference = error(&rounded, &logits)?;
            let expected = 1e-5..of_logits * layers;
            assert!(expected.contains(&difference), "{name} {precision}: {difference}");
            for (path, gradient) in &of_rounded {
                assert_eq!(gradient.dtype(), DType::F32, "{path}");
                let difference = error(gradient, &gradients[path])?;
                assert!(difference < of_gradients, "{name} {precision} {path}: {difference}");
            }
        }
    }
    Ok(())
}

#[test]
fn evaluation_in_half_is_near_that_in_f32() -> Result<()> {
    // The feature maps of these new networks fade from block to block, to less than `f16` can hold.
    let fade = ["efficientnet_b0", "mobilenet_v2"];
    for name in NETWORKS.into_iter().filter(|name| !fade.contains(name)) {
        let (model, images) = (network(name)?, images()?);
        let logits = |precision| model.forward(&images, &mut Pass::eval().precision(precision));
        let full = logits(Precision::F32)?;
        for (precision, tolerance) in [(Precision::Bf16, 0.05), (Precision::F16, 0.005)] {
            let difference = error(&logits(precision)?, &full)?;
            assert!((1e-5..tolerance).contains(&difference), "{name} {precision}: {difference}");
        }
    }
    Ok(())
}

#[test]
fn parameters_and_statistics_stay_in_f32() -> Result<()> {
    for (precision, _) in HALVES {
        let model = network("gap_cnn_deep")?;
        let before =
            model.parameters().get("bn1.running_var").expect("it has one").detached().copy()?;
        step(model.as_ref(), precision)?;
        for parameter in model.parameters().all() {
            let dtype = parameter.var().dtype();
            assert!([DType::F32, DType::I64].contains(&dtype), "{}: {dtype:?}", parameter.path());
        }
        let after = model.parameters().get("bn1.running_var").expect("it has one").detached();
        assert!(error(&after, &before)? > 1e-3);
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
fn every_layer_hands_on_halves_but_the_last() -> Result<()> {
    for name in NETWORKS {
        for (precision, half) in HALVES {
            let model = network(name)?;
            for pass in [train_pass(precision), Pass::eval().precision(precision)] {
                let mut types = NumberTypes::default();
                model.forward(&images()?, &mut pass.with_hooks(&mut types))?;
                let (last, others) = types.0.split_last().expect("a network has layers");
                assert_eq!(last.1, DType::F32, "{name}: {}", last.0);
                assert!(others.len() > 1);
                for (layer, found) in others {
                    assert_eq!(*found, half, "{name}: {layer}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn evaluation_in_half_takes_no_prepared_layers() -> Result<()> {
    let (model, images, prepared) = (network("resnet18")?, images()?, PreparedLayers::new());
    let logits = |pass: Pass<'_>| model.forward(&images, &mut { pass })?.to_vec2::<f32>();
    let full = logits(Pass::eval().with_prepared(&prepared))?;
    for (precision, _) in HALVES {
        let plain = logits(Pass::eval().precision(precision))?;
        let pass = Pass::eval().precision(precision).with_prepared(&prepared);
        assert_eq!(logits(pass)?, plain);
        assert_ne!(plain, full);
    }
    Ok(())
}
