//! A limit for the memory of a card, and several cards.
//!
//! A limit lasts until the end of the process, so these tests run in processes of their own.

use std::process::Command;

use candle_core::{DType, Device, Result, Tensor};
use candle_vision_ops::{
    Captured, add, card_memory, cuda_device, cuda_device_count, limit_card_memory, scale,
};

/// Set in the processes of the tests.
const ALONE: &str = "CANDLE_VISION_TEST_ALONE";
const MIB: u64 = 1 << 20;

/// Calls `test` with a device in a process of its own, which sees `cards` cards if the device is emulated.
#[track_caller]
#[allow(clippy::print_stderr, reason = "a test that is left out must say so")]
fn alone(name: &str, cards: usize, test: impl FnOnce(&Device) -> Result<()>) -> Result<()> {
    if std::env::var_os(ALONE).is_some() {
        return test(&cuda_device(0)?);
    }
    if let Err(error) = cuda_device_count() {
        eprintln!("skipped: no CUDA device: {error}");
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .args(["--exact", &format!("memory::{name}"), "--nocapture"])
        .env(ALONE, "1")
        .env("EMULATED_CUDA_CARDS", cards.to_string())
        .output()?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}", said.concat());
    assert!(said[0].contains("1 passed"), "{}", said.concat());
    Ok(())
}

fn zeros(mib: u64, device: &Device) -> Result<Tensor> {
    Tensor::zeros((mib * MIB) as usize / 4, DType::F32, device)
}

#[test]
fn tensors_beyond_a_limit_fail_as_on_a_full_card() -> Result<()> {
    alone("tensors_beyond_a_limit_fail_as_on_a_full_card", 1, |device| {
        limit_card_memory(device, 64 * MIB + 1)?;
        assert_eq!(card_memory(device).and_then(|memory| memory.limit), Some(64 * MIB));
        let first = zeros(40, device)?;
        let error = zeros(32, device).expect_err("only 24 MiB are left").to_string();
        assert!(error.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{error}");
        drop(first);
        let second = zeros(50, device)?;
        let memory = card_memory(device).expect("it is a card");
        let expected = 50 * MIB..=64 * MIB;
        assert!(expected.contains(&memory.taken()), "{memory:?}");
        assert!(memory.available() <= 64 * MIB && memory.total > 64 * MIB, "{memory:?}");
        assert_eq!(second.sum_all()?.to_scalar::<f32>()?, 0.0);
        Ok(())
    })
}

#[test]
fn a_graph_that_does_not_fit_beside_the_tensors_is_refused() -> Result<()> {
    alone("a_graph_that_does_not_fit_beside_the_tensors_is_refused", 1, |device| {
        limit_card_memory(device, 64 * MIB)?;
        let capture = |mib: u64| {
            let x = zeros(mib, device)?;
            let work = || add(&scale(&x, 2.0)?, &x);
            // Loads the kernels.
            work()?;
            Captured::new(device, work).map(drop)
        };
        capture(2)?;
        let error = capture(14).expect_err("3 for the plain work, 2 for the graph").to_string();
        assert!(error.contains("into the limit of 67108864 bytes"), "{error}");
        // Nothing of it is left, and tensors get all of the limit.
        assert_eq!(card_memory(device).map(|memory| memory.in_graphs), Some(0));
        assert_eq!(zeros(40, device)?.sum_all()?.to_scalar::<f32>()?, 0.0);
        Ok(())
    })
}

#[test]
fn a_graph_takes_the_place_of_the_plain_work() -> Result<()> {
    alone("a_graph_takes_the_place_of_the_plain_work", 1, |device| {
        let x = zeros(2, device)?;
        // Two tensors of 2 MiB for a moment, beside the last one's result.
        let work = || add(&scale(&scale(&x, 2.0)?, 3.0)?, &x);
        let plain = work()?.sum_all()?.to_scalar::<f32>()?;
        zeros(64, device)?;
        let taken = || card_memory(device).map(|memory| (memory.in_pool, memory.in_graphs));
        let (before, _) = taken().expect("it is a card");
        assert!(before >= 64 * MIB, "{before}");
        let (result, captured) = Captured::new(device, work)?;
        let (in_pool, in_graphs) = taken().expect("it is a card");
        assert!(in_pool < before - 56 * MIB && in_graphs >= 4 * MIB, "{in_pool} {in_graphs}");
        assert_eq!(result.sum_all()?.to_scalar::<f32>()?, plain);
        drop((result, captured));
        Ok(())
    })
}

#[test]
fn limits_that_cannot_be_are_named() -> Result<()> {
    let error = limit_card_memory(&Device::Cpu, MIB).expect_err("a CPU").to_string();
    assert!(error.contains("expected a CUDA device"), "{error}");
    alone("limits_that_cannot_be_are_named", 1, |device| {
        let error = limit_card_memory(device, MIB).expect_err("too little").to_string();
        assert!(error.contains("at least 2097152 bytes"), "{error}");
        limit_card_memory(device, 8 * MIB)?;
        limit_card_memory(device, 8 * MIB)?;
        let error = limit_card_memory(device, 16 * MIB).expect_err("another").to_string();
        assert!(error.contains("a limit already: 8388608 bytes"), "{error}");
        Ok(())
    })
}

/// On a real machine with one card, only that there is no further one.
#[test]
fn each_card_computes() -> Result<()> {
    alone("each_card_computes", 3, |_| {
        let cards = cuda_device_count()?;
        for ordinal in 0..cards {
            let device = cuda_device(ordinal)?;
            let x = Tensor::new(&[1f32, 2.0, 3.0], &device)?;
            assert_eq!(
                scale(&x, ordinal as f64 + 1.0)?.to_vec1::<f32>()?[2],
                3.0 * (ordinal + 1) as f32
            );
            assert_eq!(format!("{:?}", device.location()), format!("Cuda {{ gpu_id: {ordinal} }}"));
        }
        assert!(cuda_device(cards).is_err());
        Ok(())
    })
}
