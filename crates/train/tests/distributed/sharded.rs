//! The optimizer's state shared out among ranks, against the whole state on every rank: the bits are the same.

use std::collections::{BTreeMap, HashMap};

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_vision_train::RunFolder;
use candle_vision_train::optim::{Optimizer, ParamGroup, Updated};

use super::*;

/// With all that may depend on the whole state: clipping, averages, a frozen start, groups.
const WHOLE: &str =
    "epochs = 3\ngrad_clip_norm = 0.5\nema = { decay = 0.9 }\nfreeze = { epochs = 1 }\n";

const OPTIMIZERS: [&str; 6] = [
    "optimizer = { name = 'sgd', lr = 0.01 }",
    "optimizer = { name = 'sgd', lr = 0.01, momentum = 0.9, weight_decay = 0.001 }",
    "optimizer = { name = 'adam', lr = 0.003 }",
    "optimizer = { name = 'adamw', lr = 0.003 }\ndecay_vectors = false",
    "optimizer = { name = 'rmsprop', lr = 0.001, momentum = 0.9, centered = true }",
    "optimizer = { name = 'muon', lr = 0.02, normalize = true }\n\
     param_groups = [\n\
         { pattern = '**.bias', epochs = 1, optimizer = { name = 'sgd', lr = 0.01, momentum = 0.9 } },\n\
         { pattern = '**.{bn1,bn2}.weight', optimizer = { name = 'adam', lr = 0.01 } },
     ]",
];

fn settings(optimizer: &str, state: &str) -> TrainerConfig {
    // Otherwise each rank has statistics of its own until the end of an epoch.
    let distributed = format!("batch_norm = 'synchronised', optimizer_state = '{state}'");
    recipe(&format!("{WHOLE}distributed = {{ {distributed} }}\n{optimizer}"))
}

/// The bits of `last.safetensors` and `best.safetensors` after a run, and of the weights on every rank.
type Files = [HashMap<String, Vec<u64>>; 2];

fn run(
    ranks: usize,
    config: &TrainerConfig,
    from: Option<&Checkpoint>,
    until: usize,
) -> (Files, RunFolder, Runs) {
    let runs = Runs::new();
    let folder = runs.create();
    let done = on_ranks(ranks, (8, 29), |rank| {
        // Only the first process has a folder.
        let own = (rank.communicator.rank() == 0).then_some(&folder);
        rank.train(config, own, from, |event| match event {
            Event::BatchEnd { record, .. } if record.step == until => Control::Stop,
            _ => Control::Continue,
        })
    });
    let done: Vec<_> = done.into_iter().map(|rank| rank.expect("a run")).collect();
    assert!(done.iter().all(|(_, weights)| same_bits(weights, &done[0].1)));
    let best = folder.best();
    let best = if best.is_file() { bits(&best) } else { HashMap::new() };
    ([bits(&folder.last()), best], folder, runs)
}

#[test]
fn shards_give_the_bits_of_the_whole() {
    for optimizer in OPTIMIZERS {
        for ranks in [2, 4] {
            let (sharded, ..) = run(ranks, &settings(optimizer, "sharded"), None, usize::MAX);
            let (whole, ..) = run(ranks, &settings(optimizer, "replicated"), None, usize::MAX);
            assert!(sharded == whole, "{ranks} ranks, {optimizer}");
            assert!(!whole[1].is_empty());
            let has_state = whole[0].keys().any(|name| name.starts_with("optimizer.step."));
            assert!(has_state, "{optimizer}");
        }
    }
}

