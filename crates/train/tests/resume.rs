//! A run that is stopped and resumed ends with the bits of one that was not.

mod common;

use candle_vision_data::LoaderConfig;
use candle_vision_train::{
    Checkpoint, Control, Error, Event, Result, StopReason, Trainer, TrainerConfig,
};
use common::*;

/// Momentum, clipping, a step schedule, groups; 4 epochs of 5 steps.
const SGD: &str = "
    epochs = 4
    seed = 5
    optimizer = { name = 'sgd', lr = 0.02, momentum = 0.9, weight_decay = 1e-4, nesterov = true }
    schedule = { name = 'step_lr', step_size = 1, gamma = 0.7, warmup = { epochs = 1, start_factor = 0.3 } }
    grad_clip_norm = 0.5
    label_smoothing = 0.1
    param_groups = [{ prefix = 'conv1', lr = 0.003 }]
    decay_vectors = false
";

/// Adam's moments and counters, a plateau that falls, parameters that join in the second epoch.
const ADAM: &str = "
    epochs = 4
    optimizer = { name = 'adam', lr = 0.003, weight_decay = 1e-4 }
    schedule = { name = 'reduce_lr_on_plateau', factor = 0.37, patience = 0, threshold = 0.9 }
    freeze = { epochs = 1, unfreeze_lr = 0.001 }
    grad_clip_norm = 1.0
    class_weights = [1.0, 2.5]
";

/// Scaled losses: with that of the first step the gradients overflow, so that the scale moves.
const F16: &str = "
    epochs = 4
    precision = 'f16'
    optimizer = { name = 'adamw', lr = 0.003 }
    grad_clip_norm = 0.5
    class_weights = [1.0, 2.5]
";

/// A rate for every step, and averages that are validated in place of the weights.
const ONE_CYCLE: &str = "
    epochs = 4
    optimizer = { name = 'sgd', lr = 0.1, momentum = 0.9 }
    schedule = { name = 'one_cycle_lr', pct_start = 0.25 }
    ema = { decay = 0.9, every = 3 }
";

/// Momentum of two optimizers, averages that the weights go on from, views in the last two epochs, groups that learn in the
/// first epochs alone.
const MUON: &str = "
    epochs = 4
    optimizer = { name = 'muon', lr = 0.02, momentum = 0.6, ns_steps = 3, normalize = true }
    param_groups = [
        { prefix = 'bn1', pattern = '**.weight', lr = 0.05, optimizer = { name = 'sgd', lr = 0.1, momentum = 0.8 } },
        { pattern = '**.bias', epochs = 3, optimizer = { name = 'sgd', lr = 0.1, momentum = 0.8 } },
        { pattern = '**.bn?.weight', optimizer = { name = 'adam', lr = 0.01 } },
        { prefix = 'conv1', epochs = 2 },
        { prefix = 'fc', optimizer = { name = 'adam', lr = 0.01 } },
    ]
    schedule = { name = 'one_cycle_lr', pct_start = 0.0, anneal_strategy = 'linear', div_factor = 1 }
    ema = { decay = 0.8, every = 3, power = 2, lookahead = true }
    tta = { name = 'mirror_shift' }
    tta_epochs = 2
";

fn check_every_step(text: &str) {
    check_steps(text, 1..=20);
}

fn check_steps(text: &str, steps: impl IntoIterator<Item = usize>) {
    let (runs, config) = (Runs::new(), recipe(text));
    let whole_run = runs.create();
    let whole = train(&config, &whole_run, &mut []).unwrap();
    assert_eq!(whole.history.batches.len(), 20);
    let (last, best) = (bits(&whole_run.last()), bits(&whole_run.best()));
    for step in steps {
        let run = runs.create();
        let stopped = train_until(&config, &run, step).unwrap();
        assert_eq!(stopped.reason, StopReason::Interrupted, "step {step}");
        assert_eq!(stopped.history.batches.len(), step);
        let resumed = resume(&config, &run).unwrap();
        assert_eq!(resumed.reason, StopReason::Completed);
        assert_eq!(resumed.history.batches, whole.history.batches, "step {step}");
        assert_eq!(results(&resumed), results(&whole), "step {step}");
        assert_same(&bits(&run.last()), &last, step);
        assert_same(&bits(&run.best()), &best, step);
    }
}

