//! Runs of several ranks, which are threads here, against runs of one process.

mod common;
#[path = "distributed/sharded.rs"]
mod sharded;

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::Device;
use candle_vision_data::{LoaderConfig, Share};
use candle_vision_train::{
    Checkpoint, Control, Error, Event, RunFolder, StopReason, Trainer, TrainerConfig, evaluate,
};
use common::ranks::*;
use common::*;

/// With synchronised batch norm and without dropout, so that ranks do what one process does.
const SYNCHRONISED: &str = "epochs = 3\n\
    optimizer = { name = 'sgd', lr = 0.002, momentum = 0.9, weight_decay = 0.001 }\n\
    distributed = { batch_norm = 'synchronised' }";

#[test]
fn two_ranks_give_the_weights_of_one_process() {
    // 3 epochs of 4 batches; the last has 7 images, 4 and 3.
    let run = (16, 55);
    let config = recipe(SYNCHRONISED);
    let one =
        on_ranks(1, run, |rank| rank.train(&config, None, None, quiet)).remove(0).expect("a run");
    for ranks in [2, 4] {
        let found = on_ranks(ranks, run, |rank| rank.train(&config, None, None, quiet));
        let found: Vec<_> = found.into_iter().map(|rank| rank.expect("a run")).collect();
        assert!(found.iter().all(|(_, weights)| same_bits(weights, &found[0].1)));
        let difference = largest_difference(&found[0].1, &one.1);
        assert!(difference < 1e-5, "{ranks} ranks differ by {difference:.1e}");
        assert!(difference > 0.0, "sums in another order");
        for (epoch, expected) in found[0].0.history.epochs.iter().zip(&one.0.history.epochs) {
            assert!((epoch.train_loss - expected.train_loss).abs() < 1e-5);
            assert!((epoch.val_loss - expected.val_loss).abs() < 1e-4);
            assert_eq!(epoch.train_accuracy, expected.train_accuracy);
            assert_eq!(epoch.val_accuracy, expected.val_accuracy);
        }
        assert_eq!(found[0].0.history.batches.len(), 12);
    }
}

#[test]
fn ranks_with_weighted_classes_train_what_one_process_trains() {
    // Each rank has its own share of the heavy class. In the last two, a rank has one image, which may have weight 0, and so may
    // both.
    for (loss, weights, run) in [
        ("cross_entropy', label_smoothing = 0.1", "[1.0, 3.0]", (8, 30)),
        ("focal'", "[1.0, 3.0]", (8, 30)),
        ("cross_entropy', label_smoothing = 0.1", "[0.0, 1.0]", (2, 12)),
        ("focal'", "[0.0, 1.0]", (2, 12)),
    ] {
        let loss = format!("loss = {{ name = '{loss}, class_weights = {weights} }}");
        let config = recipe(&format!("{SYNCHRONISED}\n{loss}"));
        let [one, two] = [1, 2].map(|ranks| {
            let found = on_ranks(ranks, run, |rank| rank.train(&config, None, None, quiet));
            found.into_iter().next().expect("rank 0").expect("a run")
        });
        let difference = largest_difference(&one.1, &two.1);
        assert!(difference < 1e-5, "{loss}: {difference:.1e}");
        for (a, b) in one.0.history.batches.iter().zip(&two.0.history.batches) {
            assert!((a.loss - b.loss).abs() < 1e-5, "{loss}: step {}", a.step);
        }
    }
}

#[test]
fn gradients_in_half_of_the_bytes_train_as_well() {
    let config =
        recipe(&SYNCHRONISED.replace("'synchronised'", "'synchronised', gradients = 'bf16'"));
    let plain = recipe(SYNCHRONISED);
    let run = |config: &TrainerConfig| {
        let found = on_ranks(2, (16, 48), |rank| rank.train(config, None, None, quiet));
        found.into_iter().map(|rank| rank.expect("a run")).collect::<Vec<_>>()
    };
    let (rounded, plain) = (run(&config), run(&plain));
    assert!(same_bits(&rounded[0].1, &rounded[1].1));
    let difference = largest_difference(&rounded[0].1, &plain[0].1);
    assert!(difference > 1e-6 && difference < 0.05, "{difference:.1e}");
}

