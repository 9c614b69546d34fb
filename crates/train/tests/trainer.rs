//! Whole runs on a small data set: what they learn, leave behind, and say when they fail.

mod common;

use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use candle_vision_data::LoaderConfig;
use candle_vision_models::{ModelSpec, build};
use candle_vision_train::{Checkpoint, Control, Error, Event, StopReason, Trainer, evaluate};
use common::*;

const ADAM: &str = "epochs = 3\noptimizer = { name = 'adam', lr = 0.001 }";

#[test]
fn a_network_learns() {
    let runs = Runs::new();
    let config = recipe("epochs = 12\noptimizer = { name = 'adam', lr = 0.003 }");
    let summary = train(&config, &runs.create(), &mut []).unwrap();
    assert_eq!(summary.reason, StopReason::Completed);
    let best = summary.history.best().unwrap();
    assert!(best.val_accuracy > 0.9, "{best:?}");
    assert!(summary.history.epochs[11].train_loss < 0.5 * summary.history.epochs[0].train_loss);
}

#[test]
fn a_run_leaves_its_results() {
    let (runs, config) = (Runs::new(), recipe(ADAM));
    let run = runs.create();
    let summary = train(&config, &run, &mut []).unwrap();
    let lines = |name| std::fs::read_to_string(run.path().join(name)).unwrap().lines().count();
    assert_eq!(lines("metrics.csv"), 1 + 3);
    assert_eq!(lines("batches.csv"), 1 + 3 * 5);
    let steps: Vec<usize> = summary.history.batches.iter().map(|batch| batch.step).collect();
    assert_eq!(steps, (1..=15).collect::<Vec<_>>());

    let best = summary.history.best().unwrap();
    let checkpoint = summary.best().unwrap();
    assert_eq!(checkpoint.metadata.epoch, best.epoch);
    assert_eq!(checkpoint.metadata.val_accuracy, Some(best.val_accuracy));
    assert_eq!(checkpoint.metadata.classes, ["upper", "lower"]);
    assert!(!checkpoint.is_resumable());

    let model = build(&checkpoint.metadata.model, 9, &Device::Cpu).unwrap();
    checkpoint.restore(model.as_ref()).unwrap();
    let again = evaluate(model.as_ref(), &val_loader()).run().unwrap();
    assert_eq!((again.loss, again.accuracy), (best.val_loss, best.val_accuracy));
    assert_eq!(again.predictions.len(), 10);
    assert_eq!(again.confusion.iter().flatten().sum::<usize>(), 10);
}

