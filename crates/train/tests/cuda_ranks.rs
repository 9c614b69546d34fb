//! Ranks whose gradients go from card to card by NCCL. Skipped where there is no device, no NCCL, or no card for each rank;
//! on the emulated device, ranks that are threads share its one card.

#![cfg(feature = "cuda")]

mod common;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};
use candle_vision_ops::{CardRanks, cuda_device, set_tf32};
use candle_vision_train::{Control, Event, TrainingResult};
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
