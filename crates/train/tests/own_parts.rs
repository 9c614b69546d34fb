//! Parts of one's own: defined here as a user would, trained, stopped and resumed to the same bits, or refused
//! by name.

mod common;

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Result as TensorResult, Tensor, Var};
use candle_vision_data::Batch;
use candle_vision_models::{Hooks, Model, Pass};
use candle_vision_ops::softmax;
use candle_vision_train::loss::{CrossEntropy, Loss, LossEntry};
use candle_vision_train::metrics::{Metric, MetricEntry};
use candle_vision_train::optim::{OptimizerEntry, PerParameter, Sgd, Step, UpdateRule};
use candle_vision_train::schedule::{EpochEnd, Memory, Schedule, ScheduleEntry};
use candle_vision_train::{
    Answers, Callback, Checkpoint, Control, Description, Error, Event, Mean, Parts, Result,
    RunFolder, StepOutput, StopReason, Trainer, TrainerConfig, TrainingResult,
};
use common::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The sign of a running mean of the gradients.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signum {
    lr: f64,
    #[serde(default = "nine_tenths")]
    beta: f64,
}

fn nine_tenths() -> f64 {
    0.9
}

impl UpdateRule for Signum {
    fn lr(&self) -> f64 {
        self.lr
    }

    fn state_names(&self) -> &[&str] {
        &["mean"]
    }

    fn update(
        &self,
        parameter: &Var,
        grad: &Tensor,
        state: &[Var],
        step: &Step,
    ) -> TensorResult<()> {
        let mean = (state[0].as_detached_tensor() * self.beta)?;
        let mean = (mean + (grad * (1.0 - self.beta))?)?;
        state[0].set(&mean)?;
        parameter.set(&(parameter.as_detached_tensor() - (mean.sign()? * step.lr)?)?)
    }
}

/// Falls by a factor when there is a regret to compare with, and by its square if the regret has risen.
#[derive(Debug, Serialize, Deserialize)]
struct OnRegret {
    factor: f64,
}

impl Schedule for OnRegret {
    fn next(&self, end: &EpochEnd<'_>, memory: &mut Memory) -> Result<f64> {
        let regret = end.record.measured("regret").unwrap_or(0.0);
        let last: Option<f64> = memory.read()?;
        memory.write(&regret)?;
        Ok(match last {
            None => end.lr,
            Some(last) if regret > last => end.lr * self.factor * self.factor,
            Some(_) => end.lr * self.factor,
        })
    }
}

/// The mean squared distance of the probabilities from the targets.
#[derive(Debug, Serialize, Deserialize)]
struct Brier {}

impl Loss for Brier {
    fn loss(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let eye = Tensor::eye(logits.dim(1)?, logits.dtype(), logits.device())?;
        let difference = (softmax(logits)? - eye.index_select(labels, 0)?)?;
        Ok(difference.sqr()?.mean_all()?)
    }
}

/// The mean probability that does not go to the right class.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Regret {
    #[serde(skip)]
    mean: Mean,
}

impl Metric for Regret {
    fn name(&self) -> String {
        "regret".to_owned()
    }

    fn reset(&mut self) {
        self.mean = Mean::default();
    }

    fn add(&mut self, answers: &Answers<'_>) -> Result<()> {
        for (row, &label) in answers.log_probabilities.iter().zip(answers.labels) {
            self.mean.add(1.0 - row[label as usize].exp(), 1.0);
        }
        Ok(())
    }

    fn value(&self) -> f64 {
        self.mean.value()
    }

    fn higher_is_better(&self) -> bool {
        false
    }
}

/// Counts the batches of the whole run.
#[derive(Default)]
struct Counter(u64);

impl Callback for Counter {
    fn on_event(&mut self, event: &Event<'_>) -> Result<Control> {
        self.0 += u64::from(matches!(event, Event::BatchEnd { .. }));
        Ok(Control::Continue)
    }

