//! Ten training steps of whole networks, against PyTorch's: losses, first gradients, final values.
//!
//! The losses are compared with PyTorch's in `f64`. Tolerances follow PyTorch's own `f32` noise,
//! which the networks amplify: batch norm over 8 images, and ReLUs that switch on rounding.

use candle_vision_test_support as every_path;
use candle_vision_test_support::reference;

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor};
use candle_vision_models::parity::fill;
use candle_vision_models::{Model, ModelSpec, Pass, build};
use candle_vision_ops::{CrossEntropyConfig, Targets, cross_entropy};
use candle_vision_train::Description;
use candle_vision_train::optim::{Adam, Optimizers, ParamGroup, Sgd};

struct Case {
    name: &'static str,
    architecture: &'static str,
    input: [usize; 4],
    optimizer: Description,
    /// Path of the part that learns.
    trainable: &'static str,
    loss: f64,
    gradient: f64,
    after: f64,
}

#[track_caller]
fn check(case: &Case) {
    let cases = reference::json("training.json");
    let cases = cases.as_array().expect("a list of cases");
    let expected = cases.iter().find(|c| c["case"] == case.name).expect("the case is in the file");
    let tensors = reference::tensors("training.safetensors");
    let model = network(case).expect("the network is built");
    let group = ParamGroup::new(model.parameters().trainable());
    let mut optimizer = Optimizers::standard().build(&case.optimizer).expect("settings are valid");
    optimizer.add(vec![group]).expect("each parameter is there once");
    for step in 0..10 {
        let (loss, grads) = forward_backward(case, model.as_ref(), step).expect("a step works");
        let expected = expected["losses_f64"][step].as_f64().expect("a number");
        let error = (loss / expected - 1.0).abs();
        assert!(error <= case.loss, "step {step}: loss {loss}, expected {expected} ({error:.1e})");
        if step == 0 {
            check_gradients(case, model.as_ref(), &grads, &tensors);
        }
        optimizer.step(&grads).expect("every trainable parameter has a gradient");
    }
    check_values(case, model.as_ref(), &tensors);
}

fn network(case: &Case) -> Result<Box<dyn Model>> {
    let [_, channels, height, width] = case.input;
    let spec = ModelSpec::new(case.architecture, 10).input([channels, height, width]).dropout(0.0);
    let model = build(&spec, 0, &Device::Cpu)?;
    fill(&*model, 1.0)?;
    model.parameters().freeze("")?;
    model.parameters().unfreeze(case.trainable)?;
    Ok(model)
}

fn forward_backward(case: &Case, model: &dyn Model, step: usize) -> Result<(f64, GradStore)> {
    let images = reference::image_batch(&format!("{}.x{step}", case.name), &case.input)?;
    let labels = reference::labels(&format!("{}.y{step}", case.name), case.input[0], 10)?;
    let mut pass = Pass::train(0);
    let logits = model.forward(&images, &mut pass)?;
    let targets = Targets::Labels(&labels);
    let loss = cross_entropy(&logits, targets, &CrossEntropyConfig::default())?;
    Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
}

/// Large tensors are not in the file.
#[track_caller]
fn check_gradients(
    case: &Case,
    model: &dyn Model,
    grads: &GradStore,
    tensors: &HashMap<String, Tensor>,
) {
    let mut compared = 0;
    for parameter in model.parameters().trainable() {
        let name = format!("{}.step0_grad.{}", case.name, parameter.path());
        let Some(expected) = tensors.get(&name) else {
            continue;
        };
        let grad = grads.get(parameter.var()).expect("every trainable parameter has a gradient");
        // A shift in front of a convolution and batch norm changes nothing: its gradient is zero,
        // and what stands there is rounding on both sides.
        if largest(expected) < 1e-4 {
            assert!(largest(grad) < 1e-3, "{name}: {} instead of zero", largest(grad));
        } else {
            reference::assert_close(&name, grad, expected, case.gradient);
        }
        compared += 1;
    }
    assert!(compared > 0, "nothing was compared");
    let frozen = model.parameters().weights().into_iter().filter(|p| !p.is_trainable());
    for parameter in frozen {
        assert!(grads.get(parameter.var()).is_none(), "`{}` is frozen", parameter.path());
    }
}

fn largest(tensor: &Tensor) -> f32 {
    let values = tensor.abs().and_then(|t| t.flatten_all()?.max(0)?.to_scalar::<f32>());
    values.expect("a gradient is readable")
}

#[track_caller]
fn check_values(case: &Case, model: &dyn Model, tensors: &HashMap<String, Tensor>) {
    let mut compared = 0;
    for parameter in model.parameters().all() {
        let name = format!("{}.after.{}", case.name, parameter.path());
        let Some(expected) = tensors.get(&name) else {
            continue;
        };
        reference::assert_close(&name, parameter.var(), expected, case.after);
        compared += 1;
    }
    assert!(compared > 0, "nothing was compared");
}

#[test]
fn mlp_with_adam() {
    check(&Case {
        name: "mlp",
        architecture: "mlp",
        input: [16, 1, 28, 28],
        optimizer: Adam::new(1e-4).into(),
        trainable: "",
        loss: 1e-5,
        gradient: 1e-4,
        after: 1e-5,
    });
}

#[test]
fn simple_cnn_with_momentum() {
    check(&Case {
        name: "simple_cnn",
        architecture: "simple_cnn",
        input: [8, 3, 32, 32],
        optimizer: Sgd::new(1e-3).momentum(0.9).into(),
        trainable: "",
        loss: 1e-5,
        gradient: 1e-4,
        after: 1e-4,
    });
}

#[test]
fn resnet18_with_momentum_and_weight_decay() {
    let optimizer = Sgd::new(1e-4).momentum(0.9).weight_decay(1e-4).into();
    check(&Case {
        name: "resnet18_sgd",
        architecture: "resnet18",
        input: [8, 3, 64, 64],
        optimizer,
        trainable: "",
        loss: 1e-3,
        gradient: 2e-2,
        after: 1e-3,
    });
}

/// Batch norm is frozen too, but goes on in train mode.
#[test]
fn resnet18_of_which_only_the_head_learns() {
    check(&Case {
        name: "resnet18_frozen",
        architecture: "resnet18",
        input: [8, 3, 64, 64],
        optimizer: Adam::new(1e-3).into(),
        trainable: "fc",
        loss: 1e-5,
        gradient: 1e-4,
        after: 1e-4,
    });
}

#[test]
fn mobilenet_v2_with_sgd() {
    check(&Case {
        name: "mobilenet_v2_sgd",
        architecture: "mobilenet_v2",
        input: [8, 3, 64, 64],
        optimizer: Sgd::new(1e-5).momentum(0.9).into(),
        trainable: "",
        loss: 5e-3,
        gradient: 2e-2,
        after: 2e-2,
    });
}

/// Widths, tails and blocks differ between the kernels' sets of instructions.
#[test]
fn every_set_of_instructions_passes() {
    every_path::with_every_limit("");
}