#[test]
fn a_group_of_some_epochs_learns_in_these_as_in_a_run_of_that_length() {
    let text = |epochs: usize, group: &str| {
        format!(
            "epochs = {epochs}\noptimizer = {{ name = 'sgd', lr = 0.02, momentum = 0.9 }}\n\
             schedule = {{ name = 'cosine_annealing_lr' }}\n\
             param_groups = [{{ prefix = 'fc'{group} }}, {{ prefix = 'conv1', lr = 0.01 }}]"
        )
    };
    let runs = Runs::new();
    let mut after = Vec::new();
    for (epochs, group) in [(1, ""), (1, ", epochs = 1"), (2, ", epochs = 1"), (2, "")] {
        let (model, train, val) = (network(0), train_loader(0), val_loader());
        let config = recipe(&text(epochs, group));
        let trainer = Trainer::new(model.as_ref(), &train, &val, config);
        trainer.unwrap().run_folder(&runs.create()).run().unwrap();
        let of = |path: &str| {
            let tensor = model.parameters().get(path).unwrap().detached();
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        after.push((of("fc.weight"), of("conv1.weight")));
    }
    let [short, short_group, group, whole] = &after[..] else { unreachable!() };
    assert_eq!(short, short_group);
    // A rate that follows the run's cosine would be the same in the first epoch of both, and not zero in the second.
    assert_eq!(group.0, short.0);
    assert_ne!(group.1, short.1);
    assert_ne!(whole.0, short.0);
}

#[test]
fn the_number_of_workers_changes_no_bit() {
    let (runs, config) = (Runs::new(), recipe(ADAM));
    let weights = [0, 1, 4].map(|workers| {
        let (run, model, val) = (runs.create(), network(0), val_loader());
        let train = train_loader(workers);
        let mut trainer =
            Trainer::new(model.as_ref(), &train, &val, config.clone()).unwrap().run_folder(&run);
        trainer.run().unwrap();
        bits(&run.best())
    });
    assert_eq!(weights[0], weights[1]);
    assert_eq!(weights[0], weights[2]);
}

#[test]
fn events_come_in_order() {
    let (runs, config) = (Runs::new(), recipe(&ADAM.replace("epochs = 3", "epochs = 1")));
    let mut names = Vec::new();
    let mut watch = Watch(|event: &Event<'_>| {
        names.push(match event {
            Event::RunStart { train_samples: 23, val_samples: 10, .. } => "run",
            Event::EpochStart { epoch: 1, batches: 5, .. } => "epoch",
            Event::BatchEnd { samples: 5, .. } => "batch",
            Event::BatchEnd { samples: 3, batch: 5, .. } => "short batch",
            Event::ValidationBatchEnd { batches: 3, .. } => "validation",
            Event::Saved { best: true, .. } => "best",
            Event::Saved { best: false, .. } => "last",
            Event::EpochEnd { is_best: true, .. } => "epoch end",
            Event::RunEnd { reason: StopReason::Completed, .. } => "end",
            other => panic!("unexpected {other:?}"),
        });
        Control::Continue
    });
    train(&config, &runs.create(), &mut [&mut watch]).unwrap();
    let expected = "run epoch batch batch batch batch short batch validation validation validation \
                    best last epoch end end";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn a_frozen_backbone_learns_later_at_its_own_rate() {
    let (runs, model) = (Runs::new(), network(0));
    let (run, train, val) = (runs.create(), train_loader(2), val_loader());
    let config = recipe(
        "epochs = 3\noptimizer = { name = 'sgd', lr = 0.01, momentum = 0.9 }\n\
         freeze = { epochs = 2, unfreeze_lr = 0.001 }",
    );
    let values =
        |path: &str| tensor_bits(&model.parameters().get(path).unwrap().detached().copy().unwrap());
    let paths = ["conv1.weight", "bn1.weight", "bn1.running_mean", "fc.weight"];
    let before = paths.map(values);
    let mut after_epoch = Vec::new();
    let mut unfrozen = Vec::new();
    let mut watch = Watch(|event: &Event<'_>| {
        match event {
            Event::EpochEnd { .. } => after_epoch.push(paths.map(values)),
            Event::Unfrozen { epoch, lr } => unfrozen.push((*epoch, *lr)),
            _ => {}
        }
        Control::Continue
    });
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, config).unwrap().run_folder(&run);
    let summary = trainer.run_with(&mut [&mut watch], &AtomicBool::new(false)).unwrap();
    let changed = |now: &[Vec<u64>; 4]| [0, 1, 2, 3].map(|i| now[i] != before[i]);
    assert_eq!(changed(&after_epoch[1]), [false, false, true, true]);
    assert_eq!(changed(&after_epoch[2]), [true; 4]);
    assert_eq!(unfrozen, [(3, 0.001)]);
    let rates: Vec<f64> = summary.history.epochs.iter().map(|record| record.lr).collect();
    assert_eq!(rates, [0.01, 0.01, 0.001]);
}

#[test]
fn a_frozen_batch_norm_can_keep_its_statistics() {
    let runs = Runs::new();
    let config = recipe(
        "epochs = 1\noptimizer = { name = 'sgd', lr = 0.01 }\n\
         freeze = { epochs = 1, batch_norm = 'keep_statistics' }",
    );
    let summary = train(&config, &runs.create(), &mut []).unwrap();
    let tensors = Checkpoint::load(summary.last_path().unwrap()).unwrap().tensors;
    assert!(tensor_bits(&tensors["bn1.running_mean"]).iter().all(|&bits| bits == 0));
}

#[test]
fn a_part_that_is_not_there_cannot_be_kept_or_grouped() {
    let runs = Runs::new();
    for (setting, named) in [
        ("freeze = { epochs = 1, prefix_kept = 'head' }", "`freeze.prefix_kept` is head"),
        ("param_groups = [{ prefix = 'layer4' }]", "`prefix of a parameter group` is layer4"),
    ] {
        let error = train(&recipe(&format!("{ADAM}\n{setting}")), &runs.create(), &mut []);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(named), "{error}");
    }
}

#[test]
fn a_run_that_no_longer_improves_stops_early() {
    let runs = Runs::new();
    // No step is large enough to change a validation loss by that much.
    let config = recipe(&format!(
        "{}\nearly_stop = {{ patience = 2, min_delta = 50.0 }}",
        ADAM.replace('3', "9")
    ));
    let run = runs.create();
    let summary = train(&config, &run, &mut []).unwrap();
    assert_eq!((summary.reason, summary.history.epochs.len()), (StopReason::EarlyStopped, 3));
    let error = resume(&config, &run).unwrap_err();
    assert!(matches!(error, Error::Finished { epochs: 3, .. }), "{error}");
}

#[test]
fn batches_can_be_limited() {
    let runs = Runs::new();
    let config = recipe(&format!("limit_batches = 2\n{ADAM}"));
    let summary = train(&config, &runs.create(), &mut []).unwrap();
    assert_eq!(summary.history.batches.len(), 6);
}

