//! Whole runs on a CUDA device against the same runs on the CPU. Skipped where there is no device.

#![cfg(feature = "cuda")]

#[path = "cuda/captured_steps.rs"]
mod captured_steps;
mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result as TensorResult, Tensor, Var};
use candle_vision_data::transforms::{
    ColorJitter, Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor,
};
use candle_vision_data::{DataLoader, Kept, LoaderConfig};
use candle_vision_models::{EvalPasses, Model, ModelSpec, Precision, build};
use candle_vision_ops::{
    card_memory, cuda_device, cuda_device_count, limit_card_memory, set_cuda_graphs, set_tf32,
};
use candle_vision_train::loss::CrossEntropy;
use candle_vision_train::optim::{PerParameter, Step, UpdateRule};
use candle_vision_train::{
    Checkpoint, Control, DeviceUpload, Error, Event, Result, RunFolder, StopReason, Trainer,
    TrainerBuilder, TrainingResult, evaluate, keep_on_device,
};
use common::*;

/// Calls `test` with the first device, if there is one; one test at a time.
fn on_cuda(test: impl FnOnce(&Device)) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match cuda_device(0) {
        Ok(device) => {
            set_tf32(false);
            test(&device);
        }
        Err(error) => tell_of_skipping(&error),
    }
}

#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
fn tell_of_skipping(error: &candle_core::Error) {
    eprintln!("skipped: no CUDA device: {error}");
}

/// Begins a run on `device`, or goes on with it; it is asked to stop when step `stop_at` is told of.
fn run_on(
    device: &Device,
    text: &str,
    run: &RunFolder,
    stop_at: Option<usize>,
) -> Result<TrainingResult> {
    run_network_on("gap_cnn_deep", device, text, run, stop_at)
}

fn run_network_on(
    name: &str,
    device: &Device,
    text: &str,
    run: &RunFolder,
    stop_at: Option<usize>,
) -> Result<TrainingResult> {
    let spec = ModelSpec::new(name, 2).input([3, SIDE, SIDE]);
    let model = build(&spec, 0, device).unwrap();
    let config = LoaderConfig::new(5).shuffle(true).seed(3);
    let train = loader_on(device, Halves::new(23, 0), config);
    let config = LoaderConfig::new(4);
    let val = loader_on(device, Halves::new(10, 1000), config);
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, recipe(text))?.run_folder(run);
    if run.last().exists() {
        trainer.resume(&Checkpoint::load(run.last())?)?;
    }
    let stop = AtomicBool::new(false);
    let mut watch = Watch(|event: &Event<'_>| {
        if let Event::BatchEnd { record, .. } = event {
            stop.fetch_or(Some(record.step) == stop_at, Ordering::Relaxed);
        }
        Control::Continue
    });
    trainer.run_with(&mut [&mut watch], &stop)
}

fn settings(precision: Precision, optimizer: &str) -> String {
    format!(
        "epochs = 3\nprecision = '{precision}'\nlabel_smoothing = 0.1\ngrad_clip_norm = 1.0\n\
         optimizer = {{ {optimizer} }}\nema = {{ decay = 0.9, every = 2 }}"
    )
}

const SGD: &str = "name = 'sgd', lr = 0.005, momentum = 0.5";
const ADAM: &str = "name = 'adamw', lr = 0.001";

