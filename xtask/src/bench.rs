//! `cargo xtask bench [GROUP]`: how fast this project is, beside PyTorch on the same machine.
//!
//! The work itself lies elsewhere: `crates/cli/benches/jobs` and `xtask/bench/torch_jobs.py` run
//! one job in one process and print one line of JSON; `crates/ops/benches` holds the benches of
//! single operations. Here they are started in turns, and their figures put side by side.

mod contestant;
mod environment;
mod jobs;
mod measurement;
mod report;
mod rounds;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cargo::{Executable, cargo};
use crate::cuda::{self, DeviceArguments};
use crate::misuse::Misuse;
use contestant::{Contestant, Limits, Program};
use environment::Environment;
use jobs::JOBS;
use report::{JobReport, Report};

/// What the bench is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Single operations, beside their plain twins and candle's own (criterion; no PyTorch)
    Ops,
    /// Training steps of whole networks
    Train,
    /// Inference
    Infer,
    /// Grad-CAM
    Explain,
    /// From JPEG files to batches; needs CANDLE_VISION_DATA
    Data,
}

/// This project's side of the jobs.
const JOBS_BENCH: Executable =
    Executable { package: "candle-vision-cli", name: "jobs", selection: &["--bench", "jobs"] };

/// What the figures mean; shown by `--help`.
const MEANING: &str = "\
Each job runs K times in processes of its own, this project and every mode of PyTorch taking turns, \
all with the same number of threads. Of a run the median step counts, of the runs their median.

The table on stdout shows milliseconds a step (of `data`: a picture), then PyTorch's best mode over \
ours: above 1, this project is faster. `pairs` is the range of that ratio over the single runs; where \
it is wide, the machine was busy with something else. MiB is the peak memory of the process. Times of \
different machines, or of different calls, do not compare; ratios do.

The exit code is 1 if a job failed on either side; the others are measured and shown all the same.";

#[derive(Debug, clap::Args)]
#[command(after_long_help = MEANING)]
pub(crate) struct Arguments {
    /// What to measure; without it, everything but `ops`
    #[arg(value_enum)]
    group: Option<Group>,
    /// A Python with torch and torchvision (and pytorch-grad-cam, for `explain`) to compare with
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArguments,
    /// Also try torch.compile with freezing on inference; it takes a minute a run to start
    #[arg(long, requires = "python")]
    compile: bool,
    /// Threads of every process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Processes that each job gets on each side
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Seconds that a run measures at least; it takes three steps in any case
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Write everything to this file as JSON: each run, the machine, the versions
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds, at most 3600".to_owned()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match arguments.group {
        Some(Group::Ops) => run_ops(arguments),
        group => run_jobs(arguments, group),
    }
}

/// Criterion prints its own results, and compares them with those of the last call.
fn run_ops(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.python.is_some() || arguments.json.is_some() {
        let message = "`bench ops` takes no --python and no --json: it compares operations with their plain twins, and criterion keeps the figures in target/criterion";
        return Err(Misuse(message.to_owned()).into());
    }
    let status = cargo()
        .args(["bench", "--package", "candle-vision-ops", "--bench", "ops"])
        .env(contestant::OUR_THREADS, arguments.threads.to_string())
        .status()
        .context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_jobs(arguments: &Arguments, group: Option<Group>) -> Result<ExitCode> {
    check_folder_of(arguments.json.as_deref())?;
    // What can be wrong with Python is found out before the build, which takes minutes.
    let environment = Environment::of_this_machine(arguments.python.as_deref())?;
    let program =
        cuda::build(&JOBS_BENCH, &arguments.device.device(), arguments.python.as_deref())?;
    let limits = Limits { threads: arguments.threads, seconds: arguments.seconds };
    let jobs: Vec<_> =
        JOBS.iter().filter(|job| group.is_none_or(|group| job.group == group)).collect();
    let mut reports = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        eprintln!("bench: {} ({} of {}): {}", job.name, index + 1, jobs.len(), job.what);
        let contestants = contestants(arguments, &program, job);
        let mut start = |contestant: &Contestant| contestant.run(job.name, limits);
        let entries = rounds::take_turns(contestants, usize::from(arguments.runs), &mut start);
        reports.push(JobReport::new(job, entries));
    }
    let report = Report { environment, limits, runs: arguments.runs, jobs: reports };
    print!("{}", report.text());
    if let Some(path) = &arguments.json {
        let text = report.to_json()?;
        fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(if report.any_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A file that cannot be written should not be found out after everything is measured.
fn check_folder_of(file: Option<&Path>) -> Result<()> {
    let folder = file.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            Err(Misuse(format!("--json: there is no folder `{}`", folder.display())).into())
        }
        _ => Ok(()),
    }
}

/// This project first, then each mode of PyTorch.
fn contestants(arguments: &Arguments, jobs: &cuda::Program, job: &jobs::Job) -> Vec<Contestant> {
    let ours = Contestant { mode: None, program: Program::Jobs(jobs.clone()) };
    let torch = arguments.python.iter().flat_map(|python| {
        job.modes(arguments.compile).map(|mode| Contestant {
            mode: Some(mode),
            program: Program::Torch { python: python.clone() },
        })
    });
    std::iter::once(ours).chain(torch).collect()
}
