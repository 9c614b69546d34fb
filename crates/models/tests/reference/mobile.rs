//! A training step and the costs of MobileNetV3, the EfficientNets, RegNet and ConvNeXt.

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::{Model, ModelSpec, Pass, build};
use candle_vision_test_support::reference;

use super::{cases, fill};

/// The first network of a family without dropout and stochastic depth, for ten classes.
fn plain(name: &str) -> Result<Box<dyn Model>> {
    use candle_vision_models::{
        ConvNeXt, ConvNeXtConfig, EfficientNet, EfficientNetConfig, EfficientNetLite,
        EfficientNetLiteConfig, MobileNetV3, MobileNetV3Config, Parameters, RegNet, RegNetConfig,
    };
    let vb = Parameters::new().builder(0, DType::F32, &Device::Cpu);
    Ok(match name {
        "mobilenet_v3_small" => {
            let config = MobileNetV3Config::small().dropout(0.0);
            Box::new(MobileNetV3::new(config.num_classes(10), vb)?)
        }
        "efficientnet_b0" => {
            let config = EfficientNetConfig::b0().dropout(0.0).stochastic_depth(0.0);
            Box::new(EfficientNet::new(config.num_classes(10), vb)?)
        }
        "efficientnet_lite0" => {
            let config = EfficientNetLiteConfig::lite0().dropout(0.0).stochastic_depth(0.0);
            Box::new(EfficientNetLite::new(config.num_classes(10), vb)?)
        }
        "regnet_y_400mf" => Box::new(RegNet::new(RegNetConfig::y_400mf().num_classes(10), vb)?),
        _ => {
            let config = ConvNeXtConfig::tiny().stochastic_depth(0.0);
            Box::new(ConvNeXt::new(config.num_classes(10), vb)?)
        }
    })
}

/// Loss and gradients of a training step. Batch norm over few positions amplifies rounding, as `README.md` in
/// `tests/reference` says.
#[test]
fn a_training_step_is_pytorchs() -> Result<()> {
    use candle_vision_ops::{CrossEntropyConfig, Targets, backward, cross_entropy};
    let expected = reference::tensors("mobile_steps.safetensors");
    for case in cases("mobile_steps") {
        let name = case["model"].as_str().expect("the case names a network");
        let number = |field: &str| case[field].as_f64().expect("the case has it");
        let model = plain(name)?;
        fill(&*model, number("gain"))?;
        let images = reference::image_batch(&format!("{name}.step"), &[8, 3, 64, 64])?;
        let labels = reference::labels(&format!("{name}.step.y"), 8, 10)?;
        let logits = model.forward(&images, &mut Pass::train(0))?;
        let config = CrossEntropyConfig::default();
        let loss = cross_entropy(&logits, Targets::Labels(&labels), &config)?;
        let found = f64::from(loss.to_scalar::<f32>()?);
        let difference = (found / number("loss") - 1.0).abs();
        assert!(difference < 1e-3, "{name}: a loss of {found}, not {}", number("loss"));
        let gradients = backward(&loss)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for parameter in model.parameters().weights() {
            if let Some(expected) = expected.get(&format!("{name}.{}", parameter.path())) {
                let gradient = gradients.get(parameter.var()).expect("every parameter learns");
                ours.push(gradient.flatten_all()?);
                theirs.push(expected.flatten_all()?);
            }
        }
        assert!(ours.len() >= 10, "{name}");
        let (ours, theirs) = (Tensor::cat(&ours, 0)?, Tensor::cat(&theirs, 0)?);
        reference::assert_close(name, &ours, &theirs, 2e-2);
    }
    Ok(())
}

/// What the rows of the table say of published weights is what the networks have: features of the head, parameters
/// and, for small networks, multiply-adds.
#[test]
fn networks_have_their_published_numbers() -> Result<()> {
    use candle_vision_models::summary::summarize;
    for name in [
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
        "regnet_y_400mf",
        "regnet_x_400mf",
    ] {
        let networks = candle_vision_models::Networks::standard();
        let published = &networks.get(name).expect("the table has it").published_weights()[0];
        let model = build(&ModelSpec::new(name, 1000), 0, &Device::Cpu)?;
        let summary = summarize(model.as_ref(), 1)?;
        assert_eq!(summary.parameters, published.parameters, "{name}");
        // torchvision publishes three digits after the point, in billions.
        let difference = (summary.multiply_adds as f64 - published.multiply_adds as f64).abs();
        assert!(difference < 1.5e6, "{name}: {} multiply-adds", summary.multiply_adds);
    }
    Ok(())
}

/// Root mean square of a new parameter.
fn spread(model: &dyn Model, path: &str) -> Result<f64> {
    let parameter = model.parameters().get(path).unwrap_or_else(|| panic!("there is no {path}"));
    let values = parameter.detached().flatten_all()?.to_vec1::<f32>()?;
    let squares = values.iter().map(|value| f64::from(*value).powi(2));
    Ok((squares.sum::<f64>() / values.len() as f64).sqrt())
}

/// Initial values that are not those of torchvision's residual networks.
#[test]
fn parameters_begin_as_their_first_networks_begin_them() -> Result<()> {
    let third = 3f64.sqrt().recip();
    for (name, expected) in [
        (
            "mobilenet_v3_small",
            vec![
                ("classifier.0.weight", 0.01),
                ("classifier.0.bias", 0.0),
                ("features.4.block.2.fc1.weight", (2f64 / 24.0).sqrt()),
                ("features.4.block.2.fc2.weight", (2f64 / 96.0).sqrt()),
                ("features.4.block.2.fc2.bias", 0.0),
            ],
        ),
        (
            "efficientnet_b0",
            vec![
                ("classifier.1.weight", third * 0.1),
                ("classifier.1.bias", 0.0),
                ("features.6.1.block.2.fc1.bias", 0.0),
            ],
        ),
        (
            "efficientnet_lite0",
            vec![
                ("blocks.5.1.conv_dw.weight", (2f64 / 25.0).sqrt()),
                ("blocks.5.1.conv_pwl.weight", (2f64 / 192.0).sqrt()),
                ("classifier.weight", third * 0.1),
            ],
        ),
        (
            "regnet_y_400mf",
            vec![
                ("fc.weight", 0.01),
                ("trunk_output.block4.block4-1.f.se.fc2.weight", (2f64 / 440.0).sqrt()),
                // PyTorch's own: torchvision sets the kernels alone.
                ("trunk_output.block4.block4-1.f.se.fc2.bias", third / 110f64.sqrt()),
            ],
        ),
        (
            "convnext_tiny",
            vec![
                ("features.0.0.weight", 0.02),
                ("features.5.2.block.3.weight", 0.02),
                ("features.5.2.block.3.bias", 0.0),
                ("features.5.2.layer_scale", 1e-6),
            ],
        ),
    ] {
        let model = build(&ModelSpec::new(name, 100), 1, &Device::Cpu)?;
        for (path, expected) in expected {
            let found = spread(&*model, path)?;
            assert!((found - expected).abs() <= 0.06 * expected, "{name}: {path}: {found}");
        }
    }
    Ok(())
}
