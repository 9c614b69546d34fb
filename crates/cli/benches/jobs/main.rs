//! Whole jobs, timed: a training step, an inference, an explanation, the reading of images.
//!
//! `jobs NAME` runs one and prints one line of JSON; without a name the jobs are listed. Peak
//! memory is the process's, so each job that is to be compared needs a process of its own.
//! `cargo xtask bench` starts them that way, in alternation with the same jobs in PyTorch
//! (`xtask/bench/torch_jobs.py`): the names there, and what each job does, must stay the same.

#![allow(clippy::print_stdout, reason = "the results are this program's output")]

mod cards;
mod measure;
mod noise;
/// The binary's own: the jobs run as it does.
#[path = "../../src/own_environment.rs"]
mod own_environment;
mod process;
mod ranks;
mod training;
mod tutorial;
mod work;

use std::io::{self, Write};

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::ops::{cuda_device, load_kernels};
use clap::Parser;
use serde_json::{Value, json};

use measure::{Clock, Measured};
use work::{Images, Learns, Network, Outcome};

// As the binary: without an allocator that keeps memory, page faults are a part of every step.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// The other cannot be built for it.
#[cfg(target_env = "msvc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A job's name and what it runs.
type Job = (&'static str, fn(&Clock) -> Result<Outcome>);

const JOBS: [Job; 7] = [
    ("resnet18_frozen_b16_224", |clock| {
        training::train(clock, &Network::new("resnet18", 2, [16, 3, 224, 224]), Learns::Head)
    }),
    ("simple_cnn_train_b64_32", |clock| all(clock, "simple_cnn", [64, 3, 32, 32])),
    ("mlp_train_b64_28", |clock| all(clock, "mlp", [64, 1, 28, 28])),
    ("resnet18_gradcam_b1_224", |clock| {
        work::explain_plainly(clock, &Network::new("resnet18", 1000, [1, 3, 224, 224]))
    }),
    ("jpeg_load_224", |clock| work::load_images(clock, Images::Files)),
    ("jpeg_decoded_load_224", |clock| work::load_images(clock, Images::DecodedFile)),
    ("jpeg_cached_load_224", |clock| work::load_images(clock, Images::Memory)),
];

/// Training of a whole network on ten classes.
fn all(clock: &Clock, architecture: &str, batch: [usize; 4]) -> Result<Outcome> {
    training::train(clock, &Network::new(architecture, 10, batch), Learns::All)
}

/// What a job's name ends with if a card repeats its captured step.
const GRAPH: &str = "_graph";

/// Runs the job called `name`. Beside the jobs of the tables there is one for every network, size of a batch and
/// size of its images: `NETWORK_train_bBATCH_SIDE`, `NETWORK_infer_bBATCH_SIDE` and `NETWORK_gradcam_bBATCH_SIDE`, with 10
/// classes for images up to 32x32 and 1000 for larger ones. A training step or a Grad-CAM that ends with `_graph` is
/// captured by a card and repeated.
fn run(name: &str, clock: &Clock) -> Result<Outcome> {
    if let Some((_, run)) = JOBS.iter().chain(&cards::JOBS).find(|(known, _)| *known == name) {
        return run(clock);
    }
    let unknown = || {
        format!(
            "no job is called `{name}`; without a name, all are listed, beside NETWORK_train_b16_224 and NETWORK_infer_b16_224"
        )
    };
    let (name, is_captured) = match name.strip_suffix(GRAPH) {
        Some(name) => (name, true),
        None => (name, false),
    };
    let mut parts = name.rsplitn(4, '_');
    let side: Option<usize> = parts.next().and_then(|side| side.parse().ok());
    let batch = parts.next().and_then(|batch| batch.strip_prefix('b')?.parse().ok());
    let (kind, architecture) = (parts.next(), parts.next());
    let (side, batch) = (side.with_context(unknown)?, batch.with_context(unknown)?);
    let classes = if side <= 32 { 10 } else { 1000 };
    let network =
        Network::new(architecture.with_context(unknown)?, classes, [batch, 3, side, side]);
    match kind {
        Some("train") if is_captured => training::train_captured(clock, &network),
        Some("train") => training::train(clock, &network, Learns::All),
        Some("infer") => work::infer(clock, &network),
        Some("gradcam") if is_captured => work::explain(clock, &network),
        Some("gradcam") => work::explain_plainly(clock, &network),
        _ => anyhow::bail!(unknown()),
    }
}

#[derive(Parser)]
#[command(name = "jobs", about = "Times whole jobs; one line of JSON each")]
struct Arguments {
    /// The jobs to run, one after the other; without any, they are listed
    names: Vec<String>,
    /// Measure each job for at least so many seconds (and at least three steps)
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Make the jobs for cards so small that a CPU manages them
    #[arg(long)]
    tiny: bool,
    /// Let a card take plain training steps and passes where it would repeat captured ones
    #[arg(long)]
    plain: bool,
    /// Take the training steps together with the other processes that mpirun started; rank 0 says what they took
    #[arg(long)]
    distributed: bool,
    /// What `cargo bench` adds: run all jobs for the CPU if none is named
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    own_environment::settle();
    candle_vision::ops::join_pool();
    let Arguments { mut names, seconds, device, tiny, plain, distributed, bench } =
        Arguments::parse();
    if names.is_empty() && !bench {
        JOBS.iter().chain(&cards::JOBS).for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    if names.is_empty() {
        names = JOBS.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    let ranks = distributed.then(ranks::join).transpose()?;
    let clock = Clock { seconds, device, tiny, plain, ranks };
    let done = run_all(&names, &clock);
    if let (Err(error), Some(ranks)) = (&done, &clock.ranks) {
        // The other processes would wait for this one for ever.
        drop(writeln!(io::stderr(), "error: rank {}: {error:#}", ranks.rank()));
        ranks.abort(1);
    }
    done
}

fn run_all(names: &[String], clock: &Clock) -> Result<()> {
    for name in names {
        let outcome = run(name, clock).with_context(|| format!("job `{name}`"))?;
        if clock.ranks.is_some() && matches!(outcome, Outcome::Measured { .. }) {
            anyhow::bail!("job `{name}` is no training that several processes share");
        }
        if clock.ranks.as_ref().is_none_or(|ranks| ranks.rank() == 0) {
            println!("{}", line(name, &outcome));
        }
    }
    Ok(())
}

fn device(name: &str) -> Result<Device, String> {
    let ordinal = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok()),
    };
    let ordinal = ordinal.ok_or("use cpu, cuda or cuda:N")?;
    // As the command does it: what a driver has to compile is compiled before the first step.
    let opened = cuda_device(ordinal).and_then(|device| {
        load_kernels(&device, |_| ())?;
        Ok(device)
    });
    opened.map_err(|error| error.to_string())
}

fn line(job: &str, outcome: &Outcome) -> Value {
    let threads = candle_core::utils::get_num_threads();
    match outcome {
        Outcome::Skipped(reason) => json!({ "job": job, "threads": threads, "skipped": reason }),
        Outcome::Measured { times, images } => measured(job, threads, times, *images),
        Outcome::Together { times, images, shared } => {
            let mut line = measured(job, threads, times, *images);
            line["shared"] = json!({
                "waiting": shared.waiting,
                "bytes_per_step": shared.bytes_per_step,
                "all_reduce_one_us": shared.all_reduce_one_us,
                "all_reduce_bucket_ms": shared.all_reduce_bucket_ms,
                "bucket_bytes": shared.bucket_bytes,
            });
            line
        }
    }
}

fn measured(job: &str, threads: usize, times: &Measured, images: usize) -> Value {
    let Measured { median_ms, min_ms, steps, minor_faults_per_step } = *times;
    json!({
        "job": job,
        "threads": threads,
        "median_ms": median_ms,
        "min_ms": min_ms,
        "steps": steps,
        "images_per_s": images as f64 * 1e3 / median_ms,
        "peak_mib": process::peak_mib(),
        "minor_faults_per_step": minor_faults_per_step,
    })
}