    fn name(&self) -> Option<&str> {
        Some("counter")
    }

    fn state(&self) -> Result<Value> {
        Ok(json!(self.0))
    }

    fn load_state(&mut self, state: &Value) -> Result<()> {
        self.0 =
            state.as_u64().ok_or_else(|| Error::callback("reading the counter", "no number"))?;
        Ok(())
    }
}

fn parts() -> Parts {
    let mut parts = Parts::standard();
    let signum = OptimizerEntry::of::<Signum>("signum", "the sign of a running mean");
    parts.optimizers = parts.optimizers.with(signum).unwrap();
    let on_regret = ScheduleEntry::of::<OnRegret>("on_regret", "falls when the regret does not");
    parts.schedules = parts.schedules.with(on_regret).unwrap();
    parts.losses = parts.losses.with(LossEntry::of::<Brier>("brier", "squared distance")).unwrap();
    let regret = MetricEntry::of::<Regret>("regret", "probability of the wrong classes");
    parts.metrics = parts.metrics.with(regret).unwrap();
    parts
}

const OWN: &str = "
    epochs = 4
    optimizer = { name = 'signum', lr = 0.002 }
    schedule = { name = 'on_regret', factor = 0.5, warmup = { epochs = 1 } }
    loss = { name = 'brier' }
    metrics = [{ name = 'regret' }]
    monitor = 'regret'
    early_stop = { patience = 4, monitor = 'regret' }
    param_groups = [{ prefix = 'fc', lr = 0.004 }]
    grad_clip_norm = 0.5
";

/// Runs, or goes on if there is a checkpoint, until step `until`; gives the count of the counter too.
fn go(run: &RunFolder, text: &str, until: usize) -> Result<(TrainingResult, u64)> {
    let fresh = !run.last().exists();
    let (model, train, val) = (network(if fresh { 0 } else { 77 }), train_loader(0), val_loader());
    let mut counter = Counter::default();
    let trainer = Trainer::builder(model.as_ref()).data(&train, &val).parts(parts());
    let mut trainer = trainer.config(recipe(text)).run_folder(run).build()?;
    if !fresh {
        trainer.resume(&Checkpoint::load(run.last())?)?;
    }
    let mut stop_at = |event: &Event<'_>| -> Result<Control> {
        match event {
            Event::BatchEnd { record, .. } if record.step == until => Ok(Control::Stop),
            _ => Ok(Control::Continue),
        }
    };
    let result = trainer.run_with(&mut [&mut counter, &mut stop_at], &AtomicBool::new(false))?;
    Ok((result, counter.0))
}

#[test]
fn a_run_of_own_parts_resumes_to_the_same_bits() {
    let runs = Runs::new();
    let whole_run = runs.create();
    let (whole, count) = go(&whole_run, OWN, 0).unwrap();
    assert_eq!((whole.history.batches.len(), count), (20, 20));
    let rates: Vec<f64> = whole.history.epochs.iter().map(|record| record.lr).collect();
    assert!(rates[3] < rates[1], "the schedule has never fallen: {rates:?}");
    assert!(whole.history.epochs[3].train_loss < whole.history.epochs[0].train_loss);
    for step in [2, 5, 13, 19] {
        let run = runs.create();
        let (stopped, _) = go(&run, OWN, step).unwrap();
        assert_eq!(stopped.reason, StopReason::StoppedByCallback);
        let (resumed, count) = go(&run, OWN, 0).unwrap();
        assert_eq!(resumed.history.batches, whole.history.batches, "step {step}");
        assert_eq!(count, 20);
        assert!(bits(&run.last()) == bits(&whole_run.last()), "step {step}");
        assert!(bits(&run.best()) == bits(&whole_run.best()), "step {step}");
    }
    let read = RunFolder::open(whole_run.path()).unwrap().history().unwrap();
    assert_eq!(read.epochs[0].metrics.keys().collect::<Vec<_>>(), ["regret"]);
}

