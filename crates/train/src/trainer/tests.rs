//! What only a GPU does by itself: reading what steps found later, in groups; and what is hard to
//! bring about from outside: gradients that do not fit into `f16`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use candle_vision_data::transforms::{Compose, ToTensor};
use candle_vision_data::{Insects, InsectsConfig, LoaderConfig, Split};
use candle_vision_models::{ModelSpec, Parameters, Pass, build};
use candle_vision_ops::on_gradient;

use super::*;
use crate::callback::Control;
use crate::unread::Reading;

const IN_GROUPS: Reading = Reading::InGroups { longest: Duration::MAX };

/// 40 images in batches of two: twenty steps an epoch, more than a group.
fn loader(split: Split, shuffle: bool) -> DataLoader {
    let insects = Insects::new(split, InsectsConfig::new(40).size(16)).unwrap();
    let transform = Compose::new().with(ToTensor);
    let config = LoaderConfig::new(2).shuffle(shuffle).workers(0);
    DataLoader::new(Arc::new(insects), transform, config, Device::Cpu).unwrap()
}

fn network() -> Box<dyn Model> {
    let spec = ModelSpec::new("gap_cnn_deep", 2).input([3, 16, 16]);
    build(&spec, 0, &Device::Cpu).unwrap()
}

fn recipe(text: &str) -> TrainerConfig {
    toml::from_str(text).unwrap()
}

/// Notes the step, batch and accuracy of each batch, and sets the flag after step `stop_at`.
struct Watch<'a> {
    seen: Vec<(usize, usize, u64)>,
    stop_at: usize,
    stop: &'a AtomicBool,
}

impl Callback for Watch<'_> {
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control> {
        if let Event::BatchEnd { record, batch, accuracy, .. } = event {
            self.seen.push((record.step, *batch, accuracy.to_bits()));
            self.stop.fetch_or(record.step == self.stop_at, Ordering::Relaxed);
        }
        Ok(Control::Continue)
    }
}

/// A run in a folder of its own, with what it left there.
struct Run {
    result: Result<TrainingResult>,
    seen: Vec<(usize, usize, u64)>,
    folder: RunFolder,
    _runs: tempfile::TempDir,
}

impl Run {
    fn new(config: &TrainerConfig, reading: Reading, stop_at: usize) -> Self {
        let runs = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(runs.path(), "test", "").unwrap();
        let mut run =
            Self { result: Err(Error::NothingToTrain), seen: Vec::new(), folder, _runs: runs };
        run.go(config, reading, stop_at);
        run
    }

    /// Begins the run, or goes on with it.
    fn go(&mut self, config: &TrainerConfig, reading: Reading, stop_at: usize) {
        let (model, train, val) =
            (network(), loader(Split::Train, true), loader(Split::Val, false));
        let folder = self.folder.clone();
        let mut trainer =
            Trainer::new(model.as_ref(), &train, &val, config.clone()).unwrap().run_folder(&folder);
        trainer.unread = Unread::new(reading);
        if folder.last().exists() {
            trainer.resume(&Checkpoint::load(folder.last()).unwrap()).unwrap();
        }
        let stop = AtomicBool::new(false);
        let mut watch = Watch { seen: Vec::new(), stop_at, stop: &stop };
        self.result = trainer.run_with(&mut [&mut watch], &stop);
        self.seen.append(&mut watch.seen);
    }

    fn history(&self) -> History {
        let mut history = self.result.as_ref().unwrap().history.clone();
        for epoch in &mut history.epochs {
            (epoch.seconds, epoch.images_per_second, epoch.peak_memory) = (0.0, 0.0, None);
        }
        history
    }

    fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let mut all = Vec::new();
        for path in [self.folder.last(), self.folder.best()] {
            let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
            all.extend(tensors.iter().map(|(name, tensor)| (name.clone(), bits(tensor))));
        }
        all.sort();
        all
    }
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    let values = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    values.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
}

