//! Ranks that `mpirun` starts: this program starts itself with 2 and 4 of them.
#![cfg(feature = "mpi")]

use std::io::Write;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use candle_vision_distributed::{
    Buckets, Communicator, Compression, Launch, Launcher, Mpi, MpiOptions, Result,
};

/// Runs the test `name` of this program on ranks. `None`, with a line that says so, where there is no MPI.
fn on_ranks(ranks: usize, name: &str) -> Option<(Output, Duration)> {
    let program = std::env::current_exe().expect("a test is a program");
    let started = Instant::now();
    let output = Command::new("mpirun")
        .args(["-n", &ranks.to_string(), "--oversubscribe"])
        .args(["--mca", "mpi_yield_when_idle", "1"])
        .arg(program)
        .args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("RUST_BACKTRACE", "0")
        .output();
    match output {
        Ok(output) => Some((output, started.elapsed())),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: there is no mpirun ({error})");
            None
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_call_works_on_two_and_four_ranks() {
    for ranks in [2, 4] {
        let Some((output, _)) = on_ranks(ranks, "rank_makes_every_call") else { return };
        assert!(output.status.success(), "{}", text(&output));
        let text = text(&output);
        assert_eq!(text.matches("every call is right").count(), ranks, "{text}");
    }
}

#[test]
#[ignore = "a rank of the test above"]
fn rank_makes_every_call() -> Result<()> {
    let launch = Launch::from_env()?;
    assert_eq!(launch.launcher, Launcher::OpenMpi);
    let ranks = Mpi::start(MpiOptions::default())?;
    let (own, size) = (ranks.rank(), ranks.size());
    assert_eq!((launch.rank, launch.size), (own, size));
    for round in 0..20 {
        let mut values = vec![own as f32 + 0.5; 1000 + round];
        ranks.all_reduce(&mut values)?;
        let sum = (size * (size - 1)) as f32 / 2.0 + 0.5 * size as f32;
        assert_eq!(values, vec![sum; 1000 + round]);
        let expected: Vec<Vec<u8>> = (0..size).map(|rank| vec![rank as u8; rank]).collect();
        assert_eq!(ranks.all_gather(&vec![own as u8; own])?, expected);
        let pieces: Vec<Vec<u8>> = (0..size).map(|to| vec![own as u8; to + 1]).collect();
        let expected: Vec<Vec<u8>> = (0..size).map(|from| vec![from as u8; own + 1]).collect();
        assert_eq!(ranks.all_to_all(&pieces)?, expected);
        let mut bytes = vec![own as u8; own + 1];
        ranks.broadcast(&mut bytes, size - 1)?;
        assert_eq!(bytes, vec![size as u8 - 1; size]);
        ranks.barrier()?;
    }
    for compression in [Compression::None, Compression::Bf16] {
        let mut buckets = Buckets::new(ranks.clone(), compression, 8)?;
        buckets.push(&[1.0, 2.0, 3.0])?;
        // A call of the main thread between those of the buckets.
        ranks.barrier()?;
        buckets.push(&[4.0; 10])?;
        let sums = buckets.finish()?;
        let by = size as f32;
        assert_eq!(sums, [vec![by, 2.0 * by, 3.0 * by], vec![4.0 * by; 10]]);
    }
    assert_eq!(ranks.traffic().calls, 102);
    writeln!(std::io::stdout(), "every call is right").expect("somebody listens");
    Ok(())
}

#[test]
fn a_rank_that_hangs_panics_or_ends_ends_the_job() {
    let Some((output, time)) = on_ranks(3, "rank_1_hangs") else { return };
    let said = text(&output);
    assert!(!output.status.success() && time < Duration::from_secs(30), "{time:?} {said}");
    assert!(said.contains("error: rank 1 ("), "{said}");
    assert!(said.contains("did not come to all_reduce within"), "{said}");
    assert_eq!(output.status.code(), Some(77), "{said}");

    let (output, time) = on_ranks(3, "rank_2_panics").expect("mpirun was there");
    let said = text(&output);
    assert!(!output.status.success() && time < Duration::from_secs(30), "{time:?} {said}");
    assert!(said.contains("nothing works today") && said.contains("error: rank 2 ("), "{said}");

    let (output, time) = on_ranks(2, "rank_1_is_killed").expect("mpirun was there");
    assert!(!output.status.success() && time < Duration::from_secs(30), "{}", text(&output));
}

#[test]
#[ignore = "a rank of the test above"]
fn rank_1_hangs() -> Result<()> {
    let options = MpiOptions::default().timeout(Duration::from_secs(3)).exit_code(77);
    let ranks = Mpi::start(options)?;
    if ranks.rank() == 1 {
        std::thread::sleep(Duration::from_secs(300));
    }
    ranks.all_reduce(&mut [0.0])
}

#[test]
#[ignore = "a rank of the test above"]
fn rank_2_panics() -> Result<()> {
    let ranks = Mpi::start(MpiOptions::default())?;
    assert!(ranks.rank() != 2, "nothing works today");
    ranks.all_reduce(&mut [0.0])
}

#[test]
#[ignore = "a rank of the test above"]
fn rank_1_is_killed() -> Result<()> {
    let ranks = Mpi::start(MpiOptions::default())?;
    if ranks.rank() == 1 {
        let own = std::process::id().to_string();
        drop(Command::new("kill").args(["-9", &own]).status());
    }
    ranks.all_reduce(&mut [0.0])
}
