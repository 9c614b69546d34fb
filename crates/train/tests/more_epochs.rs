//! Runs that go on after their end, and what may change when a run goes on.

mod common;

use std::sync::atomic::AtomicBool;

use candle_vision_train::{
    Control, Error, Event, History, RunFolder, StopReason, Trainer, TrainerConfig, TrainingResult,
};
use common::*;

fn with_epochs(text: &str, epochs: usize) -> TrainerConfig {
    recipe(&format!("epochs = 1\n{text}")).epochs(epochs)
}

/// Two epochs, and two more.
fn in_two_parts(text: &str, run: &RunFolder) -> TrainingResult {
    train(&with_epochs(text, 2), run, &mut []).unwrap();
    resume(&with_epochs(text, 4), run).unwrap()
}

#[track_caller]
fn check_same_as_a_whole(text: &str) {
    let runs = Runs::new();
    let (whole, parts) = (runs.create(), runs.create());
    let expected = train(&with_epochs(text, 4), &whole, &mut []).unwrap();
    let found = in_two_parts(text, &parts);
    assert_eq!(found.reason, StopReason::Completed);
    assert_eq!(found.history.batches, expected.history.batches, "{text}");
    for (found, expected) in [(parts.last(), whole.last()), (parts.best(), whole.best())] {
        assert!(bits(&found) == bits(&expected), "{text}");
    }
}

#[test]
fn two_epochs_and_two_more_are_four() {
    const ADAM: &str = "optimizer = { name = 'adam', lr = 0.003 }";
    for more in [
        "",
        "ema = { decay = 0.9 }\nearly_stop = { patience = 9 }",
        "schedule = { name = 'step_lr', step_size = 1 }\nfreeze = { epochs = 3, unfreeze_lr = 1e-3 }",
        "schedule = { name = 'cosine_annealing_lr', t_max = 3, warmup = { epochs = 3 } }",
        "schedule = { name = 'reduce_lr_on_plateau', patience = 0, threshold = 0.9 }",
        "freeze = { epochs = 2 }\nprecision = 'f16'",
    ] {
        check_same_as_a_whole(&format!("{ADAM}\n{more}"));
    }
}

fn rates(history: &History) -> Vec<f64> {
    history.batches.iter().map(|batch| batch.lr).collect()
}

#[test]
fn a_schedule_of_the_whole_length_is_stretched() {
    const SGD: &str = "optimizer = { name = 'sgd', lr = 0.1 }";
    for more in [
        "schedule = { name = 'cosine_annealing_lr', eta_min = 1e-4 }",
        "schedule = { name = 'cosine_annealing_lr', warmup = { epochs = 1 } }",
        "schedule = { name = 'cosine_annealing_lr' }\nfreeze = { epochs = 1, unfreeze_lr = 0.01 }",
        "schedule = { name = 'cosine_annealing_lr' }\nfreeze = { epochs = 2, unfreeze_lr = 0.01 }",
        "schedule = { name = 'one_cycle_lr' }",
    ] {
        let (text, runs) = (format!("{SGD}\n{more}"), Runs::new());
        let whole = train(&with_epochs(&text, 4), &runs.create(), &mut []).unwrap();
        let short = train(&with_epochs(&text, 2), &runs.create(), &mut []).unwrap();
        let parts = in_two_parts(&text, &runs.create());
        assert_eq!(rates(&parts.history)[..10], rates(&short.history), "{more}");
        assert_eq!(rates(&parts.history)[10..], rates(&whole.history)[10..], "{more}");
        assert!(rates(&parts.history)[10..].iter().all(|lr| *lr > 0.0), "{more}");
    }
}

/// Stops after two epochs, since nothing is better by 100.
const EARLY: &str = "optimizer = { name = 'sgd', lr = 0.01 }
    early_stop = { patience = 1, min_delta = 100.0 }";

fn refused(config: &TrainerConfig, run: &RunFolder) -> String {
    resume(config, run).map(|summary| summary.reason).unwrap_err().to_string()
}

