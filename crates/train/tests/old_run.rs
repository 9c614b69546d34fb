//! Runs that an earlier version began go on, to the bits that it would have come to.
//!
//! `tests/fixtures/old_run` has three such runs, written by the version before optimizers, schedules and losses
//! became traits. Each folder has what its run had left behind when it was stopped, and, as
//! `whole.safetensors`, the last checkpoint of the same run when it was not stopped.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use candle_vision_models::{Init, Model, ModelSpec, Parameter, ParameterBuilder, Parameters, Pass};
use candle_vision_ops::{linear, relu};
use candle_vision_train::{Checkpoint, Control, Event, RunFolder, Trainer, TrainerConfig};
use common::*;

/// Two layers: a file of it is small.
struct TwoLayers {
    spec: ModelSpec,
    parameters: Parameters,
    layers: [[Parameter; 2]; 2],
}

impl TwoLayers {
    fn new(seed: u64) -> Self {
        let parameters = Parameters::new();
        let vb = parameters.builder(seed, DType::F32, &Device::Cpu);
        let layer = |name: &str, inputs: usize, outputs: usize| {
            let vb: ParameterBuilder = vb.pp(name);
            let init = Init::fan_in_uniform(inputs);
            [vb.weight("weight", &[outputs, inputs], init), vb.weight("bias", &[outputs], init)]
                .map(|parameter| parameter.expect("each path is new"))
        };
        let layers = [layer("fc1", 3 * SIDE * SIDE, 6), layer("fc2", 6, 2)];
        let spec = ModelSpec::new("two_layers", 2).input([3, SIDE, SIDE]);
        Self { spec, parameters, layers }
    }
}

impl Model for TwoLayers {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn forward(&self, images: &Tensor, _: &mut Pass<'_>) -> candle_core::Result<Tensor> {
        let [first, second] = &self.layers;
        let x = images.flatten_from(1)?;
        let x = relu(&linear(&x, first[0].var(), Some(first[1].var()))?)?;
        linear(&x, second[0].var(), Some(second[1].var()))
    }

    fn head(&self) -> &'static str {
        "fc2"
    }

    fn cam_layer(&self) -> Option<&'static str> {
        None
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/old_run").join(name)
}

/// What a run, begun here or there, comes to. It is stopped after step `until`, if that is not 0.
fn go(config: &TrainerConfig, run: &RunFolder, until: usize) -> HashMap<String, Vec<u64>> {
    let (model, train, val) =
        (TwoLayers::new(if until > 0 { 0 } else { 7 }), train_loader(0), val_loader());
    let trainer = Trainer::new(&model, &train, &val, config.clone()).unwrap();
    let mut trainer = trainer.run_folder(run);
    if run.last().exists() {
        trainer.resume(&Checkpoint::load(run.last()).unwrap()).unwrap();
    }
    let mut watch = Watch(|event: &Event<'_>| match event {
        Event::BatchEnd { record, .. } if record.step == until => Control::Stop,
        _ => Control::Continue,
    });
    trainer.run_with(&mut [&mut watch], &AtomicBool::new(false)).unwrap();
    bits(&run.last())
}

#[track_caller]
fn check(name: &str, steps: usize) {
    let runs = Runs::new();
    let config = std::fs::read_to_string(fixture(name).join("config.toml")).unwrap();
    let config = recipe(&config);
    let run = runs.create();
    for file in ["metrics.csv", "batches.csv", "last.safetensors"] {
        std::fs::copy(fixture(name).join(file), run.path().join(file)).unwrap();
    }
    assert_eq!(RunFolder::open(run.path()).unwrap().history().unwrap().batches.len(), steps);
    let (found, expected) = (go(&config, &run, 0), bits(&fixture(name).join("whole.safetensors")));
    assert_eq!(found.len(), expected.len());
    // Another kind of processor rounds otherwise; there the first half has other bits, too.
    let is_same_machine =
        go(&config, &runs.create(), steps) == bits(&fixture(name).join("last.safetensors"));
    for (name, expected) in &expected {
        let found = &found[name];
        if is_same_machine || name == "history.lr" {
            assert!(found == expected, "{name}");
        }
        for (found, expected) in found.iter().zip(expected) {
            let [found, expected] = [found, expected].map(|bits| f64::from_bits(*bits));
            assert!((found - expected).abs() < 1e-4, "{name}: {found}, {expected}");
        }
    }
}

#[test]
fn a_run_by_sgd_with_groups_and_a_warm_up() {
    check("sgd", 7);
}

#[test]
fn a_run_by_adam_with_a_plateau_frozen_epochs_and_averages() {
    check("adam", 13);
}

#[test]
fn a_run_of_one_cycle_in_half_precision() {
    check("cycle", 10);
}