#[test]
fn without_synchronised_batch_norm_ranks_agree_as_well() {
    // Dropout too: each rank draws its own.
    let config = recipe("epochs = 2\noptimizer = { name = 'adam', lr = 0.001 }");
    let found = on_ranks(3, (6, 21), |rank| rank.train(&config, None, None, quiet));
    let found: Vec<_> = found.into_iter().map(|rank| rank.expect("a run")).collect();
    assert!(found.iter().all(|(_, weights)| same_bits(weights, &found[0].1)));
    assert!(found.iter().all(|(done, _)| done.history.batches == found[0].0.history.batches));
    assert_eq!(found[0].0.history.epochs.len(), 2);
}

#[test]
fn the_record_is_that_of_the_checkpoint() {
    // Each rank has running statistics of its own, and so have their averages.
    let runs = Runs::new();
    for averages in ["", "\nema = { decay = 0.9 }"] {
        let text = "epochs = 3\noptimizer = { name = 'sgd', lr = 0.02, momentum = 0.9 }";
        let (config, folder) = (recipe(&format!("{text}{averages}")), runs.create());
        let found = on_ranks(2, (8, 40), |rank| {
            let own = (rank.communicator.rank() == 0).then_some(&folder);
            rank.train(&config, own, None, quiet).expect("a run").0.history
        });
        let best = found[0].best().expect("an epoch");
        assert_eq!(found[1].best().map(|epoch| epoch.val_loss), Some(best.val_loss));
        let model = residual(5, &Device::Cpu);
        let checkpoint = Checkpoint::load(folder.best()).expect("a checkpoint");
        checkpoint.restore(model.as_ref()).expect("its network");
        let again = evaluate(model.as_ref(), &val_loader()).run().expect("an evaluation");
        assert_eq!((again.loss, again.accuracy), (best.val_loss, best.val_accuracy), "{averages}");
    }
}

#[test]
fn ranks_evaluate_as_one_process_does() {
    let model = residual(5, &Device::Cpu);
    let expected = evaluate(model.as_ref(), &val_loader()).run().expect("an evaluation");
    assert_eq!(expected.predictions.len(), 10);
    // Three batches: with two ranks one has a batch more, and of four ranks one has none.
    for ranks in [2, 3, 4] {
        let found = on_ranks(ranks, (ranks, 10), |rank| {
            let (model, ranks) = (residual(5, &Device::Cpu), rank.communicator.as_ref());
            let share = Share::Batches { rank: ranks.rank(), ranks: ranks.size() };
            let loader = val_loader().share(share).expect("a share");
            evaluate(model.as_ref(), &loader).ranks(ranks).run().expect("an evaluation")
        });
        assert!(found.iter().all(|found| *found == expected), "{ranks} ranks");
    }
    // A share alone would look like all of the images.
    let shared = |share| val_loader().share(share).expect("a share");
    let loader = shared(Share::Batches { rank: 0, ranks: 2 });
    let refused = evaluate(model.as_ref(), &loader).run().expect_err("a share").to_string();
    assert!(refused.starts_with("`share of the images to evaluate` is Batches"), "{refused}");
    let whole = loader.clone().share(Share::All).expect("a share");
    assert_eq!(evaluate(model.as_ref(), &whole).run().expect("an evaluation"), expected);
}