/// Five batches an epoch make two steps, of three batches and of the two that are left. Dropout draws in each batch.
#[test]
fn steps_of_several_batches_resume_from_any_step() {
    let (runs, config) = (Runs::new(), recipe(ONE_CYCLE).accumulate(3));
    let whole_run = runs.create();
    let whole = train(&config, &whole_run, &mut []).unwrap();
    assert_eq!(whole.history.batches.len(), 8);
    for step in 1..=8 {
        let run = runs.create();
        assert_eq!(train_until(&config, &run, step).unwrap().history.batches.len(), step);
        let resumed = resume(&config, &run).unwrap();
        assert_eq!(resumed.history.batches, whole.history.batches, "step {step}");
        assert_same(&bits(&run.last()), &bits(&whole_run.last()), step);
    }
    let other = resume(&recipe(ONE_CYCLE), &whole_run).unwrap_err().to_string();
    assert!(other.contains("`accumulate`"), "{other}");
}

type Tensors = std::collections::HashMap<String, Vec<u64>>;

fn assert_same(found: &Tensors, expected: &Tensors, step: usize) {
    assert_eq!(found.len(), expected.len(), "stopped in step {step}");
    for (name, expected) in expected {
        assert!(found.get(name) == Some(expected), "`{name}` differs; stopped in step {step}");
    }
}

/// All that is measured but time.
fn results(summary: &candle_vision_train::TrainingResult) -> Vec<[f64; 5]> {
    let epochs = summary.history.epochs.iter();
    epochs.map(|r| [r.train_loss, r.train_accuracy, r.val_loss, r.val_accuracy, r.lr]).collect()
}

#[test]
fn sgd_resumes_from_any_step() {
    check_every_step(SGD);
}

#[test]
fn adam_with_a_plateau_and_a_frozen_backbone_resumes_from_any_step() {
    let whole = train(&recipe(ADAM), &Runs::new().create(), &mut []).unwrap();
    let rates: Vec<f64> = whole.history.epochs.iter().map(|record| record.lr).collect();
    // Otherwise this would test less than it says.
    assert_eq!(rates[..2], [0.003, 0.001]);
    assert!(rates[3] < 0.001, "the plateau never came: {rates:?}");
    check_every_step(ADAM);
}

#[test]
fn one_cycle_with_averages_resumes_from_any_step() {
    let runs = Runs::new();
    let run = runs.create();
    let whole = train(&recipe(ONE_CYCLE), &run, &mut []).unwrap();
    let rates: Vec<f64> = whole.history.batches.iter().map(|batch| batch.lr).collect();
    assert!(rates[..5].is_sorted() && rates[4] == 0.1 && rates[19] < 1e-6, "{rates:?}");
    // Otherwise this would test less than it says: the best network is an average, the last is not.
    let (best, last) = (bits(&run.best()), bits(&run.last()));
    assert!(best["fc.weight"] != last["fc.weight"]);
    assert!(last.contains_key("ema.fc.weight") && !best.contains_key("ema.fc.weight"));
    if whole.history.best().is_some_and(|best| best.epoch == 4) {
        assert!(best["fc.weight"] == last["ema.fc.weight"]);
    }
    check_every_step(ONE_CYCLE);
}

#[test]
fn muon_with_lookahead_and_views_resumes() {
    let (runs, config) = (Runs::new(), recipe(MUON));
    let run = runs.create();
    let with_views = train(&config, &run, &mut []).unwrap();
    let last = bits(&run.last());
    // Otherwise this would test less than it says: there are states of three optimizers, and views change the loss.
    for name in ["momentum.conv1.weight", "momentum.bn1.bias", "exp_avg.fc.weight", "ema.fc.weight"]
    {
        let is_there = last.contains_key(name) || last.contains_key(&format!("optimizer.{name}"));
        assert!(is_there, "{name} of {:?}", last.keys());
    }
    let without = MUON.replace("tta = { name = 'mirror_shift' }", "").replace("tta_epochs = 2", "");
    let without = train(&recipe(&without), &runs.create(), &mut []).unwrap();
    let losses = |result: &candle_vision_train::TrainingResult| {
        result.history.epochs.iter().map(|record| record.val_loss).collect::<Vec<_>>()
    };
    let (with_views, without) = (losses(&with_views), losses(&without));
    assert_eq!(with_views[..2], without[..2]);
    assert!(with_views[2] != without[2] && with_views[3] != without[3]);
    // Each run takes a second. These stops are in the midst of epochs and at their ends, with and without views.
    check_steps(MUON, [1, 5, 8, 15, 18]);
}

