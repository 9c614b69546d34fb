//! Several batches that make one step, against one batch of all their images.

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};
use candle_vision_data::{Batch, LoaderConfig, Share};
use candle_vision_models::{Model, ModelSpec, Pass, build};
use candle_vision_ops::dropout;
use candle_vision_train::loss::{CrossEntropy, Loss};
use candle_vision_train::{StepOutput, Trainer, TrainerConfig, TrainingResult};
use common::ranks::*;
use common::*;

/// One step for each learning rate, and averages that count steps.
const RECIPE: &str = "epochs = 3\nschedule = { name = 'one_cycle_lr', pct_start = 0.3 }\n\
    optimizer = { name = 'sgd', lr = 0.05, momentum = 0.9, weight_decay = 0.001 }\n\
    ema = { decay = 0.9, every = 2 }";

type Weights = HashMap<String, Tensor>;

/// Without batch norm and dropout.
fn mlp() -> Box<dyn Model> {
    let spec = ModelSpec::new("mlp", 2).input([3, SIDE, SIDE]);
    build(&spec, 1, &Device::Cpu).expect("a network")
}

/// The images of `data` in batches of `batch`.
fn run(data: Halves, batch: usize, config: &TrainerConfig) -> (TrainingResult, Weights) {
    let own = LoaderConfig::new(batch).shuffle(true).seed(3).workers(0).skip_broken(true);
    let (train, val, model) = (loader_of(data, own), val_loader(), mlp());
    let done = Trainer::new(model.as_ref(), &train, &val, config.clone()).and_then(|mut t| t.run());
    (done.expect("a run"), weights(model.as_ref()))
}

fn weights(model: &dyn Model) -> Weights {
    let all = model.parameters().all();
    all.iter().map(|p| (p.path().to_owned(), p.detached().copy().expect("a copy"))).collect()
}

/// Batches of 5 by threes and batches of 15: an epoch of `images` has `steps` steps either way.
fn check(more: &str, images: usize, steps: usize) {
    let halves = || Halves::new(images, 0);
    let (large, expected) = run(halves(), 15, &recipe(&format!("{more}\n{RECIPE}")));
    let (small, found) = run(halves(), 5, &recipe(&format!("{more}\naccumulate = 3\n{RECIPE}")));
    let difference = largest_difference(&found, &expected);
    assert!(difference < 1e-6, "{more}: {difference:.1e}");
    assert_eq!(small.history.batches.len(), 3 * steps);
    for (small, large) in small.history.batches.iter().zip(&large.history.batches) {
        assert_eq!((small.step, small.lr), (large.step, large.lr));
        assert!((small.loss - large.loss).abs() < 1e-6);
    }
    for (small, large) in small.history.epochs.iter().zip(&large.history.epochs) {
        assert!((small.train_loss - large.train_loss).abs() < 1e-6);
        assert_eq!(small.train_accuracy, large.train_accuracy);
    }
}

#[test]
fn batches_that_make_one_step_give_that_of_their_images() {
    check("", 45, 3);
    // The last step has 9 images, in batches of 5 and 4.
    check("", 39, 3);
    check("grad_clip_norm = 0.05", 39, 3);
}

#[test]
fn class_weights_count_in_the_whole_step() {
    for smoothing in ["0.0", "0.1"] {
        for weights in ["[1.0, 3.0]", "[0.0, 1.0]"] {
            let loss = format!("label_smoothing = {smoothing}, class_weights = {weights}");
            let config = recipe(&format!("loss = {{ name = 'cross_entropy', {loss} }}\n{RECIPE}"));
            // The last step has 7 images. Of single images, half have weight 0, and so have some steps of two.
            for (batch, accumulate, images) in [(8, 2, 39), (1, 2, 12), (1, 12, 12)] {
                let (large, expected) = run(Halves::new(images, 0), batch * accumulate, &config);
                let accumulated = config.clone().accumulate(accumulate);
                let (small, found) = run(Halves::new(images, 0), batch, &accumulated);
                let difference = largest_difference(&found, &expected);
                assert!(difference < 1e-6, "{loss} {batch} {accumulate}: {difference:.1e}");
                let steps = small.history.batches.iter().zip(&large.history.batches);
                for (small, large) in steps {
                    assert!((small.loss - large.loss).abs() < 1e-5, "{loss}: {small:?} {large:?}");
                }
            }
        }
    }
}