#[test]
fn the_best_epoch_is_that_of_the_lowest_regret() {
    let runs = Runs::new();
    let (done, _) = go(&runs.create(), OWN, 0).unwrap();
    let regrets = done.history.epochs.iter().map(|record| record.metrics["regret"]);
    let lowest = regrets.fold(f64::INFINITY, f64::min);
    assert_eq!(done.best_epoch.as_ref().unwrap().metrics["regret"], lowest);
    assert_eq!(done.best().unwrap().metadata.epoch, done.best_epoch.unwrap().epoch);
}

#[test]
fn what_is_not_the_same_is_named() {
    let runs = Runs::new();
    let run = runs.create();
    go(&run, OWN, 7).unwrap();
    let refused =
        |from: &str, to: &str| go(&run, &OWN.replace(from, to), 0).unwrap_err().to_string();
    let error = refused("lr = 0.002", "lr = 0.002, beta = 0.8");
    assert!(error.contains("`optimizer` is") && error.contains("0.8"), "{error}");
    let error = refused("factor = 0.5", "factor = 0.6");
    assert!(error.contains("`schedule` is"), "{error}");
    let error = refused("monitor = 'regret'\n    early", "monitor = 'val_loss'\n    early");
    assert!(error.contains("`monitor` is val_loss here, regret there"), "{error}");
    // What is the default may be said.
    go(&run, &OWN.replace("lr = 0.002", "lr = 0.002, beta = 0.9"), 9).unwrap();
    // A trainer that does not know the parts.
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let error = Trainer::new(model.as_ref(), &train, &val, recipe(OWN)).err().unwrap().to_string();
    assert!(error.starts_with("no loss is called `brier`"), "{error}");
    let mut plain =
        Trainer::new(model.as_ref(), &train, &val, config().grad_clip_norm(0.5)).unwrap();
    let error = plain.resume(&Checkpoint::load(run.last()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("`loss` is") && error.contains("brier"), "{error}");
}

fn config() -> TrainerConfig {
    TrainerConfig::new(2, Sgd::new(0.02).momentum(0.9))
}

#[test]
fn a_callback_with_a_state_must_be_there_when_its_run_goes_on() {
    let runs = Runs::new();
    let run = runs.create();
    go(&run, OWN, 7).unwrap();
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let trainer = Trainer::builder(model.as_ref()).data(&train, &val).parts(parts());
    let mut trainer = trainer.config(recipe(OWN)).run_folder(&run).build().unwrap();
    trainer.resume(&Checkpoint::load(run.last()).unwrap()).unwrap();
    let error = trainer.run().unwrap_err();
    assert!(matches!(&error, Error::MissingCallback { name } if name == "counter"), "{error}");
}

/// A run that is begun with `change`d parts, and what is said when it is to be resumed.
fn refused_with(
    change: impl for<'a> Fn(
        candle_vision_train::TrainerBuilder<'a>,
    ) -> candle_vision_train::TrainerBuilder<'a>,
) -> Option<String> {
    let runs = Runs::new();
    let run = runs.create();
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let trainer = || {
        let trainer = Trainer::builder(model.as_ref()).data(&train, &val).config(config());
        change(trainer).run_folder(&run).build().unwrap()
    };
    let first = |event: &Event<'_>| -> Result<Control> {
        match event {
            Event::BatchEnd { .. } => Ok(Control::Stop),
            _ => Ok(Control::Continue),
        }
    };
    trainer().callback(first).run().unwrap();
    let checkpoint = Checkpoint::load(run.last()).unwrap();
    trainer().resume(&checkpoint).err().map(|error| error.to_string())
}

