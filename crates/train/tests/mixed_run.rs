//! Runs on mixed images: they learn, repeat bit for bit with any number of workers, and resume to the same bits. What does
//! not fit them is refused before the first step.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::Tensor;
use candle_vision_data::batch_transforms::{BatchTransform, CutMix, MixUp, RandomChoice};
use candle_vision_data::{DataLoader, LoaderConfig};
use candle_vision_train::loss::Loss;
use candle_vision_train::optim::Adam;
use candle_vision_train::{
    Callback, Checkpoint, Control, Event, Result, RunFolder, Trainer, TrainerConfig,
    TrainingResult, evaluate,
};
use common::*;

const RECIPE: &str = "
    epochs = 3
    optimizer = { name = 'adam', lr = 0.003 }
    loss = { name = 'cross_entropy', label_smoothing = 0.1 }
";

fn mixing(alpha: f64) -> Vec<Arc<dyn BatchTransform>> {
    let choice = RandomChoice::new().with(MixUp::new(alpha), 1.0).with(CutMix::new(1.0), 1.0);
    vec![Arc::new(choice)]
}

fn mixed(workers: usize, alpha: f64) -> DataLoader {
    train_loader(workers).with_batch_transforms(mixing(alpha)).unwrap()
}

/// Trains or goes on, until the batch of number `stop` in the run if it is given.
fn run(
    folder: &RunFolder,
    train: &DataLoader,
    resumes: bool,
    stop: Option<usize>,
) -> Result<TrainingResult> {
    let (model, val) = (network(if resumes { 7 } else { 0 }), val_loader());
    let mut trainer = Trainer::new(model.as_ref(), train, &val, recipe(RECIPE))?.run_folder(folder);
    if resumes {
        trainer.resume(&Checkpoint::load(folder.last())?)?;
    }
    let mut stopping = Watch(|event: &Event<'_>| match event {
        Event::BatchEnd { record, .. } if Some(record.step) == stop => Control::Stop,
        _ => Control::Continue,
    });
    let callbacks: &mut [&mut dyn Callback] = &mut [&mut stopping];
    trainer.run_with(callbacks, &AtomicBool::new(false))
}

#[test]
fn the_loss_falls_although_images_are_mixed() {
    let config = LoaderConfig::new(8).shuffle(true).seed(3);
    let train = loader_of(Halves::new(64, 0), config);
    let train = train.with_batch_transforms(mixing(0.2)).unwrap();
    let (model, val) = (network(0), val_loader());
    let config = TrainerConfig::new(6, Adam::new(0.003));
    let done = Trainer::new(model.as_ref(), &train, &val, config).unwrap().run().unwrap();
    let (first, last) = (&done.history.epochs[0], &done.history.epochs[5]);
    assert!(last.train_loss < 0.9 * first.train_loss, "{first:?} {last:?}");
    assert!(last.val_accuracy > 0.9, "{last:?}");
    // Against the class with the larger share, which the network does not always see.
    assert!((0.5..1.0).contains(&last.train_accuracy), "{last:?}");
}

#[test]
fn a_run_resumes_within_an_epoch_to_the_same_bits_with_any_number_of_workers() {
    let runs = Runs::new();
    let (whole, parted) = (runs.create(), runs.create());
    let expected = run(&whole, &mixed(2, 0.4), false, None).unwrap();
    run(&parted, &mixed(8, 0.4), false, Some(7)).unwrap();
    let found = run(&parted, &mixed(0, 0.4), true, None).unwrap();
    assert_eq!(found.history.batches, expected.history.batches);
    assert_eq!(bits(&parted.last()), bits(&whole.last()));
}

#[test]
fn a_run_does_not_go_on_with_other_mixing() {
    let runs = Runs::new();
    let [mixed_run, plain_run] = [runs.create(), runs.create()];
    run(&mixed_run, &mixed(0, 0.4), false, Some(3)).unwrap();
    run(&plain_run, &train_loader(0), false, Some(3)).unwrap();
    for (folder, train) in
        [(&mixed_run, mixed(0, 0.2)), (&mixed_run, train_loader(0)), (&plain_run, mixed(0, 0.4))]
    {
        let error = run(folder, &train, true, None).unwrap_err().to_string();
        assert!(error.contains("`batch_transforms of the training data`"), "{error}");
        assert!(error.contains("they decide what the network sees"), "{error}");
    }
    // A run without mixing records nothing of it, like those of earlier versions.
    assert!(run(&plain_run, &train_loader(0), true, None).is_ok());
}

/// A loss of labels alone.
#[derive(Debug)]
struct OwnLoss;

impl Loss for OwnLoss {
    fn loss(&self, logits: &Tensor, _labels: &Tensor) -> Result<Tensor> {
        Ok(logits.sum_all()?)
    }
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_step() {
    let (model, val) = (network(0), val_loader());
    let builder = |train, val| Trainer::builder(model.as_ref()).data(train, val);
    let check = |result: Result<Trainer<'_>>, words: &str| {
        let error = result.expect_err("an error").to_string();
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    };
    let mixed = mixed(0, 1.0);
    check(
        builder(&mixed, &val).config(recipe(RECIPE)).loss(OwnLoss).build(),
        "takes one label for each image, but the targets are shares of several classes",
    );
    check(
        builder(&val, &mixed).config(recipe(RECIPE)).build(),
        "`batch_transforms` is random_choice; it must be none where images are evaluated",
    );
    let mut alone = train_loader(0).with_batch_transforms(mixing(1.0)).unwrap();
    alone.set_batch_size(1).unwrap();
    check(
        builder(&alone, &val).config(recipe(RECIPE)).build(),
        "`batch_size` is 1; it must be at least 2 with batch transforms",
    );
    let error = evaluate(model.as_ref(), &mixed).run().unwrap_err().to_string();
    assert!(error.contains("none where images are evaluated"), "{error}");
}