#[test]
fn a_checkpoint_of_shards_is_an_ordinary_one() {
    for optimizer in &OPTIMIZERS[3..] {
        let config = |state| settings(optimizer, state);
        // In the second epoch, in which all parameters learn.
        let (sharded, folder, _runs) = run(2, &config("sharded"), None, 6);
        let (whole, ..) = run(2, &config("replicated"), None, 6);
        assert!(sharded == whole, "{optimizer}");
        let checkpoint = Checkpoint::load(folder.last()).expect("a checkpoint");
        for ranks in [1, 2, 4] {
            let (from_whole, ..) = run(ranks, &config("replicated"), Some(&checkpoint), usize::MAX);
            let (from_shards, ..) = run(ranks, &config("sharded"), Some(&checkpoint), usize::MAX);
            assert!(from_whole == from_shards, "{ranks} ranks, {optimizer}");
        }
        // And the other way: saved by one process.
        let (_, folder, _runs) = run(1, &config("replicated"), None, 6);
        let checkpoint = Checkpoint::load(folder.last()).expect("a checkpoint");
        let (from_whole, ..) = run(2, &config("replicated"), Some(&checkpoint), usize::MAX);
        let (from_shards, ..) = run(2, &config("sharded"), Some(&checkpoint), usize::MAX);
        assert!(from_whole == from_shards, "{optimizer}");
    }
}

#[test]
fn each_rank_sends_its_share_of_the_weights() {
    let sent = |state| {
        let config = settings(OPTIMIZERS[2], state);
        on_ranks(4, (8, 32), |rank| {
            let mut sent = 0;
            let done = rank.train(&config, None, None, |event| {
                if let Event::Ranks { bytes, epoch: 3, .. } = event {
                    sent = *bytes;
                }
                Control::Continue
            });
            done.map(|_| sent).expect("a run")
        })
    };
    let bytes = 4 * residual(0, &Device::Cpu).parameters().count() as u64;
    let (steps, ranks) = (4, 4);
    for (sharded, whole) in sent("sharded").into_iter().zip(sent("replicated")) {
        let more = sharded - whole;
        // Values of a quarter of the parameters, with their names and shapes.
        let share = steps * bytes / ranks;
        assert!(more > share * 9 / 10 && more < share * 12 / 10, "{more} of {share}");
    }
}

#[test]
fn a_loss_that_diverges_is_the_same_error_on_every_rank() {
    let error = |state| {
        let config = recipe(&format!(
            "epochs = 2\noptimizer = {{ name = 'sgd', lr = 1e30 }}\n\
             distributed = {{ optimizer_state = '{state}' }}"
        ));
        let errors = on_ranks(2, (8, 32), |rank| {
            rank.train(&config, None, None, quiet).expect_err("a divergence").to_string()
        });
        assert_eq!(errors[0], errors[1]);
        errors.into_iter().next().expect("rank 0")
    };
    assert_eq!(error("sharded"), error("replicated"));
}

#[test]
fn an_optimizer_of_all_parameters_together_is_not_shared_out() {
    let errors = on_ranks(2, (8, 16), |rank| {
        let (number, ranks) = (rank.communicator.rank(), rank.communicator.size());
        let train = loader_of(Halves::new(16, 0), LoaderConfig::new(4).workers(0));
        let train = train.share(Share::Samples { rank: number, ranks }).expect("a share");
        let val = val_loader().share(Share::Batches { rank: number, ranks }).expect("a share");
        let (model, config) = (rank.network(), settings(OPTIMIZERS[0], "sharded"));
        let builder = Trainer::builder(model.as_ref()).data(&train, &val).config(config);
        let builder = builder.optimizer(Together).communicator(rank.communicator);
        builder.build().expect_err("no shards").to_string()
    });
    let expected = "`distributed.optimizer_state` is sharded; it must be \"replicated\"";
    assert!(errors.iter().all(|error| error.starts_with(expected)), "{errors:?}");
}

/// An optimizer that says nothing of how it treats parameters.
#[derive(Debug)]
struct Together;

impl Optimizer for Together {
    fn fresh(&self) -> Box<dyn Optimizer> {
        Box::new(Self)
    }

    fn add(&mut self, _: Vec<ParamGroup>) -> Result<(), Error> {
        Ok(())
    }

    fn lr(&self) -> f64 {
        0.1
    }

    fn set_lr(&mut self, _: f64) {}

    fn update(&mut self, _: &GradStore, _: f64) -> Result<Updated, Error> {
        Updated::of(Vec::new())
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>, Error> {
        Ok(BTreeMap::new())
    }

    fn load_state(&mut self, _: &BTreeMap<String, Tensor>) -> Result<(), Error> {
        Ok(())
    }
}
