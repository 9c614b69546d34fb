//! Ranks whose gradients go from card to card by NCCL. Skipped where there is no device, no NCCL, or no card for each rank;
//! on the emulated device, ranks that are threads share its one card.

#![cfg(feature = "cuda")]

mod common;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};
use candle_vision_data::Batch;
use candle_vision_models::{Model, Pass};
use candle_vision_ops::{CardRanks, cuda_device, set_cuda_graphs, set_tf32};
use candle_vision_train::loss::{CrossEntropy, Loss};
use candle_vision_train::{Control, Event, StepOutput, TrainingResult};
use common::ranks::*;
use common::*;

/// Devices for so many ranks, and the right to use them.
fn devices(ranks: usize) -> Option<(Vec<Device>, MutexGuard<'static, ()>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let first = cuda_device(0).map_err(|error| skipped(&error)).ok()?;
    let cards = if is_emulated(&first) { 1 } else { ranks };
    if let Err(error) = CardRanks::find_library() {
        assert!(!is_emulated(&first), "{error}");
        skipped(&error);
        return None;
    }
    set_tf32(false);
    let devices = (0..ranks).map(|rank| cuda_device(rank % cards));
    let devices: Result<Vec<_>, _> = devices.collect();
    devices.map_err(|error| skipped(&error)).ok().map(|devices| (devices, alone))
}

fn is_emulated(device: &Device) -> bool {
    let Device::Cuda(device) = device else { return false };
    device.cuda_stream().context().name().is_ok_and(|name| name == "emulated")
}

#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
fn skipped(error: &candle_core::Error) {
    eprintln!("skipped: {error}");
}

type Ends = Vec<(TrainingResult, HashMap<String, Tensor>)>;

/// The ends of a run of ranks on these devices, which have the same weights.
fn train(devices: &[Device], more: &str) -> Ends {
    let config = recipe(&format!(
        "epochs = 2\noptimizer = {{ name = 'adamw', lr = 0.002 }}\ngrad_clip_norm = 0.5\n\
         distributed = {{ {more} }}"
    ));
    let found = on_devices(devices, (8, 29), |rank| rank.train(&config, None, None, quiet));
    let found: Ends = found.into_iter().map(|rank| rank.expect("a run")).collect();
    assert!(found.iter().all(|(_, weights)| same_bits(weights, &found[0].1)));
    found
}

#[test]
fn sums_of_cards_train_as_those_of_hosts() {
    let Some((devices, _alone)) = devices(2) else { return };
    for batch_norm in ["own", "synchronised"] {
        let run = |collectives: &str| {
            let more = format!("batch_norm = '{batch_norm}', collectives = '{collectives}'");
            train(&devices, &more)
        };
        let (cards, hosts) = (run("nccl"), run("host"));
        let difference = largest_difference(&cards[0].1, &hosts[0].1);
        // NVIDIA's order of a sum is its own. The emulated one's is that of the hosts.
        let most = if is_emulated(&devices[0]) { 0.0 } else { 1e-4 };
        assert!(difference <= most, "{batch_norm}: {difference:.1e}");
        assert_eq!(cards[0].0.history.batches.len(), 8);
        // A bucket for each few gradients, instead of one for all.
        let small = train(
            &devices,
            &format!("batch_norm = '{batch_norm}', collectives = 'nccl', bucket_mib = 0"),
        );
        assert!(largest_difference(&cards[0].1, &small[0].1) <= most);
    }
}

#[test]
fn cards_round_gradients_if_asked_to() {
    let Some((devices, _alone)) = devices(2) else { return };
    let run = |collectives: &str, gradients: &str| {
        let more = format!("collectives = '{collectives}', gradients = '{gradients}'");
        train(&devices, &more).swap_remove(0).1
    };
    let cards = run("nccl", "bf16");
    assert!(largest_difference(&cards, &run("nccl", "f32")) > 0.0);
    // The emulated library rounds once after a sum in f32, as the hosts do. NVIDIA's may round in between.
    if is_emulated(&devices[0]) {
        assert_eq!(largest_difference(&cards, &run("host", "bf16")), 0.0);
    }
}

#[test]
fn shards_of_the_optimizers_state_on_cards_give_the_same_bits() {
    let Some((devices, _alone)) = devices(2) else { return };
    let run = |state: &str| {
        train(&devices, &format!("collectives = 'nccl', optimizer_state = '{state}'"))
    };
    assert!(same_bits(&run("sharded")[0].1, &run("replicated")[0].1));
}

/// The ends of a run of so many images in batches of 8, what each rank says of steps that are not captured, and how many were.
fn captured(devices: &[Device], images: usize, text: &str) -> (Ends, Vec<Vec<String>>) {
    let config = recipe(&format!("epochs = 3\n{text}"));
    let found = on_devices(devices, (8, images), |rank| {
        let mut said = Vec::new();
        let done = rank.train(&config, None, None, |event| note(event, &mut said));
        (done.expect("a run"), said)
    });
    found.into_iter().unzip()
}

fn note(event: &Event<'_>, said: &mut Vec<String>) -> Control {
    if let Event::NotCaptured { reason } = event {
        said.push((*reason).to_owned());
    }
    Control::Continue
}