#[test]
fn a_run_in_f16_resumes_from_any_step() {
    let (runs, config) = (Runs::new(), recipe(F16));
    let run = runs.create();
    train_until(&config, &run, 3).unwrap();
    let bytes = std::fs::read(run.last()).unwrap();
    let header = String::from_utf8_lossy(&bytes);
    // Otherwise this would test less than it says.
    assert!(header.contains("loss_scale"));
    assert!(!header.contains("65536"), "no step was skipped");
    check_every_step(F16);
}

#[test]
fn another_precision_is_refused_and_named() {
    let runs = Runs::new();
    let run = runs.create();
    train_until(&recipe(F16), &run, 2).unwrap();
    let error = refused(&recipe(&F16.replace("'f16'", "'bf16'")), &run).to_string();
    assert!(error.contains("`precision` is bf16 here, f16 there"), "{error}");
}

#[test]
fn a_run_may_be_stopped_many_times() {
    let (runs, config) = (Runs::new(), recipe(SGD));
    let whole = runs.create();
    train(&config, &whole, &mut []).unwrap();
    let run = runs.create();
    train_until(&config, &run, 3).unwrap();
    for _ in 0..17 {
        let (model, train, val) = (network(78), train_loader(1), val_loader());
        let mut trainer =
            Trainer::new(model.as_ref(), &train, &val, config.clone()).unwrap().run_folder(&run);
        trainer.resume(&Checkpoint::load(run.last()).unwrap()).unwrap();
        let mut stop_at_once = Watch(|_: &Event<'_>| Control::Stop);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let summary = trainer.run_with(&mut [&mut stop_at_once], &stop).unwrap();
        assert_eq!(summary.reason, StopReason::StoppedByCallback);
    }
    resume(&config, &run).unwrap();
    assert_same(&bits(&run.last()), &bits(&whole.last()), 0);
}

fn refused(config: &TrainerConfig, run: &candle_vision_train::RunFolder) -> Error {
    resume(config, run).map(|summary| summary.reason).expect_err("it must be refused")
}

#[test]
fn a_finished_run_is_not_resumed() {
    let (runs, config) = (Runs::new(), recipe(SGD));
    let run = runs.create();
    train(&config, &run, &mut []).unwrap();
    let error = refused(&config, &run).to_string();
    assert!(
        error.contains("is finished after 4 epochs (all epochs are done); start a new run"),
        "{error}"
    );
}

#[test]
fn other_settings_are_refused_and_named() {
    let runs = Runs::new();
    let run = runs.create();
    train_until(&recipe(SGD), &run, 2).unwrap();
    let error = refused(&recipe(&SGD.replace("seed = 5", "seed = 6")), &run).to_string();
    assert!(error.contains("`seed` is 6 here, 5 there"), "{error}");
    let error = refused(&recipe(&SGD.replace("lr = 0.02", "lr = 0.03")), &run).to_string();
    assert!(error.contains("`optimizer`"), "{error}");
}

#[test]
fn other_data_are_refused_and_named() {
    let (runs, config) = (Runs::new(), recipe(SGD));
    let run = runs.create();
    train_until(&config, &run, 2).unwrap();
    let check = |data: Halves, loader: LoaderConfig, named: &str| -> Result<()> {
        let (model, train, val) = (network(0), loader_of(data, loader), val_loader());
        let mut trainer =
            Trainer::new(model.as_ref(), &train, &val, config.clone())?.run_folder(&run);
        let error = trainer.resume(&Checkpoint::load(run.last())?).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
        Ok(())
    };
    let loader = train_loader(0).config().clone();
    let name = "`fingerprint of the training data` is halves-24-0 here, halves-23-0 there";
    check(Halves::new(24, 0), loader.clone(), name).unwrap();
    let name = "`batch_size of the training data` is 6 here, 5 there";
    check(Halves::new(23, 0), loader.batch_size(6), name).unwrap();
}

#[test]
fn the_best_checkpoint_alone_cannot_be_resumed() {
    let (runs, config) = (Runs::new(), recipe(SGD));
    let run = runs.create();
    train_until(&config, &run, 7).unwrap();
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, config).unwrap().run_folder(&run);
    let error = trainer.resume(&Checkpoint::load(run.best()).unwrap()).unwrap_err().to_string();
    assert!(error.ends_with("has no training state; resume from `last.safetensors`"), "{error}");
}