#[test]
fn a_run_measures_what_it_measures_on_the_cpu() {
    on_cuda(|device| {
        for (precision, tolerance) in
            [(Precision::F32, 1e-3), (Precision::Bf16, 0.05), (Precision::F16, 0.03)]
        {
            for optimizer in [SGD, ADAM] {
                let (runs, text) = (Runs::new(), settings(precision, optimizer));
                let summaries = [device, &Device::Cpu].map(|device| {
                    let summary = run_on(device, &text, &runs.create(), None).unwrap();
                    assert_eq!(summary.reason, StopReason::Completed);
                    assert_eq!(summary.history.batches.len(), 15);
                    summary
                });
                let [cuda, cpu] = summaries.each_ref().map(|summary| &summary.history);
                for (cuda, cpu) in cuda.batches.iter().zip(&cpu.batches) {
                    assert_eq!((cuda.step, cuda.epoch, cuda.lr), (cpu.step, cpu.epoch, cpu.lr));
                    let difference = (cuda.loss - cpu.loss).abs();
                    assert!(difference < tolerance, "{precision}: {cuda:?} and {cpu:?}");
                }
                for (cuda, cpu) in cuda.epochs.iter().zip(&cpu.epochs) {
                    let difference = (cuda.val_loss - cpu.val_loss).abs();
                    assert!(difference < tolerance, "{precision}: {cuda:?} and {cpu:?}");
                }
            }
        }
    });
}

#[test]
fn a_checkpoint_of_a_device_is_one_for_the_cpu() {
    on_cuda(|device| {
        let runs = Runs::new();
        let text = settings(Precision::F32, SGD);
        let summary = run_on(device, &text, &runs.create(), None).unwrap();
        let checkpoint = summary.best().unwrap();
        let model = network(7);
        checkpoint.restore(model.as_ref()).unwrap();
        let loss = CrossEntropy::new().label_smoothing(0.1);
        let loss = evaluate(model.as_ref(), &val_loader()).loss(&loss).run().unwrap().loss;
        let best = summary.history.best().unwrap();
        assert!((loss - best.val_loss).abs() < 1e-4);
    });
}

#[test]
fn a_resumed_run_ends_with_the_bits_of_one_that_was_not() {
    on_cuda(|device| {
        for precision in Precision::ALL {
            let (runs, text) = (Runs::new(), settings(precision, ADAM));
            let (whole, parted) = (runs.create(), runs.create());
            let expected = run_on(device, &text, &whole, None).unwrap().history.batches;
            let stopped = run_on(device, &text, &parted, Some(6)).unwrap();
            assert_eq!(stopped.reason, StopReason::Interrupted);
            assert!(stopped.history.batches.len() >= 6);
            let resumed = run_on(device, &text, &parted, None).unwrap();
            assert_eq!(resumed.history.batches, expected, "{precision}");
            assert!(bits(&parted.last()) == bits(&whole.last()), "{precision}");
        }
    });
}

const MUON: &str = "
    epochs = 3
    optimizer = { name = 'muon', lr = 0.02, momentum = 0.6, ns_steps = 3, normalize = true }
    param_groups = [
        { pattern = '**.bias', optimizer = { name = 'sgd', lr = 0.02, momentum = 0.8 } },
        { pattern = '**.bn?.weight', optimizer = { name = 'adam', lr = 0.001 } },
        { prefix = 'fc', optimizer = { name = 'adam', lr = 0.001 } },
    ]
    ema = { decay = 0.8, every = 2, power = 2, lookahead = true }
    tta = { name = 'mirror_shift' }
";

#[test]
fn muon_lookahead_and_views_are_those_of_the_cpu() {
    on_cuda(|device| {
        let runs = Runs::new();
        let (whole, parted) = (runs.create(), runs.create());
        let cuda = run_on(device, MUON, &whole, None).unwrap().history;
        let cpu = run_on(&Device::Cpu, MUON, &runs.create(), None).unwrap().history;
        for (cuda, cpu) in cuda.batches.iter().zip(&cpu.batches) {
            assert!((cuda.loss - cpu.loss).abs() < 5e-3, "{cuda:?} and {cpu:?}");
        }
        for (cuda, cpu) in cuda.epochs.iter().zip(&cpu.epochs) {
            assert!((cuda.val_loss - cpu.val_loss).abs() < 5e-3, "{cuda:?} and {cpu:?}");
        }
        run_on(device, MUON, &parted, Some(6)).unwrap();
        let resumed = run_on(device, MUON, &parted, None).unwrap();
        assert_eq!(resumed.history.batches, cuda.batches);
        assert!(bits(&parted.last()) == bits(&whole.last()));
    });
}

