//! Whole jobs, timed: a training step, an inference, an explanation, the reading of pictures.
//!
//! `jobs NAME` runs one and prints one line of JSON; without a name the jobs are listed. Peak
//! memory is the process's, so each job that is to be compared needs a process of its own.
//! `cargo xtask bench` starts them that way, in alternation with the same jobs in PyTorch
//! (`xtask/bench/torch_jobs.py`): the names there, and what each job does, must stay the same.

#![allow(clippy::print_stdout, reason = "the results are this program's output")]

mod measure;
mod process;
mod work;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};

use measure::{Clock, Measured};
use work::{Learns, Network, Outcome};

// As the binary: without an allocator that keeps memory, page faults are a part of every step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A job's name and what it runs.
type Job = (&'static str, fn(&Clock) -> Result<Outcome>);

const JOBS: [Job; 11] = [
    ("resnet18_train_b16_224", resnet18_train_b16_224),
    ("resnet18_train_b64_32", resnet18_train_b64_32),
    ("resnet18_frozen_b16_224", resnet18_frozen_b16_224),
    ("simple_cnn_train_b64_32", simple_cnn_train_b64_32),
    ("mlp_train_b64_28", mlp_train_b64_28),
    ("mobilenet_v2_train_b16_224", mobilenet_v2_train_b16_224),
    ("resnet50_train_b16_224", resnet50_train_b16_224),
    ("resnet18_infer_b16_224", resnet18_infer_b16_224),
    ("resnet18_infer_b1_224", resnet18_infer_b1_224),
    ("resnet18_gradcam_b1_224", resnet18_gradcam_b1_224),
    ("jpeg_load_224", work::load_pictures),
];

fn resnet18_train_b16_224(clock: &Clock) -> Result<Outcome> {
    work::train(clock, &Network::new("resnet18", 1000, [16, 3, 224, 224]), Learns::All)
}

fn resnet18_train_b64_32(clock: &Clock) -> Result<Outcome> {
    work::train(clock, &Network::new("resnet18", 10, [64, 3, 32, 32]), Learns::All)
}

fn resnet18_frozen_b16_224(clock: &Clock) -> Result<Outcome> {
    work::train(clock, &Network::new("resnet18", 2, [16, 3, 224, 224]), Learns::Head)
}

fn simple_cnn_train_b64_32(clock: &Clock) -> Result<Outcome> {
    work::train(clock, &Network::new("simple_cnn", 10, [64, 3, 32, 32]), Learns::All)
}

fn mlp_train_b64_28(clock: &Clock) -> Result<Outcome> {
    work::train(clock, &Network::new("mlp", 10, [64, 1, 28, 28]), Learns::All)
}

fn mobilenet_v2_train_b16_224(clock: &Clock) -> Result<Outcome> {
    work::train(clock, &Network::new("mobilenet_v2", 1000, [16, 3, 224, 224]), Learns::All)
}

fn resnet50_train_b16_224(clock: &Clock) -> Result<Outcome> {
    work::train(clock, &Network::new("resnet50", 1000, [16, 3, 224, 224]), Learns::All)
}

fn resnet18_infer_b16_224(clock: &Clock) -> Result<Outcome> {
    work::infer(clock, &Network::new("resnet18", 1000, [16, 3, 224, 224]))
}

fn resnet18_infer_b1_224(clock: &Clock) -> Result<Outcome> {
    work::infer(clock, &Network::new("resnet18", 1000, [1, 3, 224, 224]))
}

fn resnet18_gradcam_b1_224(clock: &Clock) -> Result<Outcome> {
    work::explain(clock, &Network::new("resnet18", 1000, [1, 3, 224, 224]))
}

#[derive(Parser)]
#[command(name = "jobs", about = "Times whole jobs; one line of JSON each")]
struct Arguments {
    /// The jobs to run, one after the other; without any, they are listed
    names: Vec<String>,
    /// Measure each job for at least so many seconds (and at least three steps)
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// What `cargo bench` adds: run all jobs if none is named
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let Arguments { mut names, seconds, bench } = Arguments::parse();
    if names.is_empty() && !bench {
        JOBS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    if names.is_empty() {
        names = JOBS.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    let clock = Clock { seconds };
    for name in names {
        let (_, run) = JOBS.iter().find(|(known, _)| *known == name).with_context(|| {
            format!("no job is called `{name}`; without a name, all are listed")
        })?;
        let outcome = run(&clock).with_context(|| format!("job `{name}`"))?;
        println!("{}", line(&name, &outcome));
    }
    Ok(())
}

fn line(job: &str, outcome: &Outcome) -> Value {
    let threads = candle_core::utils::get_num_threads();
    match outcome {
        Outcome::Skipped(reason) => json!({ "job": job, "threads": threads, "skipped": reason }),
        Outcome::Measured { times, pictures } => {
            let Measured { median_ms, min_ms, steps, minor_faults_per_step } = *times;
            json!({
                "job": job,
                "threads": threads,
                "median_ms": median_ms,
                "min_ms": min_ms,
                "steps": steps,
                "pictures_per_s": *pictures as f64 * 1e3 / median_ms,
                "peak_mib": process::peak_mib(),
                "minor_faults_per_step": minor_faults_per_step,
            })
        }
    }
}