#[test]
fn a_part_without_a_description_is_refused_by_its_name() {
    let signum = || PerParameter::new(Signum { lr: 0.01, beta: 0.9 }).unwrap();
    let check = |error: Option<String>, part: &str| {
        let error = error.expect("it has no description");
        assert!(error.contains(&format!("the {part} of the run has no description")), "{error}");
    };
    check(refused_with(|builder| builder.optimizer(signum())), "optimizer");
    check(refused_with(|builder| builder.schedule(OnRegret { factor: 0.5 })), "schedule");
    check(refused_with(|builder| builder.loss(Brier {})), "loss");
    check(refused_with(|builder| builder.metric(Regret::default())), "metric `regret`");
    check(refused_with(|builder| builder.hooks(Hooks::new())), "hooks");
    check(refused_with(|builder| builder.train_step(doubled)), "training step");
    let named = || Description::named("signum").with("lr", 0.01);
    assert_eq!(refused_with(|builder| builder.optimizer(signum().described(named()))), None);
    let none = || Description::named("none");
    assert_eq!(refused_with(|builder| builder.described_hooks(none(), Hooks::new())), None);
}

/// Twice the cross entropy.
fn doubled(model: &dyn Model, batch: &Batch, pass: &mut Pass<'_>) -> Result<StepOutput> {
    let logits = model.forward(&batch.images, pass)?;
    let loss = (CrossEntropy::new().loss(&logits, &batch.labels)? * 2.0)?;
    Ok(StepOutput { loss, logits: None })
}

#[test]
fn a_step_of_ones_own_may_give_no_logits() {
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let plain = Trainer::new(model.as_ref(), &train, &val, config()).unwrap().run().unwrap();
    let model = network(0);
    let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config());
    let runs = Runs::new();
    let run = runs.create();
    let done = builder.train_step(doubled).run_folder(&run).run().unwrap();
    let (found, expected) = (done.history.batches[0].loss, plain.history.batches[0].loss);
    assert!((found - 2.0 * expected).abs() < 1e-6, "{found}, {expected}");
    assert!(done.history.epochs[0].train_accuracy.is_nan());
    // Such a record is read again.
    let last = done.last_path().unwrap();
    assert!(Checkpoint::load(last).unwrap().restore(network(1).as_ref()).is_ok());
    assert!(run.history().unwrap().epochs[0].train_accuracy.is_nan());
}

#[test]
fn a_run_without_a_folder_writes_nothing_and_keeps_its_best_network() {
    let (train, val) = (train_loader(0), val_loader());
    let (runs, model, other) = (Runs::new(), network(0), network(0));
    let run = runs.create();
    let saved = Trainer::new(model.as_ref(), &train, &val, config()).unwrap();
    let saved = saved.run_folder(&run).run().unwrap();
    let seen = RefCell::new((0, 0));
    let kept = Trainer::new(other.as_ref(), &train, &val, config())
        .unwrap()
        .on_batch(|batch| seen.borrow_mut().0 = batch.step)
        .on_epoch(|epoch| seen.borrow_mut().1 = epoch.epoch)
        .run()
        .unwrap();
    assert_eq!(seen.into_inner(), (10, 2));
    assert!(kept.folder.is_none() && kept.best_path().is_none() && kept.last_path().is_none());
    let (saved, kept) = (saved.best().unwrap(), kept.best().unwrap());
    assert_eq!(saved.metadata, kept.metadata);
    for (name, tensor) in &kept.tensors {
        assert_eq!(tensor_bits(tensor), tensor_bits(&saved.tensors[name]), "{name}");
    }
}

#[test]
fn a_folder_is_made_under_the_name_of_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let config = TrainerConfig::new(1, Sgd::new(0.02));
    let trainer = Trainer::new(model.as_ref(), &train, &val, config).unwrap();
    let done = trainer.save_to(folder.path().join("p1")).run().unwrap();
    assert_eq!(done.best_path(), Some(folder.path().join("p1/001/best.safetensors")));
    let written = std::fs::read_to_string(folder.path().join("p1/001/config.toml")).unwrap();
    assert!(written.contains("[training") && written.contains("name = \"sgd\""), "{written}");
}

