//! What a run restores besides the weights, and what it checks before its first step.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use candle_core::{Device, Tensor};
use candle_vision_data::transforms::{Compose, Normalize, ToTensor, Transforms};
use candle_vision_data::{DataLoader, Dataset, Error as DataError, LoaderConfig, Sample};
use candle_vision_models::{Model, ModelSpec, build};
use candle_vision_train::{
    Checkpoint, Control, Error, Event, Result, RunFolder, Trainer, TrainerConfig, TrainingResult,
    evaluate,
};
use common::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};

const SGD: &str = "epochs = 3\noptimizer = { name = 'sgd', lr = 0.02, momentum = 0.9 }";

fn trainable(model: &dyn Model) -> Vec<String> {
    let trainable = model.parameters().trainable();
    trainable.iter().map(|parameter| parameter.path().to_owned()).collect()
}

/// Runs, or goes on if there is a checkpoint, until step `until`.
fn go(
    model: &dyn Model,
    config: &TrainerConfig,
    run: &RunFolder,
    until: usize,
) -> Result<TrainingResult> {
    let (train, val) = (train_loader(0), val_loader());
    let mut trainer = Trainer::new(model, &train, &val, config.clone())?.run_folder(run);
    if run.last().exists() {
        trainer.resume(&Checkpoint::load(run.last())?)?;
    }
    let mut watch = Watch(|event: &Event<'_>| match event {
        Event::BatchEnd { record, .. } if record.step == 3 => {
            // What a user may do by hand in the midst of a run.
            if config.seed == 1 {
                model.parameters().freeze("conv2").unwrap();
            }
            if until == 3 { Control::Stop } else { Control::Continue }
        }
        Event::BatchEnd { record, .. } if record.step == until => Control::Stop,
        _ => Control::Continue,
    });
    trainer.run_with(&mut [&mut watch], &AtomicBool::new(false))
}

/// Stops in every step, goes on with a network made by `other`, and compares with a run by `first`.
#[track_caller]
fn check_resumes(
    first: impl Fn() -> Box<dyn Model>,
    other: impl Fn() -> Box<dyn Model>,
    config: &TrainerConfig,
) {
    let runs = Runs::new();
    let whole = runs.create();
    let model = first();
    go(model.as_ref(), config, &whole, 0).unwrap();
    for step in [3, 5, 7, 12] {
        let run = runs.create();
        go(first().as_ref(), config, &run, step).unwrap();
        let resumed = other();
        go(resumed.as_ref(), config, &run, 0).unwrap();
        assert_eq!(trainable(resumed.as_ref()), trainable(model.as_ref()), "step {step}");
        assert!(bits(&run.last()) == bits(&whole.last()), "step {step}");
    }
}

#[test]
fn parameters_that_were_frozen_by_hand_stay_frozen() {
    let frozen = || {
        let model = network(0);
        model.parameters().freeze("conv1").unwrap();
        model
    };
    check_resumes(frozen, || network(5), &recipe(SGD));
    let and_epochs = format!("{SGD}\nfreeze = {{ epochs = 1 }}");
    check_resumes(frozen, || network(5), &recipe(&and_epochs));
    // The other way round: what is frozen here learned there.
    check_resumes(|| network(0), frozen, &recipe(SGD));
    check_resumes(|| network(0), frozen, &recipe(&and_epochs));
}

#[test]
fn parameters_that_are_frozen_in_the_midst_of_a_run_keep_their_momentum() {
    check_resumes(|| network(0), || network(5), &recipe(&format!("seed = 1\n{SGD}")));
}

fn resnet9(seed: u64) -> Box<dyn Model> {
    build(&ModelSpec::new("resnet9", 2).input([3, SIDE, SIDE]), seed, &Device::Cpu).unwrap()
}

fn fitted() -> Box<dyn Model> {
    let model = resnet9(0);
    let batch = train_loader(0).epoch(0).next().unwrap().unwrap();
    model.fit_images(&batch.images).unwrap();
    model
}