#[test]
fn divergence_has_the_number_of_its_batch() {
    on_cuda(|device| {
        let runs = Runs::new();
        let text = "epochs = 2\noptimizer = { name = 'sgd', lr = 1e30 }";
        let places = [device, &Device::Cpu].map(|device| {
            let run = runs.create();
            let error = run_on(device, text, &run, None).unwrap_err();
            assert!(!run.last().exists());
            match error {
                Error::Diverged { epoch, batch, parameter: Some(_), .. } => (epoch, batch),
                other => panic!("{other}"),
            }
        });
        assert_eq!(places[0], places[1]);
    });
}

const WITHOUT_DROPOUT: &str = "resnet20_cifar";

/// What the trainer says of steps that are not captured, and the run's result.
fn reasons(device: &Device, network: &str, text: &str) -> (Vec<String>, TrainingResult) {
    reasons_of(device, network, text, |trainer| trainer)
}

/// The same with a trainer that was changed.
fn reasons_of(
    device: &Device,
    network: &str,
    text: &str,
    change: impl for<'a> FnOnce(TrainerBuilder<'a>) -> TrainerBuilder<'a>,
) -> (Vec<String>, TrainingResult) {
    let spec = ModelSpec::new(network, 2).input([3, SIDE, SIDE]);
    let (model, runs) = (build(&spec, 0, device).unwrap(), Runs::new());
    let config = LoaderConfig::new(5).shuffle(true).seed(3);
    let train = loader_on(device, Halves::new(23, 0), config);
    let val = loader_on(device, Halves::new(10, 1000), LoaderConfig::new(4));
    let mut reasons = Vec::new();
    let mut watch = Watch(|event: &Event<'_>| {
        if let Event::NotCaptured { reason } = event {
            reasons.push((*reason).to_owned());
        }
        Control::Continue
    });
    let trainer = Trainer::builder(model.as_ref()).data(&train, &val).config(recipe(text));
    let run = runs.create();
    let mut trainer = change(trainer).run_folder(&run).build().unwrap();
    let result = trainer.run_with(&mut [&mut watch], &AtomicBool::new(false)).unwrap();
    (reasons, result)
}

/// A loader of random crops and flips whose batches the host makes and uploads, or the device makes.
fn augmented(device: &Device, dataset: Halves, config: LoaderConfig, is_kept: bool) -> DataLoader {
    let transform = Compose::new()
        .with(RandomCrop::new(SIDE as u32).padding(1))
        .with(RandomHorizontalFlip::default())
        .with(ColorJitter::new().brightness(0.2).contrast(0.2))
        .with(ToTensor)
        .with(Normalize::new([0.5; 3], [0.25; 3]));
    let loader = DataLoader::new(Arc::new(dataset), transform, config, device.clone()).unwrap();
    let mut loader = loader.with_upload(Arc::new(DeviceUpload::new(device.clone())));
    if is_kept {
        let kept = keep_on_device(&mut loader, None);
        assert!(matches!(kept, Kept::OnDevice { .. }), "{kept:?}");
    }
    loader
}

/// Begins or goes on with a run whose images lie on the device, or not.
fn run_augmented(
    device: &Device,
    text: &str,
    run: &RunFolder,
    is_kept: bool,
    stop_at: Option<usize>,
) -> TrainingResult {
    let spec = ModelSpec::new(WITHOUT_DROPOUT, 2).input([3, SIDE, SIDE]);
    let model = build(&spec, 0, device).unwrap();
    // The thread that makes batches in advance works while steps are captured.
    let config = LoaderConfig::new(5).shuffle(true).seed(3).workers(2);
    let train = augmented(device, Halves::new(23, 0), config, is_kept);
    let val = augmented(device, Halves::new(10, 1000), LoaderConfig::new(4), is_kept);
    let trainer = Trainer::new(model.as_ref(), &train, &val, recipe(text)).unwrap();
    let mut trainer = trainer.run_folder(run);
    if run.last().exists() {
        trainer.resume(&Checkpoint::load(run.last()).unwrap()).unwrap();
    }
    let stop = AtomicBool::new(false);
    let mut watch = Watch(|event: &Event<'_>| {
        if let Event::BatchEnd { record, .. } = event {
            stop.fetch_or(Some(record.step) == stop_at, Ordering::Relaxed);
        }
        Control::Continue
    });
    trainer.run_with(&mut [&mut watch], &stop).unwrap()
}

