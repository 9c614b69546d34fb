//! Learning rates epoch by epoch, those of one cycle step by step, against PyTorch's.

use candle_vision_test_support::reference;

use std::sync::Arc;

use candle_vision_train::schedule::{LearningRate, RunLength, Schedules};
use candle_vision_train::{EpochRecord, Measured};

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn learning_rate(config: &str, run: RunLength) -> LearningRate {
    let description = toml::from_str(config).expect("the case is a valid setting");
    let schedule = Schedules::standard().build(&description).expect("settings are valid");
    LearningRate::new(Arc::from(schedule), 0.1, run).expect("settings are valid")
}

/// The record of an epoch with this metric.
fn record(metric: f64) -> EpochRecord {
    let mut record = EpochRecord::new(1);
    (record.val_loss, record.val_accuracy) = (metric, metric);
    record
}

#[track_caller]
fn check_rates(config: &str, metric: impl Fn(usize) -> f64, expected: &[f64]) {
    let mut schedule = learning_rate(config, RunLength { epochs: 10, steps_per_epoch: 100 });
    for (epoch, expected) in expected.iter().enumerate() {
        let lr = schedule.lr();
        assert!((lr - expected).abs() < 1e-12, "epoch {epoch}: {lr}, expected {expected}");
        schedule.step(&record(metric(epoch)), &Measured::default()).expect("it is measured");
    }
}

#[track_caller]
fn check(case: &str, config: &str) {
    let expected = numbers(&reference::json("schedulers.json")[case]);
    assert!(expected.len() > 12, "the case is in the file");
    check_rates(config, |_| 1.0, &expected);
}

#[track_caller]
fn check_plateau(case: &str, config: &str) {
    let expected = &reference::json("schedulers.json")[case];
    let (metrics, rates) = (numbers(&expected["metrics"]), numbers(&expected["lr"]));
    // One more rate than metrics: the first is that of the start.
    let metric = |epoch: usize| metrics.get(epoch).copied().unwrap_or(0.0);
    check_rates(config, metric, &rates);
}

#[test]
fn step_lr() {
    check("step_lr(step_size=3, gamma=0.1)", "name = 'step_lr'\nstep_size = 3\ngamma = 0.1");
}

#[test]
fn cosine_annealing_lr_goes_on_past_its_end() {
    check(
        "cosine_annealing_lr(t_max=10, eta_min=0.001)",
        "name = 'cosine_annealing_lr'\nt_max = 10\neta_min = 0.001",
    );
}

#[test]
fn linear_lr() {
    check(
        "linear_lr(start_factor=0.01, total_iters=5)",
        "name = 'constant'\nwarmup = { epochs = 5, start_factor = 0.01 }",
    );
}

#[test]
fn a_warm_up_in_front_of_a_cosine() {
    check(
        "sequential(linear 5 at 0.01, then cosine t_max=10)",
        "name = 'cosine_annealing_lr'\nt_max = 10\nwarmup = { epochs = 5, start_factor = 0.01 }",
    );
}

#[test]
fn reduce_lr_on_plateau_of_the_loss() {
    check_plateau(
        "reduce_lr_on_plateau(min, factor=0.5, patience=2)",
        "name = 'reduce_lr_on_plateau'\nfactor = 0.5\npatience = 2",
    );
}

#[test]
fn reduce_lr_on_plateau_of_the_accuracy() {
    check_plateau(
        "reduce_lr_on_plateau(max, factor=0.5, patience=3) on -metrics",
        "name = 'reduce_lr_on_plateau'\nmode = 'max'\nfactor = 0.5\npatience = 3",
    );
}

#[test]
fn one_cycle_lr() {
    let expected = reference::json("schedulers.json");
    let expected = numbers(&expected["one_cycle_lr(max_lr=0.1, total_steps=20)"]);
    assert_eq!(expected.len(), 20);
    let mut schedule =
        learning_rate("name = 'one_cycle_lr'", RunLength { epochs: 4, steps_per_epoch: 5 });
    for (step, expected) in expected.iter().enumerate() {
        let lr = schedule.lr_of_step(step);
        assert!((lr - expected).abs() < 1e-12, "step {step}: {lr}, expected {expected}");
        if step % 5 == 4 {
            schedule.step(&record(1.0), &Measured::default()).expect("it is measured");
        }
    }
}