#[test]
fn a_run_that_was_stopped_early_goes_on_with_patience_anew() {
    let run = Runs::new();
    let run = run.create();
    let epochs = |summary: &TrainingResult| (summary.history.epochs.len(), summary.reason);
    let stopped = train(&with_epochs(EARLY, 5), &run, &mut []).unwrap();
    assert_eq!(epochs(&stopped), (2, StopReason::EarlyStopped));
    let error = refused(&with_epochs(EARLY, 5), &run);
    assert!(error.contains("2 epochs (stopped early)"), "{error}");
    assert!(error.contains("more `epochs` or another `early_stop`"), "{error}");

    let more = resume(&with_epochs(EARLY, 8), &run).unwrap();
    assert_eq!(epochs(&more), (3, StopReason::EarlyStopped));
    // The one epoch since then is not enough for a patience of two.
    let patient = EARLY.replace("patience = 1", "patience = 2");
    let more = resume(&with_epochs(&patient, 8), &run).unwrap();
    assert_eq!(epochs(&more), (4, StopReason::EarlyStopped));
    let without = EARLY.lines().next().unwrap();
    let more = resume(&with_epochs(without, 6), &run).unwrap();
    assert_eq!(epochs(&more), (6, StopReason::Completed));
}

#[test]
fn a_run_cannot_end_before_it_has_come_so_far() {
    let (runs, text) = (Runs::new(), "optimizer = { name = 'sgd', lr = 0.01 }");
    let run = runs.create();
    train_until(&with_epochs(text, 4), &run, 12).unwrap();
    let error = refused(&with_epochs(text, 2), &run);
    assert_eq!(error, "`epochs` is 2; it must be at least 3: so far has the run come");
    // In the midst of its third epoch it may be told to end with it.
    assert_eq!(resume(&with_epochs(text, 3), &run).unwrap().history.epochs.len(), 3);
    assert!(refused(&with_epochs(text, 3), &run).contains("is finished after 3 epochs"));
}

#[test]
fn what_may_change_and_why_the_rest_may_not_is_said() {
    let (runs, text) = (Runs::new(), "optimizer = { name = 'sgd', lr = 0.01 }");
    let run = runs.create();
    train(&with_epochs(text, 1), &run, &mut []).unwrap();
    let error = refused(&with_epochs(text, 2).seed(9), &run);
    for part in ["`seed` is 9 here, 0 there", "random draw", "only `epochs`, `early_stop`, workers"]
    {
        assert!(error.contains(part), "{error}");
    }
    let error = refused(&with_epochs(&text.replace("0.01", "0.02"), 2), &run);
    assert!(error.contains("`optimizer`") && error.contains("every step does"), "{error}");
}

#[test]
fn after_its_end_a_run_trains_no_more() {
    let (runs, config) = (Runs::new(), with_epochs("optimizer = { name = 'sgd', lr = 0.01 }", 1));
    let run = runs.create();
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, config).unwrap().run_folder(&run);
    let stop = AtomicBool::new(false);
    let first = trainer.run_with(&mut [], &stop).unwrap();
    let saved = std::fs::metadata(run.last()).unwrap().modified().unwrap();
    let mut events = 0;
    let mut watch = Watch(|_: &Event<'_>| {
        events += 1;
        Control::Continue
    });
    let again = trainer.run_with(&mut [&mut watch], &stop).unwrap();
    assert_eq!((again.reason, &again.history), (StopReason::Completed, &first.history));
    assert_eq!(events, 0);
    assert_eq!(std::fs::metadata(run.last()).unwrap().modified().unwrap(), saved);
}

#[test]
fn a_run_has_one_trainer_at_a_time() {
    let (runs, config) = (Runs::new(), with_epochs("optimizer = { name = 'sgd', lr = 0.01 }", 1));
    let run = runs.create();
    let held = RunFolder::open_to_resume(run.path()).unwrap();
    let error = train(&config, &run, &mut []).unwrap_err();
    assert!(matches!(error, Error::RunInUse { .. }), "{error}");
    train(&config, &held, &mut []).unwrap();
    drop(held);
    resume(&config.epochs(2), &run).unwrap();
}