#[test]
fn a_network_that_was_fitted_to_images_resumes_fitted_or_not() {
    let config = recipe("epochs = 2\noptimizer = { name = 'sgd', lr = 1e-3, momentum = 0.9 }");
    for freeze in ["", "\n[freeze]\nepochs = 1"] {
        let text = format!("{}{freeze}", toml::to_string(&config).unwrap());
        let config = recipe(&text);
        let runs = Runs::new();
        // As after weights: the first layer learns, and the network it is resumed with was fitted.
        for (first, other) in
            [(fitted as fn() -> _, (|| resnet9(3)) as fn() -> _), (|| resnet9(0), fitted)]
        {
            let (whole, run) = (runs.create(), runs.create());
            let model = first();
            go(model.as_ref(), &config, &whole, 0).unwrap();
            go(first().as_ref(), &config, &run, 7).unwrap();
            let resumed = other();
            go(resumed.as_ref(), &config, &run, 0).unwrap();
            assert_eq!(trainable(resumed.as_ref()), trainable(model.as_ref()));
            assert!(bits(&run.last()) == bits(&whole.last()), "{text}");
        }
    }
}

#[test]
fn a_trainer_that_cannot_be_made_changes_nothing() {
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let before = trainable(model.as_ref());
    let frozen = format!("{SGD}\nfreeze = {{ epochs = 1 }}");
    for (settings, named) in [
        ("class_weights = [1.0, 2.0, 3.0]", "`class_weights`"),
        ("param_groups = [{ prefix = 'nowhere' }]", "`prefix of a parameter group`"),
        ("param_groups = [{ pattern = '*.no' }]", "`pattern of a parameter group` is *.no"),
        ("param_groups = [{ prefix = 'fc', epochs = 0 }]", "`epochs of a parameter group`"),
        ("schedule = { name = 'step_lr', step_size = 0 }", "`schedule.step_size`"),
        ("ema = { decay = 2.0 }", "`ema.decay`"),
    ] {
        let config = recipe(&format!("{settings}\n{frozen}"));
        let error = Trainer::new(model.as_ref(), &train, &val, config).err().unwrap();
        assert!(error.to_string().starts_with(named), "{error}");
        assert_eq!(trainable(model.as_ref()), before, "{settings}");
    }
    let other =
        loader_of(Halves { classes: vec!["one".to_owned()], ..Halves::new(4, 0) }, config());
    assert!(Trainer::new(model.as_ref(), &train, &other, recipe(&frozen)).is_err());
    assert_eq!(trainable(model.as_ref()), before);
}

fn config() -> LoaderConfig {
    LoaderConfig::new(5).workers(0)
}

#[test]
fn a_checkpoint_that_does_not_fit_changes_nothing() {
    let runs = Runs::new();
    let run = runs.create();
    go(network(0).as_ref(), &recipe(SGD), &run, 7).unwrap();
    edit(&run.last(), |_, tensors| {
        tensors.retain(|name, _| name != "optimizer.momentum.conv1.weight");
    });
    let model = network(4);
    let before = model.parameters().get("fc.weight").unwrap().detached().copy().unwrap();
    let error = go(model.as_ref(), &recipe(SGD), &run, 0).unwrap_err().to_string();
    assert!(error.contains("`optimizer.momentum.conv1.weight` is missing"), "{error}");
    let after = model.parameters().get("fc.weight").unwrap().detached();
    assert_eq!(tensor_bits(&after), tensor_bits(&before));
}

