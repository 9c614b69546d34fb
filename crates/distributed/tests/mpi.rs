//! Ranks that `mpirun` starts: a test starts this program again with 2, 3 and 4 of them, in which the same test is a rank.
#![cfg(feature = "mpi")]

use std::io::Write;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use candle_vision_distributed::{
    Buckets, Communicator, Compression, Launch, Launcher, Mpi, MpiOptions, Result,
};

/// Runs `rank` if this process is one. Otherwise starts so many ranks of the test `name`, and gives what they said to
/// `check`, with the time. Where there is no MPI, a line says so.
fn on_ranks(
    ranks: usize,
    name: &str,
    rank: fn() -> Result<()>,
    check: impl FnOnce(&Output, &str, Duration),
) -> Result<()> {
    if Launch::from_env()?.launcher != Launcher::Nobody {
        return rank();
    }
    let program = std::env::current_exe().expect("a test is a program");
    let started = Instant::now();
    let output = mpirun(ranks).and_then(|mut mpirun| {
        mpirun.arg(program).args([name, "--exact", "--nocapture", "--test-threads=1"]);
        mpirun.env("RUST_BACKTRACE", "0").output()
    });
    match output {
        Ok(output) => {
            let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
            check(&output, &said.concat(), started.elapsed());
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: there is no mpirun ({error})");
        }
    }
    Ok(())
}

/// `mpirun` before what it starts.
fn mpirun(ranks: usize) -> std::io::Result<Command> {
    let version = Command::new("mpirun").arg("--version").output()?;
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["-n", &ranks.to_string()]);
    // Others than Open MPI allow more ranks than cores and root, and do not take these options.
    if String::from_utf8_lossy(&version.stdout).contains("Open MPI") {
        mpirun.args(["--oversubscribe", "--mca", "mpi_yield_when_idle", "1"]);
        mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    Ok(mpirun)
}

/// The job has ended early, with a message.
fn check_end(output: &Output, said: &str, time: Duration, parts: &[&str]) {
    assert!(!output.status.success() && time < Duration::from_secs(30), "{time:?} {said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

fn check_calls(ranks: usize) -> impl FnOnce(&Output, &str, Duration) {
    move |output, said, _| {
        assert!(output.status.success(), "{said}");
        assert_eq!(said.matches("every call is right").count(), ranks, "{said}");
    }
}

#[test]
fn two_ranks_make_every_call() -> Result<()> {
    on_ranks(2, "two_ranks_make_every_call", make_every_call, check_calls(2))
}

#[test]
fn four_ranks_make_every_call() -> Result<()> {
    on_ranks(4, "four_ranks_make_every_call", make_every_call, check_calls(4))
}

fn make_every_call() -> Result<()> {
    let launch = Launch::from_env()?;
    let known = [Launcher::OpenMpi, Launcher::Pmi, Launcher::Pmix];
    assert!(known.contains(&launch.launcher), "{:?}", launch.launcher);
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
        // Rank 0 gives nothing, and the others get nothing.
        let mut pieces = vec![Vec::new(); size];
        pieces[0] = vec![own as u8; own];
        let given = ranks.all_to_all(&pieces)?;
        let by = |from: usize| if own == 0 { vec![from as u8; from] } else { Vec::new() };
        assert_eq!(given, (0..size).map(by).collect::<Vec<_>>());
        assert_eq!(ranks.all_gather(&[])?, vec![Vec::new(); size]);
        let mut bytes = vec![own as u8; own + 1];
        ranks.broadcast(&mut bytes, size - 1)?;
        assert_eq!(bytes, vec![size as u8 - 1; size]);
        ranks.barrier()?;
    }
    // More than goes in one call of MPI: 1 MiB for each rank.
    let mut many: Vec<f32> = (0..size * (1 << 18) + 3).map(|i| (i % 1000) as f32).collect();
    let expected: Vec<f32> = many.iter().map(|value| value * size as f32).collect();
    ranks.all_reduce(&mut many)?;
    assert!(many == expected, "a long sum differs");
    for compression in [Compression::None, Compression::Bf16] {
        let mut buckets = Buckets::new(ranks.clone(), compression, 8)?;
        buckets.push(&[1.0, 2.0, 3.0]);
        // A call of the main thread between those of the buckets.
        ranks.barrier()?;
        buckets.push_shared(vec![4.0; 10], 10);
        let sums = buckets.finish()?;
        let by = size as f32;
        assert_eq!(sums, [vec![by, 2.0 * by, 3.0 * by], vec![4.0 * by; 10]]);
    }
    assert_eq!(ranks.traffic().calls, 143);
    writeln!(std::io::stdout(), "every call is right").expect("somebody listens");
    Ok(())
}

#[test]
fn a_rank_that_hangs_ends_the_job_with_its_name() -> Result<()> {
    let rank = || {
        let options = MpiOptions::default().timeout(Duration::from_secs(3)).exit_code(77);
        let ranks = Mpi::start(options)?;
        if ranks.rank() == 1 {
            std::thread::sleep(Duration::from_secs(300));
        }
        ranks.all_reduce(&mut [0.0])
    };
    on_ranks(3, "a_rank_that_hangs_ends_the_job_with_its_name", rank, |output, said, time| {
        check_end(
            output,
            said,
            time,
            &["error: rank 1 (", "did not come to all_reduce within", "`MpiOptions::timeout` sets"],
        );
        assert_eq!(output.status.code(), Some(77), "{said}");
    })
}

#[test]
fn a_rank_that_works_alone_is_waited_for() -> Result<()> {
    let rank = || {
        let ranks = Mpi::start(MpiOptions::default().timeout(Duration::from_secs(1)))?;
        let alone = (ranks.rank() == 0).then(|| ranks.works_alone());
        if alone.is_some() {
            // More than the limit, and the time in which answers may come.
            std::thread::sleep(Duration::from_secs(6));
        }
        drop(alone);
        ranks.barrier()?;
        writeln!(std::io::stdout(), "it has come").expect("somebody listens");
        Ok(())
    };
    on_ranks(3, "a_rank_that_works_alone_is_waited_for", rank, |output, said, _| {
        assert!(output.status.success(), "{said}");
        assert_eq!(said.matches("it has come").count(), 3, "{said}");
    })
}

#[test]
fn a_rank_that_panics_ends_the_job() -> Result<()> {
    let rank = || {
        let ranks = Mpi::start(MpiOptions::default())?;
        assert!(ranks.rank() != 2, "nothing works today");
        ranks.all_reduce(&mut [0.0])
    };
    on_ranks(3, "a_rank_that_panics_ends_the_job", rank, |output, said, time| {
        check_end(output, said, time, &["nothing works today", "error: rank 2 ("]);
    })
}

#[test]
fn a_rank_that_is_killed_ends_the_job() -> Result<()> {
    let rank = || {
        let ranks = Mpi::start(MpiOptions::default())?;
        if ranks.rank() == 1 {
            let own = std::process::id().to_string();
            drop(Command::new("kill").args(["-9", &own]).status());
        }
        ranks.all_reduce(&mut [0.0])
    };
    let check = |output: &Output, said: &str, time| check_end(output, said, time, &[]);
    on_ranks(2, "a_rank_that_is_killed_ends_the_job", rank, check)
}