/// Trains with and without graphs and checks that the ends are the same, bit for bit. `steps` steps are captured.
#[track_caller]
fn check_captured(devices: &[Device], images: usize, text: &str, steps: usize) {
    let [(found, said), (plain, _)] = [true, false].map(|graphs| {
        set_cuda_graphs(graphs);
        let ends = captured(devices, images, text);
        set_cuda_graphs(true);
        ends
    });
    assert!(said.iter().all(Vec::is_empty), "{text}: {said:?}");
    for ((found, weights), (plain, expected)) in found.iter().zip(&plain) {
        assert_eq!((found.captured_steps, plain.captured_steps), (steps, 0), "{text}");
        assert_eq!(found.history.batches, plain.history.batches, "{text}");
        assert!(same_bits(weights, expected), "{text}");
    }
}

// Each epoch has three whole batches and a smaller one, of 5 images for both ranks, or of 4 for the first and 3 for the other.
// The first three are plain.

#[test]
fn captured_steps_of_ranks_end_with_the_bits_of_plain_ones() {
    let Some((devices, _alone)) = devices(2) else { return };
    let text = |more: &str| {
        format!(
            "optimizer = {{ name = 'adamw', lr = 0.002 }}\ngrad_clip_norm = 0.5\n\
             schedule = {{ name = 'cosine_annealing_lr' }}\n{more}"
        )
    };
    const WEIGHTS: &str = "loss = { name = 'cross_entropy', class_weights = [1.0, 3.0] }";
    check_captured(&devices, 29, &text("distributed = { bucket_mib = 0 }"), 6);
    check_captured(&devices, 31, &text(WEIGHTS), 6);
    let halves = "precision = 'f16'\ndistributed = { gradients = 'bf16' }\nloss_scale = 268435456";
    check_captured(&devices, 31, &text(halves), 6);
    // Of two steps an epoch the second has the smaller batch.
    check_captured(&devices, 31, &text(&format!("accumulate = 2\n{WEIGHTS}")), 2);
}

#[test]
fn ranks_agree_on_steps_that_cannot_be_captured() {
    let Some((devices, _alone)) = devices(2) else { return };
    for (more, expected) in [
        (
            "collectives = 'host'",
            "gradients go between the processes through the memory of the hosts",
        ),
        ("optimizer_state = 'sharded'", "rank 0: each process has a part of the optimizer's state"),
        (
            "batch_norm = 'synchronised'",
            "rank 0: layer `bn1`: batch_norm: the host puts the statistics of all ranks together, which cannot be captured",
        ),
    ] {
        let text = format!("optimizer = {{ name = 'sgd', lr = 0.01 }}\ndistributed = {{ {more} }}");
        let (ends, said) = captured(&devices, 24, &text);
        assert!(ends.iter().all(|(done, _)| done.captured_steps == 0), "{more}");
        assert!(said.iter().all(|said| said == &[expected]), "{said:?}");
    }
    // One of them has a reason of its own. It finds it in a step's first batch, where they do not meet, or in its only one.
    for accumulate in [1, 2] {
        let text = format!(
            "epochs = 3\naccumulate = {accumulate}\noptimizer = {{ name = 'sgd', lr = 0.01 }}"
        );
        let config = recipe(&text);
        let found = on_devices(&devices, (8, 24), |rank| {
            let (mut said, is_other) = (Vec::new(), rank.communicator.rank() == 1);
            let watch = |event: &Event<'_>| note(event, &mut said);
            let done = rank.train_changed(&config, None, None, watch, |trainer| {
                if is_other { trainer.train_step(of_its_own) } else { trainer }
            });
            (done.expect("a run").0.captured_steps, said)
        });
        for (steps, said) in found {
            assert_eq!(said, ["rank 1: the training step is the program's own"]);
            assert_eq!(steps, 0);
        }
    }
}

fn of_its_own(
    model: &dyn Model,
    batch: &Batch,
    pass: &mut Pass<'_>,
) -> candle_vision_train::Result<StepOutput> {
    let logits = model.forward(&batch.images, pass)?;
    let loss = CrossEntropy::new().loss(&logits, &batch.labels)?;
    Ok(StepOutput { loss, logits: Some(logits) })
}

#[test]
fn a_rank_without_a_card_is_named() {
    let Some((mut devices, _alone)) = devices(2) else { return };
    devices[1] = Device::Cpu;
    let config = |collectives: &str| {
        recipe(&format!(
            "epochs = 1\noptimizer = {{ name = 'sgd', lr = 0.01 }}\n\
             distributed = {{ collectives = '{collectives}' }}"
        ))
    };
    let (auto, nccl) = (config("auto"), config("nccl"));
    let said = on_devices(&devices, (8, 16), |rank| {
        let mut said = Vec::new();
        let done = rank.train(&auto, None, None, |event| {
            if let Event::GradientsThroughHost { reason } = event {
                said.push((*reason).to_owned());
            }
            Control::Continue
        });
        done.map(|_| said).expect("a run")
    });
    for said in said {
        assert_eq!(said, ["rank 1: its device is no card"]);
    }
    let errors = on_devices(&devices, (8, 16), |rank| {
        rank.train(&nccl, None, None, quiet).expect_err("no NCCL").to_string()
    });
    for error in errors {
        assert_eq!(
            error,
            "`distributed.collectives` is nccl; it must be \"auto\" or \"host\", because there is no NCCL between the ranks: \
             rank 1: its device is no card"
        );
    }
}