const SGD: &str = "epochs = 2\noptimizer = { name = 'sgd', lr = 0.02, momentum = 0.9 }";

#[test]
fn reading_in_groups_changes_nothing_but_the_time() {
    for settings in ["", "grad_clip_norm = 0.5", "precision = 'f16'"] {
        let config = recipe(&format!("{settings}\n{SGD}"));
        let at_once = Run::new(&config, Reading::AtOnce, 0);
        let in_groups = Run::new(&config, IN_GROUPS, 0);
        assert_eq!(in_groups.history(), at_once.history());
        assert_eq!(in_groups.history().batches.len(), 40);
        assert_eq!(in_groups.seen, at_once.seen);
        assert!(in_groups.tensors() == at_once.tensors(), "{settings}");
    }
}

#[test]
fn a_run_that_is_stopped_has_read_and_saved_all_its_steps() {
    let config = recipe(SGD);
    let whole = Run::new(&config, IN_GROUPS, 0);
    // After the first, which is read by itself, batches are told of when a group of 16 is full.
    let mut stopped = Run::new(&config, IN_GROUPS, 2);
    assert_eq!(stopped.history().batches.len(), 17);
    assert_eq!(stopped.result.as_ref().unwrap().reason, StopReason::Interrupted);
    stopped.go(&config, IN_GROUPS, 0);
    assert_eq!(stopped.history(), whole.history());
    assert_eq!(stopped.seen, whole.seen);
    assert!(stopped.tensors() == whole.tensors());
}

