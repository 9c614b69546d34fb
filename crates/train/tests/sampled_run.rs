//! Runs whose epochs show samples as a sampler says: they resume to the same bits, and with no other sampler.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_vision_data::DataLoader;
use candle_vision_data::samplers::{Balanced, ClassWeights, Sampler, Weighted};
use candle_vision_train::{
    BatchRecord, Callback, Checkpoint, Control, Event, Result, RunFolder, Trainer, TrainingResult,
};
use common::*;

const RECIPE: &str = "
    epochs = 3
    optimizer = { name = 'adam', lr = 0.003 }
    loss = { name = 'focal', class_weights = 'balanced' }
";

/// Draws with replacement, so that samples repeat within batches and epochs.
fn weighted() -> Arc<dyn Sampler> {
    Arc::new(Weighted::new(ClassWeights::List(vec![1.0, 4.0])).samples(18))
}

fn sampled(workers: usize, sampler: Option<Arc<dyn Sampler>>) -> DataLoader {
    match sampler {
        Some(sampler) => train_loader(workers).with_sampler(sampler).unwrap(),
        None => train_loader(workers),
    }
}

/// Trains or goes on, until the batch of number `stop` in the run if it is given.
fn run(folder: &RunFolder, resumes: bool, stop: Option<usize>) -> Result<TrainingResult> {
    let (model, val) = (network(if resumes { 7 } else { 0 }), val_loader());
    let train = sampled(if resumes { 0 } else { 2 }, Some(weighted()));
    let mut trainer =
        Trainer::new(model.as_ref(), &train, &val, recipe(RECIPE))?.run_folder(folder);
    if resumes {
        trainer.resume(&Checkpoint::load(folder.last())?)?;
    }
    let flag = AtomicBool::new(false);
    let mut watch = Watch(|event: &Event<'_>| {
        let is_last = matches!(event, Event::BatchEnd { record, .. } if Some(record.step) == stop);
        flag.fetch_or(is_last, std::sync::atomic::Ordering::Relaxed);
        Control::Continue
    });
    trainer.run_with(&mut [&mut watch as &mut dyn Callback], &flag)
}

#[test]
fn a_run_resumes_from_any_step_although_samples_repeat() {
    let runs = Runs::new();
    let whole = runs.create();
    let result = run(&whole, false, None).unwrap();
    // 18 samples in batches of 5.
    assert_eq!(result.history.batches.len(), 3 * 4);
    let losses = |batches: &[BatchRecord]| -> Vec<u64> {
        batches.iter().map(|batch| batch.loss.to_bits()).collect()
    };
    for step in [1, 3, 4, 6, 11] {
        let stopped = runs.create();
        run(&stopped, false, Some(step)).unwrap();
        let resumed = run(&stopped, true, None).unwrap();
        assert_eq!(losses(&resumed.history.batches), losses(&result.history.batches), "{step}");
        assert_eq!(bits(&stopped.last()), bits(&whole.last()), "{step}");
    }
}

#[test]
fn batches_have_their_numbers_although_samples_repeat() {
    let (model, train, val) = (network(0), sampled(2, Some(weighted())), val_loader());
    let mut numbers = Vec::new();
    let mut watch = Watch(|event: &Event<'_>| {
        if let Event::BatchEnd { batch, batches, .. } = event {
            numbers.push((*batch, *batches));
        }
        Control::Continue
    });
    let mut trainer = Trainer::new(model.as_ref(), &train, &val, recipe(RECIPE)).unwrap();
    trainer.run_with(&mut [&mut watch as &mut dyn Callback], &AtomicBool::new(false)).unwrap();
    assert_eq!(numbers, [(1, 4), (2, 4), (3, 4), (4, 4)].repeat(3));
}

#[test]
fn another_sampler_is_refused_and_named() {
    let runs = Runs::new();
    let begun = |sampler: Option<Arc<dyn Sampler>>| {
        let run = runs.create();
        let (model, train, val) = (network(0), sampled(0, sampler), val_loader());
        let config = recipe(RECIPE).epochs(1);
        let trainer = Trainer::new(model.as_ref(), &train, &val, config).unwrap();
        trainer.run_folder(&run).run().unwrap();
        run
    };
    let refused = |run: &RunFolder, sampler: Option<Arc<dyn Sampler>>| {
        let (model, train, val) = (network(0), sampled(0, sampler), val_loader());
        let mut trainer = Trainer::new(model.as_ref(), &train, &val, recipe(RECIPE)).unwrap();
        trainer.resume(&Checkpoint::load(run.last()).unwrap()).unwrap_err().to_string()
    };
    let (plain, with) = (begun(None), begun(Some(weighted())));
    for (run, sampler) in
        [(&plain, Some(weighted())), (&with, None), (&with, Some(Arc::new(Balanced::new()) as _))]
    {
        let error = refused(run, sampler);
        assert!(error.contains("`sampler of the training data`"), "{error}");
    }
}
