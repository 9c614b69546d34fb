//! Twenty steps of each optimizer on a network of two layers, against PyTorch's.

use candle_vision_test_support::reference;

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_models::{Init, Parameter, ParameterBuilder, Parameters};
use candle_vision_ops::{CrossEntropyConfig, Targets, cross_entropy, linear, relu};
use candle_vision_train::Description;
use candle_vision_train::optim::{Optimizer, Optimizers, ParamGroup, Sgd};

struct TwoLayers {
    parameters: Parameters,
    layers: [[Parameter; 2]; 2],
}

impl TwoLayers {
    fn new() -> Result<Self> {
        let parameters = Parameters::new();
        let vb = parameters.builder(0, DType::F32, &Device::Cpu);
        let layers = [layer(&vb.pp(0), 12, 16)?, layer(&vb.pp(2), 16, 5)?];
        for parameter in parameters.all() {
            let shape = parameter.var().dims();
            parameter.set(&reference::weight(parameter.path(), shape, 1.0)?)?;
        }
        Ok(Self { parameters, layers })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second] = &self.layers;
        let x = linear(x, first[0].var(), Some(first[1].var()))?;
        linear(&relu(&x)?, second[0].var(), Some(second[1].var()))
    }
}

fn layer(vb: &ParameterBuilder, inputs: usize, outputs: usize) -> Result<[Parameter; 2]> {
    let weight = vb.weight("weight", &[outputs, inputs], Init::Constant(0.0))?;
    Ok([weight, vb.weight("bias", &[outputs], Init::Constant(0.0))?])
}

#[track_caller]
fn check(case: &str, config: &str) {
    let config: Description = toml::from_str(config).expect("the case is a valid setting");
    let cases = reference::json("optimizers.json");
    let cases = cases.as_array().expect("a list of cases");
    let expected = cases.iter().find(|c| c["case"] == case).expect("the case is in the file");
    let network = TwoLayers::new().expect("the network is built");
    let group = ParamGroup::new(network.parameters.trainable());
    let build = |config| Optimizers::standard().build(config).expect("settings are valid");
    let mut optimizers = vec![build(&config)];
    let mut groups = vec![group];
    if config.name == "muon" {
        // It takes no biases.
        optimizers.push(build(&Sgd::new(0.05).into()));
        groups = groups.remove(0).split(|parameter| parameter.var().rank() > 1).to_vec();
    }
    for (optimizer, group) in optimizers.iter_mut().zip(groups) {
        optimizer.add(vec![group]).expect("each parameter is there once");
    }
    for step in 0..20 {
        let loss = train(&network, &mut optimizers, step).expect("a step works");
        let expected = expected["losses"][step].as_f64().expect("a number");
        assert!((loss / expected - 1.0).abs() < 1e-5, "{case}, step {step}: {loss}, {expected}");
    }
    let tensors = reference::tensors("optimizers.safetensors");
    for parameter in network.parameters.all() {
        let expected = &tensors[&format!("{case}.{}", parameter.path())];
        reference::assert_close(parameter.path(), parameter.var(), expected, 1e-5);
    }
}

fn train(network: &TwoLayers, optimizers: &mut [Box<dyn Optimizer>], step: usize) -> Result<f64> {
    let x = reference::image_batch(&format!("opt.x{step}"), &[8, 12])?;
    let labels = reference::labels(&format!("opt.y{step}"), 8, 5)?;
    let targets = Targets::Labels(&labels);
    let loss = cross_entropy(&network.forward(&x)?, targets, &CrossEntropyConfig::default())?;
    let grads = loss.backward()?;
    for optimizer in optimizers {
        optimizer.step(&grads).map_err(candle_core::Error::wrap)?;
    }
    Ok(f64::from(loss.to_scalar::<f32>()?))
}

#[test]
fn sgd() {
    check("sgd", "name = 'sgd'\nlr = 0.05");
}

#[test]
fn sgd_with_momentum() {
    check("sgd_momentum", "name = 'sgd'\nlr = 0.05\nmomentum = 0.9");
}

#[test]
fn sgd_with_nesterov_momentum_and_weight_decay() {
    let config = "name = 'sgd'\nlr = 0.05\nmomentum = 0.9\nnesterov = true\nweight_decay = 0.01";
    check("sgd_nesterov_wd", config);
}

#[test]
fn muon() {
    check("muon", "name = 'muon'\nlr = 0.02\nmomentum = 0.9\nweight_decay = 0.1");
    let config = "name = 'muon'\nlr = 0.01\nmomentum = 0.8\nnesterov = false\nns_steps = 3\n\
                  adjust_lr_fn = 'match_rms_adamw'";
    check("muon_adjusted", config);
}

#[test]
fn adam() {
    check("adam", "name = 'adam'\nlr = 0.01");
}

#[test]
fn adam_with_weight_decay() {
    check("adam_wd", "name = 'adam'\nlr = 0.01\nweight_decay = 0.1");
}

#[test]
fn adamw() {
    check("adamw", "name = 'adamw'\nlr = 0.01\nweight_decay = 0.1");
}