#[track_caller]
fn check_divergence(lr: f64, expected: &str) {
    let config = recipe(&format!("epochs = 2\noptimizer = {{ name = 'sgd', lr = {lr:e} }}"));
    let [at_once, in_groups] = [Reading::AtOnce, IN_GROUPS].map(|reading| {
        let run = Run::new(&config, reading, 0);
        assert!(!run.folder.last().exists() && !run.folder.best().exists());
        match run.result {
            Err(Error::Diverged { epoch, batch, what, lr, parameter: Some(_) }) => {
                (epoch, batch, what, lr, run.seen)
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(in_groups, at_once);
    assert!(at_once.2.contains(expected), "{}", at_once.2);
}

#[test]
fn divergence_is_noticed_later_and_said_alike() {
    check_divergence(1e30, "the loss is NaN");
    check_divergence(1e39, "but a parameter is not finite");
}

/// One step in `f16` with the loss scaled by `scale`: the changed tensors but batch norm's
/// statistics, and the scale that was saved.
fn step_in_f16(scale: f64) -> (Vec<String>, f64) {
    let (model, train, val) = (network(), loader(Split::Train, true), loader(Split::Val, false));
    let runs = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(runs.path(), "test", "").unwrap();
    let config = recipe(
        "epochs = 1\nlimit_batches = 1\nprecision = 'f16'\noptimizer = { name = 'adam', lr = 0.01 }",
    );
    let mut trainer =
        Trainer::new(model.as_ref(), &train, &val, config).unwrap().run_folder(&folder);
    trainer.loss_scale = Some(LossScale::of(scale));
    trainer.run().unwrap();
    let checkpoint = Checkpoint::load(folder.last()).unwrap();
    let parameters = network().parameters().weights().into_iter();
    let changed = parameters.filter(|parameter| {
        bits(&checkpoint.tensors[parameter.path()]) != bits(&parameter.detached())
    });
    let changed = changed.map(|parameter| parameter.path().to_owned()).collect();
    let state = checkpoint.training.unwrap();
    assert_eq!(state.optimizer.is_empty(), scale > 1e6);
    (changed, state.loss_scale.unwrap().factor())
}

#[test]
fn a_step_whose_gradients_overflow_is_skipped_and_halves_the_scale() {
    let (changed, scale) = step_in_f16(1024.0);
    assert_eq!((changed.len(), scale), (network().parameters().weights().len(), 1024.0));
    let (changed, scale) = step_in_f16(2f64.powi(60));
    assert_eq!((changed, scale), (Vec::new(), 2f64.powi(59)));
}

/// A network with a change to its logits.
struct Changed<F>(Box<dyn Model>, F);

impl<F: Fn(Tensor) -> candle_core::Result<Tensor> + Send + Sync> Model for Changed<F> {
    fn spec(&self) -> &ModelSpec {
        self.0.spec()
    }

    fn parameters(&self) -> &Parameters {
        self.0.parameters()
    }

    fn forward(&self, images: &Tensor, pass: &mut Pass<'_>) -> candle_core::Result<Tensor> {
        (self.1)(self.0.forward(images, pass)?)
    }

    fn head(&self) -> &str {
        self.0.head()
    }

    fn cam_layer(&self) -> Option<&str> {
        None
    }
}

#[test]
fn gradients_that_no_scale_helps_end_the_run() {
    let model = Changed(network(), |logits| {
        on_gradient(&logits, |gradient| Ok(Some((gradient * f64::NAN)?)))
    });
    let (train, val) = (loader(Split::Train, true), loader(Split::Val, false));
    let runs = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(runs.path(), "test", "").unwrap();
    let config = recipe(&format!("precision = 'f16'\ncheck_gradients = false\n{SGD}"));
    let mut trainer = Trainer::new(&model, &train, &val, config).unwrap().run_folder(&folder);
    let error = trainer.run().unwrap_err();
    // From 65536 it takes thirty halvings to 6e-5, and an epoch has twenty steps.
    let Error::Diverged { epoch: 2, batch: 10, what, parameter: Some(_), .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(what, "gradients are not finite even with the loss scaled by 0.0001220703125");
}

/// Collects what slows `backward` down.
struct Slow(Vec<String>);

impl Callback for Slow {
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control> {
        if let Event::SlowBackward { op } = event {
            self.0.push(op.to_string());
        }
        Ok(Control::Continue)
    }
}

#[test]
fn an_op_that_slows_backward_down_is_told_once() {
    let told = |model: &dyn Model, settings: &str| {
        let (train, val) = (loader(Split::Train, true), loader(Split::Val, false));
        let config = recipe(&format!("{settings}{SGD}"));
        let mut trainer = Trainer::new(model, &train, &val, config).unwrap();
        let mut slow = Slow(Vec::new());
        trainer.run_with(&mut [&mut slow], &AtomicBool::new(false)).unwrap();
        slow.0
    };
    assert!(told(network().as_ref(), "").is_empty());
    assert!(told(network().as_ref(), "precision = 'bf16'\n").is_empty());
    let doubled = Changed(network(), |logits| logits * 2.0);
    let expected = "a candle operation that gives F32 of shape [2, 2]";
    assert_eq!(told(&doubled, ""), [expected]);
    let hooked = Changed(network(), |logits| on_gradient(&logits, |_| Ok(None)));
    assert!(told(&hooked, "").is_empty());
}

#[test]
fn a_full_device_names_the_batch_size_and_leaves_the_checkpoints() {
    let (train, val) = (loader(Split::Train, true), loader(Split::Val, false));
    let runs = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(runs.path(), "test", "").unwrap();
    // 20 passes to train and 20 to validate, then some of the second epoch.
    for passes in [45, 65] {
        let left = AtomicUsize::new(passes);
        let model = Changed(network(), |logits| {
            if left.fetch_sub(1, Ordering::Relaxed) == 0 {
                let said = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
                return Err(candle_core::Error::Cuda(said.into()));
            }
            Ok(logits)
        });
        let mut trainer =
            Trainer::new(&model, &train, &val, recipe(SGD)).unwrap().run_folder(&folder);
        let error = trainer.run().unwrap_err();
        assert!(error.to_string().contains("too small for batches of 2 images"), "{error}");
        let checkpoint = Checkpoint::load(folder.last()).unwrap();
        assert_eq!(checkpoint.metadata.epoch, 1);
        assert!(checkpoint.is_resumable());
    }
}