#[test]
fn weights_of_0_for_all_images_are_refused_before_the_first_step() {
    let config = recipe(&format!(
        "loss = {{ name = 'cross_entropy', class_weights = [0.0, 1.0] }}\n{RECIPE}"
    ));
    // One image, of the first class.
    let (train, val, model) =
        (loader_of(Halves::new(1, 0), LoaderConfig::new(1)), val_loader(), mlp());
    let refused = Trainer::new(model.as_ref(), &train, &val, config).expect_err("no weight");
    assert_eq!(
        refused.to_string(),
        "`class_weights` is 0 for each class that the training data have; it must be more than 0 for at least one of them"
    );
}

#[test]
fn a_step_is_scaled_and_clipped_as_one() {
    let config = |accumulate: usize| {
        let config = recipe(&format!("precision = 'f16'\ngrad_clip_norm = 0.05\n{RECIPE}"));
        config.accumulate(accumulate)
    };
    let (_, expected) = run(Halves::new(39, 0), 15, &config(1));
    let (done, found) = run(Halves::new(39, 0), 5, &config(3));
    assert_eq!(done.history.batches.len(), 9);
    // `f16` has 11 bits, and gradients of other batches are rounded otherwise.
    let difference = largest_difference(&found, &expected);
    assert!(difference < 2e-3, "{difference:.1e}");
}

#[test]
fn images_that_cannot_be_read_do_not_count() {
    for broken in [0, 17, 38] {
        let halves = || Halves { broken: Some(broken), ..Halves::new(39, 0) };
        let (_, expected) = run(halves(), 15, &recipe(RECIPE));
        let (_, found) = run(halves(), 5, &recipe(RECIPE).accumulate(3));
        let difference = largest_difference(&found, &expected);
        assert!(difference < 1e-6, "{broken}: {difference:.1e}");
    }
    // Batches of one image, and one step an epoch. In some run the last batch never comes.
    for broken in 0..12 {
        let halves = || Halves { broken: Some(broken), ..Halves::new(12, 0) };
        let (done, found) = run(halves(), 1, &recipe(RECIPE).accumulate(12));
        let (_, expected) = run(halves(), 12, &recipe(RECIPE));
        assert_eq!(done.history.batches.len(), 3);
        assert!(largest_difference(&found, &expected) < 1e-6);
    }
}

#[test]
fn each_batch_of_a_step_has_its_own_random_numbers() {
    let masks = Mutex::new(Vec::new());
    let step = |model: &dyn Model, batch: &Batch, pass: &mut Pass<'_>| {
        let ones = Tensor::ones(64, DType::F32, &Device::Cpu)?;
        let mask = dropout(&ones, 0.5, &mut pass.generator().clone())?;
        masks.lock().expect("one thread").push(tensor_bits(&mask));
        let logits = model.forward(&batch.images, pass)?;
        let loss = CrossEntropy::new().loss(&logits, &batch.labels)?;
        Ok(StepOutput { loss, logits: Some(logits) })
    };
    let (train, val, model) = (train_loader(0), val_loader(), mlp());
    let mut config = recipe("epochs = 2\noptimizer = { name = 'sgd', lr = 0.01 }").accumulate(2);
    // The check would call the step once more.
    config.check_gradients = false;
    let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config);
    let done = builder.train_step(step).run().expect("a run");
    // Five batches an epoch: of two, two and one.
    assert_eq!(done.history.batches.len(), 6);
    let masks = masks.into_inner().expect("one thread");
    assert_eq!((masks.len(), masks.iter().collect::<HashSet<_>>().len()), (10, 10));
}

#[test]
fn ranks_sum_once_for_each_step() {
    let config = |accumulate| recipe(RECIPE).accumulate(accumulate);
    let (large, expected) = run(Halves::new(39, 0), 12, &config(1));
    let found = on_ranks(2, (6, 39), |rank| {
        let communicator = Arc::clone(&rank.communicator);
        let (number, ranks) = (communicator.rank(), communicator.size());
        let own = LoaderConfig::new(3).shuffle(true).seed(3).workers(0);
        let train = loader_of(Halves::new(39, 0), own);
        let train = train.share(Share::Samples { rank: number, ranks }).expect("a share");
        let val = val_loader().share(Share::Batches { rank: number, ranks }).expect("a share");
        let model = mlp();
        let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config(2));
        let done = builder.communicator(communicator).run().expect("a run");
        (done, weights(model.as_ref()))
    });
    assert!(same_bits(&found[0].1, &found[1].1));
    let difference = largest_difference(&found[0].1, &expected);
    assert!(difference < 1e-6, "{difference:.1e}");
    assert_eq!(found[0].0.history.batches.len(), large.history.batches.len());
}

#[test]
fn no_batches_make_no_step() {
    let refused = recipe(RECIPE).accumulate(0).validate();
    let message = refused.expect_err("no batches").to_string();
    assert_eq!(message, "`accumulate` is 0; it must be at least 1");
}