#[test]
fn clipping_bounds_what_a_step_changes() {
    let runs = Runs::new();
    let change = |clip: &str| {
        let config = recipe(&format!(
            "epochs = 1\nlimit_batches = 1\n{clip}\noptimizer = {{ name = 'sgd', lr = 1.0 }}"
        ));
        let summary = train(&config, &runs.create(), &mut []).unwrap();
        let tensors = Checkpoint::load(summary.last_path().unwrap()).unwrap().tensors;
        let squares = network(0).parameters().weights().into_iter().map(|parameter| {
            let difference = (&tensors[parameter.path()] - parameter.detached()).unwrap();
            difference.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()
        });
        squares.sum::<f32>().sqrt()
    };
    assert!(change("") > 0.05);
    let clipped = change("grad_clip_norm = 0.01");
    assert!((clipped - 0.01).abs() < 1e-4, "{clipped}");
}

#[test]
fn divergence_names_the_step_and_touches_no_checkpoint() {
    let runs = Runs::new();
    let run = runs.create();
    let config = recipe("epochs = 2\noptimizer = { name = 'sgd', lr = 1e30 }");
    std::fs::write(run.last(), "as it was").unwrap();
    let error = train(&config, &run, &mut []).unwrap_err();
    let Error::Diverged { epoch: 1, batch, lr, parameter: Some(_), .. } = &error else {
        panic!("{error}")
    };
    assert!(*batch <= 3 && *lr == 1e30, "{error}");
    assert!(error.to_string().contains("lower the learning rate"), "{error}");
    assert_eq!(std::fs::read_to_string(run.last()).unwrap(), "as it was");
    assert!(!run.best().exists());
}

#[test]
fn the_first_parameter_that_is_not_finite_is_named() {
    let (runs, model) = (Runs::new(), network(0));
    let (run, train, val) = (runs.create(), train_loader(2), val_loader());
    let bias = model.parameters().get("fc.bias").unwrap();
    bias.set(&Tensor::new(&[f32::NAN, 0.0], &Device::Cpu).unwrap()).unwrap();
    let mut trainer =
        Trainer::new(model.as_ref(), &train, &val, recipe(ADAM)).unwrap().run_folder(&run);
    let error = trainer.run().unwrap_err();
    assert_eq!(
        error.to_string(),
        "training diverged in epoch 1, batch 1: the loss is NaN at learning rate 0.001, first seen \
         in `fc.bias`; lower the learning rate, or set `grad_clip_norm`; saved checkpoints are untouched"
    );
}

#[test]
fn a_broken_image_is_told_of_once_or_ends_the_run() {
    let (runs, model, val) = (Runs::new(), network(0), val_loader());
    let loader = |skip_broken| {
        let data = Halves { broken: Some(4), ..Halves::new(9, 0) };
        loader_of(data, LoaderConfig::new(3).skip_broken(skip_broken))
    };
    let (run, train) = (runs.create(), loader(true));
    let mut skipped = Vec::new();
    let mut watch = Watch(|event: &Event<'_>| {
        if let Event::SampleSkipped { sample } = event {
            skipped.push(sample.name.clone());
        }
        Control::Continue
    });
    let mut trainer =
        Trainer::new(model.as_ref(), &train, &val, recipe(ADAM)).unwrap().run_folder(&run);
    trainer.run_with(&mut [&mut watch], &AtomicBool::new(false)).unwrap();
    assert_eq!(skipped, ["halves[4]"]);

    let train = loader(false);
    let mut trainer =
        Trainer::new(model.as_ref(), &train, &val, recipe(ADAM)).unwrap().run_folder(&run);
    let error = trainer.run().unwrap_err();
    assert!(matches!(&error, Error::Data(_)) && error.to_string().contains("halves[4]"), "{error}");
}

#[test]
fn a_network_for_other_classes_is_refused() {
    let (train, val) = (train_loader(0), val_loader());
    let spec = ModelSpec::new("gap_cnn_deep", 3).input([3, SIDE, SIDE]);
    let model = build(&spec, 0, &Device::Cpu).unwrap();
    let result = Trainer::new(model.as_ref(), &train, &val, recipe(ADAM));
    let error = result.expect_err("three outputs, two classes").to_string();
    assert_eq!(error, "the network has 3 outputs but there are 2 classes");
}

#[test]
fn a_network_that_is_all_frozen_is_refused() {
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    model.parameters().freeze("").unwrap();
    let result = Trainer::new(model.as_ref(), &train, &val, recipe(ADAM));
    assert!(matches!(result.err(), Some(Error::NothingToTrain)));
}