#[test]
fn a_run_on_stored_images_ends_with_the_bits_of_uploaded_ones() {
    on_cuda(|device| {
        let text = format!("epochs = 3\noptimizer = {{ {SGD} }}");
        let runs = Runs::new();
        let (uploaded, kept, parted) = (runs.create(), runs.create(), runs.create());
        let expected = run_augmented(device, &text, &uploaded, false, None);
        let found = run_augmented(device, &text, &kept, true, None);
        // Each epoch has four whole batches and a smaller one. The first three are plain.
        assert_eq!((expected.captured_steps, found.captured_steps), (9, 9));
        assert_eq!(found.history.batches, expected.history.batches);
        let measured = |result: &TrainingResult| {
            result.history.epochs.iter().map(|epoch| epoch.val_loss.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(measured(&found), measured(&expected));
        assert!(bits(&kept.last()) == bits(&uploaded.last()));

        let stopped = run_augmented(device, &text, &parted, true, Some(6));
        assert_eq!(stopped.reason, StopReason::Interrupted);
        let resumed = run_augmented(device, &text, &parted, true, None);
        assert_eq!(resumed.history.batches, expected.history.batches);
        assert!(bits(&parted.last()) == bits(&uploaded.last()));
    });
}

/// Set in the process of the test of limits. A limit lasts until the end of a process.
const LIMITED: &str = "CANDLE_VISION_TEST_LIMITED";

#[test]
fn a_limit_of_memory_keeps_steps_plain_or_ends_the_run() {
    if std::env::var_os(LIMITED).is_some() {
        return within_a_limit(&cuda_device(0).unwrap());
    }
    if let Err(error) = cuda_device_count() {
        return tell_of_skipping(&error);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_limit_of_memory_keeps_steps_plain_or_ends_the_run", "--nocapture"])
        .env(LIMITED, "1")
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}", said.concat());
}

fn within_a_limit(device: &Device) {
    const MIB: u64 = 1 << 20;
    let fill = |pieces: &mut Vec<Tensor>| {
        while let Ok(piece) = Tensor::zeros(MIB as usize, DType::U8, device) {
            pieces.push(piece);
        }
    };
    limit_card_memory(device, 64 * MIB).unwrap();
    let text = format!("epochs = 2\noptimizer = {{ {SGD} }}");
    set_cuda_graphs(false);
    let (_, plain) = reasons(device, WITHOUT_DROPOUT, &text);
    set_cuda_graphs(true);
    let needed = card_memory(device).unwrap().taken().div_ceil(MIB) as usize + 1;
    // Room for plain steps, but none for a graph beside them.
    let mut pieces = Vec::new();
    fill(&mut pieces);
    pieces.truncate(pieces.len() - needed);
    let (why, result) = reasons(device, WITHOUT_DROPOUT, &text);
    assert!(why.len() == 1 && why[0].contains("into the limit of 67108864 bytes"), "{why:?}");
    assert_eq!(result.captured_steps, 0);
    assert_eq!(result.history.batches, plain.history.batches);
    // Room for the network, but not for its training.
    fill(&mut pieces);
    pieces.truncate(pieces.len() - 2);
    let error = run_network_on(WITHOUT_DROPOUT, device, &text, &Runs::new().create(), None);
    match error.unwrap_err() {
        Error::OutOfMemory { device, batch_size: 5, .. } => assert_eq!(device, "cuda:0"),
        other => panic!("{other}"),
    }
}