#[test]
fn a_stop_on_any_rank_ends_all_and_the_run_goes_on_with_other_ranks() {
    let (runs, config) = (Runs::new(), recipe(SYNCHRONISED));
    let run = (12, 51);
    let uninterrupted = on_ranks(2, run, |rank| rank.train(&config, None, None, quiet));
    let uninterrupted =
        uninterrupted.into_iter().map(|rank| rank.expect("a run")).next().expect("rank 0");
    let folder = runs.create();
    let stopped = on_ranks(2, run, |rank| {
        let is_second = rank.communicator.rank() == 1;
        let own = (!is_second).then_some(&folder);
        let asked = AtomicBool::new(false);
        rank.train(&config, own, None, |event| match event {
            Event::BatchEnd { record, .. } if is_second && record.step >= 7 => {
                asked.store(true, Ordering::Relaxed);
                Control::Stop
            }
            _ => Control::Continue,
        })
    });
    for rank in stopped {
        let (done, _) = rank.expect("a run");
        assert_eq!(done.reason, StopReason::StoppedByCallback);
        // The ranks tell each other in the next step.
        assert_eq!(done.history.batches.len(), 8);
    }
    let checkpoint = Checkpoint::load(folder.last()).expect("a checkpoint");
    for ranks in [2, 1, 3] {
        let found =
            on_ranks(ranks, run, |rank| rank.train(&config, None, Some(&checkpoint), quiet));
        let (done, weights) =
            found.into_iter().map(|rank| rank.expect("a run")).next().expect("rank 0");
        assert_eq!(done.history.batches.len(), 15);
        let difference = largest_difference(&weights, &uninterrupted.1);
        // With as many ranks the sums have the same order.
        assert!(
            if ranks == 2 { difference == 0.0 } else { difference < 1e-5 },
            "{ranks}: {difference:.1e}"
        );
    }
    // Other steps than those of the run: batches of 8 on all ranks together.
    let other = on_ranks(2, (8, 50), |rank| rank.train(&config, None, Some(&checkpoint), quiet));
    let message = other.into_iter().next().expect("rank 0").expect_err("another run").to_string();
    assert!(message.contains("batch_size of the training data"), "{message}");
}

#[test]
fn files_of_ranks_are_kept_within_an_epoch() {
    let (runs, run) = (Runs::new(), (12, 51));
    let config = recipe(SYNCHRONISED);
    let train = |ranks: usize,
                 config: &TrainerConfig,
                 folder: Option<&RunFolder>,
                 from: Option<&Checkpoint>,
                 last: usize| {
        let found = on_ranks(ranks, run, |rank| {
            let own = folder.filter(|_| rank.communicator.rank() == 0);
            Rank { own_files: true, ..rank }.train(config, own, from, |event| match event {
                Event::BatchEnd { record, .. } if record.step >= last => Control::Stop,
                _ => Control::Continue,
            })
        });
        found.into_iter().next().expect("rank 0")
    };
    let whole = train(2, &config, None, None, usize::MAX).expect("a run").1;
    let folder = runs.create();
    train(2, &config, Some(&folder), None, 7).expect("a run");
    let within = Checkpoint::load(folder.last()).expect("a checkpoint");
    let again = train(2, &config, None, Some(&within), usize::MAX).expect("a run").1;
    assert!(same_bits(&whole, &again));
    for ranks in [1, 3] {
        let refused = train(ranks, &config, None, Some(&within), usize::MAX);
        let message = refused.expect_err("another number of ranks").to_string();
        let ranks = ["1 rank", "3 ranks"][ranks / 2];
        let why = format!("with {ranks}: the run was stopped within epoch 2");
        assert!(message.contains(&why), "{message}");
        assert!(message.contains("resume with 2 ranks, and with any number from"), "{message}");
    }
    // After an epoch it does not matter who read which of its samples.
    let (folder, short) =
        (runs.create(), recipe(&SYNCHRONISED.replace("epochs = 3", "epochs = 1")));
    train(2, &short, Some(&folder), None, usize::MAX).expect("a run");
    let after = Checkpoint::load(folder.last()).expect("a checkpoint");
    for ranks in [1, 3] {
        let done = train(ranks, &config, None, Some(&after), usize::MAX).expect("a run").0;
        assert_eq!(done.history.epochs.len(), 3);
    }
}

#[test]
fn what_does_not_fit_together_is_said_before_the_first_step() {
    let errors = on_ranks(3, (6, 12), |rank| {
        let lr = if rank.communicator.rank() == 2 { "0.02" } else { "0.002" };
        let config = recipe(&SYNCHRONISED.replace("0.002", lr));
        rank.train(&config, None, None, quiet).expect_err("other settings").to_string()
    });
    for error in &errors {
        assert!(error.starts_with("rank 2 differs from rank 0 in `training.optimizer`"), "{error}");
        assert!(error.contains("0.02") && error.contains("start all with the same"), "{error}");
    }
    let errors = on_ranks(2, (4, 8), |rank| {
        // The first has the usual ones, which are not written down.
        let more =
            ["", "\ndistributed = { optimizer_state = 'sharded' }"][rank.communicator.rank()];
        let config =
            recipe(&format!("epochs = 1\noptimizer = {{ name = 'sgd', lr = 0.01 }}{more}"));
        rank.train(&config, None, None, quiet).expect_err("other settings").to_string()
    });
    for error in &errors {
        let expected = "rank 1 differs from rank 0 in `training.distributed`";
        assert!(error.starts_with(expected), "{error}");
    }
    let errors = on_ranks(2, (4, 8), |rank| {
        let model = rank.network();
        let (train, val) = (train_loader(0), val_loader());
        let builder =
            Trainer::builder(model.as_ref()).data(&train, &val).config(recipe(SYNCHRONISED));
        builder.communicator(rank.communicator).build().expect_err("no shares").to_string()
    });
    assert!(
        errors[0].contains("share of the training data") && errors[0].contains("DataLoader::share"),
        "{}",
        errors[0]
    );
}

