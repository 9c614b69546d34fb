//! Norms of gradients in the first step of each epoch.

mod common;

use candle_vision_train::{Event, GradientRecord, Trainer};
use common::*;

const SGD: &str = "
    epochs = 3
    optimizer = { name = 'sgd', lr = 0.5 }
    gradient_norms = true
";

/// The path of each recorded parameter with its norm.
fn norms(record: &GradientRecord) -> Vec<(String, f64)> {
    record.norms.iter().map(|norm| (norm.parameter.clone(), norm.norm)).collect()
}

/// One step of SGD moves a parameter by the rate times its gradient.
#[test]
fn norms_are_those_by_which_the_first_step_moves() {
    let config = recipe(&format!("{SGD} limit_batches = 1")).epochs(1);
    let (model, train, val) = (network(0), train_loader(0), val_loader());
    let weights = model.parameters().weights();
    let before: Vec<_> = weights.iter().map(|weight| weight.var().copy().unwrap()).collect();
    let mut told = Vec::new();
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, config).unwrap();
    let mut watch = Watch(|event: &Event<'_>| {
        if let Event::GradientNorms { record } = event {
            told.push((*record).clone());
        }
        candle_vision_train::Control::Continue
    });
    let done = trainer.run_with(&mut [&mut watch], &false.into()).unwrap();
    assert_eq!(done.gradients, told);
    let [record] = told.as_slice() else { panic!("one step: {told:?}") };
    assert_eq!((record.epoch, record.step, record.norms.len()), (1, 1, weights.len()));
    for ((weight, before), norm) in weights.iter().zip(&before).zip(&record.norms) {
        assert_eq!(
            (norm.parameter.as_str(), norm.shape.as_slice()),
            (weight.path(), before.dims())
        );
        let moved = (weight.detached() - before).unwrap().sqr().unwrap().sum_all().unwrap();
        let expected = f64::from(moved.to_scalar::<f32>().unwrap()).sqrt() / 0.5;
        let error = (norm.norm - expected).abs();
        assert!(error <= 1e-3 * expected + 1e-6, "{}: {} {expected}", norm.parameter, norm.norm);
    }
    assert_eq!(record.of_kernels().count(), 3);
}

#[test]
fn clipping_and_a_scaled_loss_do_not_show_and_no_weight_differs() {
    let run = |more: &str| {
        let run = Runs::new();
        let folder = run.create();
        let done = train(&recipe(&format!("{SGD} {more}")), &folder, &mut []).unwrap();
        (done.gradients, bits(&folder.best()))
    };
    let (plain, weights) = run("");
    let (clipped, _) = run("grad_clip_norm = 1e-3");
    assert_eq!(plain[0], clipped[0]);
    let silent = recipe(SGD).gradient_norms(false);
    let runs = Runs::new();
    let folder = runs.create();
    assert!(train(&silent, &folder, &mut []).unwrap().gradients.is_empty());
    assert!(!folder.path().join("gradients.csv").exists());
    assert_eq!(bits(&folder.best()), weights);
    let (scaled, _) = run("precision = 'f16'");
    for ((name, norm), (_, expected)) in norms(&scaled[0]).iter().zip(norms(&plain[0])) {
        assert!((norm - expected).abs() <= 0.1 * expected + 1e-3, "{name}: {norm}, not {expected}");
    }
}

#[test]
fn a_resumed_run_has_the_table_of_one_that_was_not() {
    let runs = Runs::new();
    // What is frozen has no gradient.
    let config = recipe(&format!("{SGD} freeze = {{ epochs = 1 }}"));
    let whole = runs.create();
    let done = train(&config, &whole, &mut []).unwrap();
    let steps: Vec<(usize, usize)> = done.gradients.iter().map(|r| (r.epoch, r.step)).collect();
    assert_eq!(steps, [(1, 1), (2, 6), (3, 11)]);
    assert_eq!(norms(&done.gradients[0]).len(), 2);
    assert!(norms(&done.gradients[1]).len() > 2);
    assert_eq!(whole.gradients().unwrap(), done.gradients);
    for step in [1, 3, 5, 6, 11, 14] {
        let run = runs.create();
        train_until(&config, &run, step).unwrap();
        // As if it was killed after it wrote the table of a later step.
        let mut later = run.gradients().unwrap();
        later.push(GradientRecord::new(3, step + 1));
        run.write_gradients(&later).unwrap();
        resume(&config, &run).unwrap();
        assert_eq!(run.gradients().unwrap(), done.gradients, "stopped in step {step}");
    }
}

/// Both say only what is looked at.
#[test]
fn a_run_may_go_on_with_and_without_the_looks() {
    let runs = Runs::new();
    let run = runs.create();
    train_until(&recipe(SGD), &run, 7).unwrap();
    let other = recipe(SGD).gradient_norms(false).check_gradients(false);
    assert_eq!(resume(&other, &run).unwrap().history.epochs.len(), 3);
}