/// One step by plain SGD, with these hooks: how far the parameters go, by path.
fn moved(hooks: Option<Hooks<'_>>, path: &str) -> Vec<f32> {
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let values = || {
        let values = model.parameters().get(path).unwrap().detached().flatten_all().unwrap();
        values.to_vec1::<f32>().unwrap()
    };
    let before = values();
    let config = TrainerConfig::new(1, Sgd::new(1.0)).limit_batches(1);
    let mut slow = false;
    let watch = |event: &Event<'_>| -> Result<Control> {
        slow |= matches!(event, Event::SlowBackward { .. });
        Ok(Control::Continue)
    };
    let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config);
    let builder = match hooks {
        Some(hooks) => builder.hooks(hooks),
        None => builder,
    };
    builder.callback(watch).run().unwrap();
    assert!(!slow, "the backward has left its fast way");
    before.iter().zip(values()).map(|(before, after)| (before - after).abs()).collect()
}

#[test]
fn a_hook_clips_a_gradient_while_training() {
    let largest = |moved: Vec<f32>| moved.into_iter().fold(0.0, f32::max);
    let mut hooks = Hooks::new();
    hooks.on_gradient("fc", |_, gradient| Ok(Some(gradient.clamp(-1e-3, 1e-3)?)));
    let (free, clipped) = (largest(moved(None, "fc.bias")), largest(moved(Some(hooks), "fc.bias")));
    // Five images, each of which adds at most 0.001.
    assert!(free > 0.01 && clipped > 0.0 && clipped <= 5.001e-3, "{free}, {clipped}");
}

#[test]
fn a_hook_masks_a_channel_while_training() {
    let keep: Vec<f32> = (0..128).map(|channel| if channel == 5 { 0.0 } else { 1.0 }).collect();
    let keep = Tensor::from_vec(keep, (1, 128, 1, 1), &Device::Cpu).unwrap();
    let mut hooks = Hooks::new();
    let mut seen = 0;
    hooks.on_output("relu3", |_, output| {
        seen += 1;
        Ok(Some(output.broadcast_mul(&keep)?))
    });
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let before = model.parameters().get("fc.weight").unwrap().detached().copy().unwrap();
    let config = TrainerConfig::new(1, Sgd::new(0.1)).limit_batches(2);
    let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config);
    builder.hooks(hooks).run().unwrap();
    assert_eq!(seen, 2);
    let after = model.parameters().get("fc.weight").unwrap().detached();
    let moved = (after - before).unwrap().abs().unwrap().sum(0).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(moved[5], 0.0);
    assert!(moved.iter().filter(|moved| **moved > 0.0).count() > 32, "{moved:?}");
}

#[test]
fn hooks_may_be_made_for_each_step() {
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let steps = RefCell::new(Vec::new());
    let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config());
    let builder = builder.hooks_of_step(|step| {
        steps.borrow_mut().push(step);
        Hooks::new()
    });
    builder.run().unwrap();
    assert_eq!(steps.into_inner(), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_number_that_nobody_measures_cannot_be_monitored() {
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let refused = |text: &str| {
        let config =
            recipe(&format!("{text}\nepochs = 1\noptimizer = {{ name = 'sgd', lr = 0.1 }}"));
        Trainer::new(model.as_ref(), &train, &val, config).err().unwrap().to_string()
    };
    let error = refused("monitor = 'val_acuracy'");
    assert!(error.contains("did you mean `val_accuracy`"), "{error}");
    let error = refused("schedule = { name = 'reduce_lr_on_plateau', monitor = 'regret' }");
    assert!(error.starts_with("`schedule.monitor` is regret"), "{error}");
    let error = refused("metrics = [{ name = 'macro_f2' }]");
    assert!(error.contains("no metric is called `macro_f2`; did you mean `macro_f1`?"), "{error}");
    let error = refused("metrics = [{ name = 'top_k', k = 3 }]");
    assert!(error.starts_with("`metrics.k` is 3"), "{error}");
}