#[test]
fn a_single_sample_on_a_rank_is_refused_before_the_first_step() {
    let train = |run: (usize, usize), more: &str| {
        let text = format!("epochs = 1\noptimizer = {{ name = 'sgd', lr = 0.001 }}\n{more}");
        let found = on_ranks(2, run, |rank| {
            // Its last maps are 1x1 here.
            let rank = Rank { architecture: "resnet18", ..rank };
            let mut steps = 0;
            let done = rank.train(&recipe(&text), None, None, |event| {
                steps += usize::from(matches!(event, Event::BatchEnd { .. }));
                Control::Continue
            });
            done.map(|_| steps).map_err(|error| (steps, error.to_string()))
        });
        assert_eq!(found[0], found[1], "{run:?}");
        found.into_iter().next().expect("rank 0")
    };
    // The last batch has three images, two and one.
    let (steps, error) = train((8, 11), "").expect_err("one image");
    assert_eq!(steps, 0);
    let expected = "the last batch of 11 samples, in batches of 4 on each of 2 processes, leaves one of them a single sample";
    assert!(error.contains(expected) && error.contains("`drop_last`, or another"), "{error}");
    let (_, error) = train((2, 4), "").expect_err("one image");
    assert!(error.contains("`batch_size` is 1 on each of 2 processes"), "{error}");
    assert!(error.contains("or `distributed.batch_norm = \"synchronised\"`"), "{error}");
    // One image on each of two ranks is a batch of two.
    assert_eq!(train((2, 2), "distributed = { batch_norm = 'synchronised' }"), Ok(1));
}

#[test]
fn a_rank_that_fails_ends_the_others() {
    let config = recipe(SYNCHRONISED);
    let errors = on_ranks(2, (8, 32), |rank| {
        let is_second = rank.communicator.rank() == 1;
        let mut steps = 0;
        let failing = |event: &Event<'_>| -> Result<Control, Error> {
            steps += usize::from(matches!(event, Event::BatchEnd { .. }));
            if is_second && steps == 3 {
                return Err(Error::callback("the second rank", "it fails on purpose"));
            }
            Ok(Control::Continue)
        };
        let (number, ranks) = (rank.communicator.rank(), rank.communicator.size());
        let own = LoaderConfig::new(4).shuffle(true).workers(0);
        let train = loader_of(Halves::new(32, 0), own);
        let train = train.share(Share::Samples { rank: number, ranks }).expect("a share");
        let val = val_loader().share(Share::Batches { rank: number, ranks }).expect("a share");
        let model = rank.network();
        let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config.clone());
        let builder = builder.communicator(rank.communicator).callback(failing);
        builder.run().expect_err("a failure").to_string()
    });
    assert!(errors[0].contains("rank 1 ended while rank 0 waited for it"), "{}", errors[0]);
    assert_eq!(errors[1], "the second rank failed");
}

#[test]
fn without_cards_there_is_no_nccl() {
    let errors = on_ranks(2, (4, 8), |rank| {
        let config =
            recipe(&SYNCHRONISED.replace("batch_norm = 'synchronised'", "collectives = 'nccl'"));
        rank.train(&config, None, None, quiet).expect_err("no cards").to_string()
    });
    let expected = "`distributed.collectives` is nccl; it must be \"auto\" or \"host\", because there is no NCCL between the \
                    ranks: no rank has a card";
    assert_eq!(errors, [expected; 2]);
}