/// Changes the header and the tensors of a checkpoint.
fn edit(path: &Path, change: impl FnOnce(&mut Value, &mut HashMap<String, Tensor>)) {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let text = &header.metadata().as_ref().unwrap()["candle_vision"];
    let mut json: Value = serde_json::from_str(text).unwrap();
    let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    change(&mut json, &mut tensors);
    let header = HashMap::from([("candle_vision".to_owned(), json.to_string())]);
    let bytes = safetensors::serialize(&tensors, Some(header)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_run_that_was_recorded_before_a_setting_existed_resumes() {
    let runs = Runs::new();
    let (whole, run) = (runs.create(), runs.create());
    go(network(0).as_ref(), &recipe(SGD), &whole, 0).unwrap();
    go(network(0).as_ref(), &recipe(SGD), &run, 7).unwrap();
    edit(&run.last(), |header, _| {
        let state = &mut header["training"];
        // As the first version wrote it: transforms as text, and fewer settings.
        let compose = Compose::new().with(ToTensor).with(Normalize::new([0.5; 3], [0.25; 3]));
        for split in ["training", "validation"] {
            let recorded = &mut state["data"][format!("transforms of the {split} data")];
            assert!(recorded.as_str().unwrap().starts_with(r#"[{"op":"to_tensor"}"#), "{recorded}");
            *recorded = json!(format!("{compose:?}"));
        }
        for added in ["learning", "forgiven"] {
            state.as_object_mut().unwrap().remove(added).unwrap();
        }
        for defaulted in ["schedule", "precision", "loss", "monitor", "decay_vectors", "seed"] {
            state["config"].as_object_mut().unwrap().remove(defaulted).unwrap();
        }
        state["config"]["optimizer"].as_object_mut().unwrap().remove("nesterov").unwrap();
        state["data"].as_object_mut().unwrap().remove("drop_last of the training data").unwrap();
    });
    go(network(5).as_ref(), &recipe(SGD), &run, 0).unwrap();
    assert!(bits(&run.last()) == bits(&whole.last()));
}

#[test]
fn settings_of_another_version_are_named_in_one_line() {
    let runs = Runs::new();
    let resumed = |change: fn(&mut Value)| {
        let run = runs.create();
        go(network(0).as_ref(), &recipe(SGD), &run, 7).unwrap();
        edit(&run.last(), |header, _| change(header));
        let error = go(network(5).as_ref(), &recipe(SGD), &run, 0).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        (run, error)
    };
    let (run, error) = resumed(|header| header["training"]["config"]["lookahead"] = json!(5));
    assert!(
        error.contains("version 0.1.0") && error.contains("unknown field `lookahead`"),
        "{error}"
    );
    // The network is whole all the same.
    let checkpoint = Checkpoint::load(run.last()).unwrap();
    assert!(!checkpoint.is_resumable());
    checkpoint.restore(network(5).as_ref()).unwrap();

    let (_, error) =
        resumed(|header| header["training"]["data"]["colours of the training data"] = json!("3"));
    let expected = "`colours of the training data` is not known here, 3 there";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_transform_that_nobody_registered_is_named_when_it_is_built() {
    let runs = Runs::new();
    let run = runs.create();
    go(network(0).as_ref(), &recipe(SGD), &run, 7).unwrap();
    edit(&run.last(), |header, _| header["preprocessing"][0]["op"] = json!("to_tensor_2"));
    // The network is whole all the same, and so is the run.
    let metadata = Checkpoint::load(run.last()).unwrap().metadata;
    let error = metadata.preprocessing.build(&Transforms::standard()).unwrap_err().to_string();
    assert_eq!(error, "no transform is called `to_tensor_2`; did you mean `to_tensor`?");
    go(network(5).as_ref(), &recipe(SGD), &run, 0).unwrap();
}

/// Counts how often its fingerprint is asked for; one sample may have a label of no class.
struct Counted {
    halves: Halves,
    asked: AtomicUsize,
    mislabelled: Option<usize>,
}

impl Dataset for Counted {
    fn len(&self) -> usize {
        self.halves.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        Ok(Sample { label: self.label(index), ..self.halves.sample(index)? })
    }

    fn classes(&self) -> &[String] {
        self.halves.classes()
    }

    fn label(&self, index: usize) -> u32 {
        if self.mislabelled == Some(index) { 7 } else { self.halves.label(index) }
    }

    fn name(&self, index: usize) -> String {
        self.halves.name(index)
    }

    fn fingerprint(&self) -> String {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.halves.fingerprint()
    }
}

fn counted(count: usize, mislabelled: Option<usize>) -> (Arc<Counted>, DataLoader) {
    let halves = Halves::new(count, 0);
    let data = Arc::new(Counted { halves, asked: AtomicUsize::new(0), mislabelled });
    let dataset: Arc<dyn Dataset> = data.clone();
    let transform = Compose::new().with(ToTensor);
    (data, DataLoader::new(dataset, transform, config(), Device::Cpu).unwrap())
}

#[test]
fn the_fingerprint_is_taken_once_a_run() {
    let runs = Runs::new();
    let run = runs.create();
    let ((data, train), val) = (counted(10, None), val_loader());
    let model = network(0);
    let mut trainer =
        Trainer::new(model.as_ref(), &train, &val, recipe(SGD)).unwrap().run_folder(&run);
    trainer.run().unwrap();
    assert_eq!(data.asked.load(Ordering::Relaxed), 1);
    let more = recipe(SGD).epochs(4);
    let (data, train) = counted(10, None);
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, more).unwrap().run_folder(&run);
    trainer.resume(&Checkpoint::load(run.last()).unwrap()).unwrap();
    trainer.run().unwrap();
    assert_eq!(data.asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_label_of_no_class_is_named_before_the_first_step() {
    let (model, val) = (network(0), val_loader());
    let (_, wrong) = counted(10, Some(6));
    let expected = "sample 6 (`halves[6]`) has label 7, but there are 2 classes";
    for (train, val) in [(&wrong, &val), (&val, &wrong)] {
        let error = Trainer::new(model.as_ref(), train, val, recipe(SGD)).err().unwrap();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let error = evaluate(model.as_ref(), &wrong).run().unwrap_err();
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn an_output_that_is_not_finite_is_no_prediction() {
    let (model, val) = (network(0), val_loader());
    for (value, text) in [(f32::NAN, "is NaN"), (f32::INFINITY, "is inf"), (-f32::INFINITY, "-inf")]
    {
        let bias = model.parameters().get("fc.bias").unwrap();
        bias.set(&Tensor::new(&[0.5, value], &Device::Cpu).unwrap()).unwrap();
        let error = evaluate(model.as_ref(), &val).run().unwrap_err();
        assert!(matches!(error, Error::NotFiniteOutput { index: 0, .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("sample 0 (`halves[0]`)") && error.contains(text), "{error}");
    }
}

/// 32 times smaller than an image are the last maps of a ResNet: 1x1 here.
fn resnet18() -> Box<dyn Model> {
    build(&ModelSpec::new("resnet18", 2).input([3, SIDE, SIDE]), 0, &Device::Cpu).unwrap()
}

fn train_on(model: &dyn Model, loader: LoaderConfig, text: &str) -> Result<usize> {
    let runs = Runs::new();
    let run = runs.create();
    let (train, val) = (loader_of(Halves::new(5, 0), loader), val_loader());
    let mut trainer = Trainer::new(model, &train, &val, recipe(text))?.run_folder(&run);
    let mut batches = 0;
    let mut watch = Watch(|event: &Event<'_>| {
        batches += usize::from(matches!(event, Event::BatchEnd { .. }));
        Control::Continue
    });
    let result = trainer.run_with(&mut [&mut watch], &AtomicBool::new(false));
    result.map_err(|error| {
        assert_eq!(batches, 0, "{error}");
        error
    })?;
    Ok(batches)
}

#[test]
fn a_last_batch_of_one_sample_is_refused_before_the_first_step() {
    let sgd = "epochs = 1\noptimizer = { name = 'sgd', lr = 1e-3 }";
    let four = config().batch_size(4);
    let model = resnet18();
    let statistics = || {
        let buffers = model.parameters().get("bn1.running_mean").unwrap().detached();
        tensor_bits(&buffers)
    };
    let before = statistics();
    let error = train_on(model.as_ref(), four.clone(), sgd).unwrap_err();
    assert!(matches!(error, Error::SingleSample { samples: Some(5), .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("last of 5 samples is alone in batches of 4"), "{error}");
    assert!(error.contains("set `drop_last`, or another `batch_size` than 4"), "{error}");
    assert_eq!(statistics(), before);
    // The frozen part learns later.
    let frozen = format!("{sgd}\nfreeze = {{ epochs = 1, batch_norm = 'keep_statistics' }}");
    let thaws = frozen.replacen("epochs = 1", "epochs = 2", 1);
    assert!(train_on(model.as_ref(), four.clone(), &thaws).is_err());
    assert_eq!(train_on(model.as_ref(), four.clone(), &frozen).unwrap(), 2);

    let one = config().batch_size(1);
    let error = train_on(model.as_ref(), one.clone(), sgd).unwrap_err().to_string();
    assert!(error.contains("`batch_size` is 1") && error.contains("drop_last"), "{error}");
    let dropped = four.clone().drop_last(true);
    assert_eq!(train_on(model.as_ref(), dropped, sgd).unwrap(), 1);
    let limited = format!("limit_batches = 1\n{sgd}");
    assert_eq!(train_on(model.as_ref(), four.clone(), &limited).unwrap(), 1);
    // Larger maps have more than one value.
    assert_eq!(train_on(network(0).as_ref(), four, sgd).unwrap(), 2);
    assert_eq!(train_on(network(0).as_ref(), one, sgd).unwrap(), 5);
}

#[test]
fn a_batch_that_came_to_one_sample_says_why() {
    let runs = Runs::new();
    let run = runs.create();
    let loader = config().batch_size(2).skip_broken(true);
    let train = loader_of(Halves { broken: Some(1), ..Halves::new(4, 0) }, loader);
    let (model, val) = (resnet18(), val_loader());
    let mut trainer =
        Trainer::new(model.as_ref(), &train, &val, recipe(SGD)).unwrap().run_folder(&run);
    let error = trainer.run().unwrap_err().to_string();
    assert!(error.contains("all but one sample of a batch of 2 were left out"), "{error}");
}
