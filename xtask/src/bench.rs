//! `cargo xtask bench [GROUP]`: measures how fast this project is beside PyTorch on the same machine.
//!
//! The work itself lies elsewhere. `crates/cli/benches/jobs` and `xtask/bench/torch_jobs.py` run one job in
//! one process and print one line of JSON. `crates/ops/benches` holds the benches of single operations.
//! This task starts them in turns and puts their figures side by side.

mod contestant;
mod environment;
mod host;
mod jobs;
mod measurement;
mod pack;
mod programs;
mod report;
mod rounds;
mod scale;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cargo::{Executable, cargo};
use crate::cuda::{self, Device, DeviceArguments};
use crate::misuse::Misuse;
use contestant::{Contestant, Limits, Program};
use environment::Environment;
use programs::Origin;
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
    /// Training steps and inference of a network of each family (half an hour)
    Families,
    /// Grad-CAM
    Explain,
    /// The host's part of a card's steps, on an emulated card that computes nothing (no PyTorch)
    Host,
    /// From the start of a process to its first result, with an empty and a filled cache of the driver
    Start,
    /// The tutorial's whole run on CIFAR-10 (40 epochs); needs CANDLE_VISION_DATA and a card
    Tutorial,
    /// Training steps of several ranks on this machine, beside PyTorch's DistributedDataParallel with gloo; needs MPI
    Scale,
    /// From JPEG files to batches; needs CANDLE_VISION_DATA
    Data,
}

/// The executable with this project's side of the jobs.
const JOBS_BENCH: Executable = Executable {
    package: "candle-vision-cli",
    name: "jobs",
    selection: &["--bench", "jobs"],
    features: &[],
};

/// The meaning of the figures, shown by `--help`.
const MEANING: &str = "\
Each job runs K times in processes of its own, this project and every mode of PyTorch taking turns, \
all with the same number of threads. Of a run the median step counts, of the runs their median.

On a CPU, the table on stdout shows milliseconds a step (of `data`: an image), then PyTorch's best mode over \
ours: above 1, this project is faster. `pairs` is the range of that ratio over the single runs; where \
it is wide, the machine was busy with something else. MiB is the peak memory of the process. Times of \
different machines, or of different calls, do not compare; ratios do.

With --device cuda other jobs run, in sizes for a card, in TF32 and in bf16 (PyTorch under autocast), \
with all of the machine's threads. A card is given its work ahead, so ten steps are timed together. The \
table has a line for each side: milliseconds a step, images a second, and the ratio to this project. \
Jobs called `..._loaded` train on what a loader makes of images of noise in memory; `waiting` is the \
share of their time that they take longer than the same job without a loader. This project repeats its \
training steps from a captured one, as its trainer does; `ours_plain` asks for them one by one. PyTorch \
runs eager, channels-last, compiled (--compile), compiled with mode=\"reduce-overhead\" (--compile), and \
with the whole step captured as a CUDA graph. `side/ours` is the time of a side over that of `ours`. \
`start` is the time from the start of a process until its first result. Without --device, the card is \
taken where a CUDA toolkit and a driver are found.

`scale` trains with one rank and with --ranks, each rank with --threads threads and a batch of its own. \
`efficiency` is images a second over those of as many single ranks; `waiting` is the share of the step in which \
gradients were summed and nothing was computed, as each side measures it; `MB/step` is what a rank hands over; \
`ours/side` compares images a second with as many ranks. In parentheses stands the range over the rounds.

--pack DIR gathers everything in a folder. Copy it to a machine with a card that has no cargo, and run \
`bash DIR/run.sh --python PYTHON` there: it looks for CUDA's libraries, runs the tests of the ops, then \
the bench, and writes bench.json and the table (bench.txt) into the current folder.

The exit code is 1 if a job failed on either side; the others are measured and shown all the same.";

#[derive(Debug, clap::Args)]
#[command(after_long_help = MEANING)]
pub(crate) struct Arguments {
    /// What to measure; without it, everything but `ops`, `families`, `host`, `scale` and `tutorial`
    #[arg(value_enum)]
    group: Option<Group>,
    /// Only jobs with this in their name, for instance `vit`
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// A Python with torch and torchvision (and pytorch-grad-cam, for `explain`) to compare with
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArguments,
    /// Make the jobs for a card so small that a CPU manages them, to try them out
    #[arg(long)]
    tiny: bool,
    /// Also try torch.compile: on inference, with freezing, and on a card in training and with
    /// mode="reduce-overhead" too; it takes a minute a run to start
    #[arg(long, requires = "python")]
    compile: bool,
    /// Threads of every process [default: 1; with a card, as many as there are]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Processes that each job gets on each side
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Of `scale`: the numbers of ranks beside one, separated by commas
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "2", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: Vec<u16>,
    /// Seconds that a run measures at least; it takes three steps in any case
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Write everything to this file as JSON: each run, the machine, the versions
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure nothing, but build for cards and gather the programs and a script in this folder, for a
    /// machine without cargo
    #[arg(long, value_name = "DIR", conflicts_with_all = ["group", "json", "packed"])]
    pack: Option<PathBuf>,
    /// Take the programs from such a folder and build nothing; its script calls this program so
    #[arg(long, value_name = "DIR")]
    packed: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds, at most 3600".to_owned()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(folder) = &arguments.pack {
        pack::gather(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.group == Some(Group::Scale) {
        return scale::run(arguments);
    }
    if arguments.packed.is_some() && matches!(arguments.group, Some(Group::Ops | Group::Host)) {
        let message =
            "`bench ops` and `bench host` build what they measure: a pack does not have it";
        return Err(Misuse(message.to_owned()).into());
    }
    match arguments.group {
        Some(Group::Ops) => run_ops(arguments),
        Some(Group::Host) => host::run(arguments.only.as_deref(), arguments.seconds),
        group => run_jobs(arguments, group),
    }
}

/// Criterion prints its own results and compares them with those of the last call.
fn run_ops(arguments: &Arguments) -> Result<ExitCode> {
    let on_card = matches!(arguments.device.device(), Device::Cuda(_));
    if arguments.python.is_some() || arguments.json.is_some() || on_card || arguments.tiny {
        let message = "`bench ops` takes no --python, --json, --device cuda or --tiny: it compares operations on the CPU with their plain twins, and criterion keeps the figures in target/criterion";
        return Err(Misuse(message.to_owned()).into());
    }
    let status = cargo()
        .args(["bench", "--package", "candle-vision-ops", "--bench", "ops"])
        .env(contestant::OUR_THREADS, arguments.threads.unwrap_or(1).to_string())
        .status()
        .context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_jobs(arguments: &Arguments, group: Option<Group>) -> Result<ExitCode> {
    check_folder_of(arguments.json.as_deref())?;
    // Errors of the Python setup are found before the build, which takes minutes.
    let python = arguments.python.as_deref();
    let origin = arguments.packed.clone().map_or(Origin::Repository, Origin::Pack);
    let script = origin.torch_jobs();
    let mut environment = Environment::of_this_machine(python, &script, origin.built_with()?)?;
    let wanted = arguments.device.device();
    let program = origin.jobs(&wanted, python)?;
    let device = chosen(&wanted, program.cuda);
    let on_card = device != Device::Cpu;
    if on_card {
        environment.look_for_cards();
    }
    let mut jobs = jobs::of(group, on_card || arguments.tiny);
    let in_group = !jobs.is_empty();
    jobs.retain(|job| arguments.only.as_ref().is_none_or(|part| job.name.contains(part)));
    if jobs.is_empty() {
        let message = if in_group {
            "no job of this group has this in its name"
        } else {
            "this group has no jobs for this device; `data` and `families` have some for the CPU, `start` and `tutorial` for cards"
        };
        return Err(Misuse(message.to_owned()).into());
    }
    let limits = Limits {
        threads: arguments.threads.unwrap_or_else(|| if on_card { all_threads() } else { 1 }),
        seconds: arguments.seconds,
        device: device.text(),
        tiny: arguments.tiny,
    };
    let mut reports = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        eprintln!("bench: {} ({} of {}): {}", job.name, index + 1, jobs.len(), job.what);
        let contestants = contestants(arguments, &program, &script, job);
        let mut start = |contestant: &Contestant| contestant.run(job, &limits);
        let entries = rounds::take_turns(contestants, usize::from(arguments.runs), &mut start);
        reports.push(JobReport::new(job, entries));
    }
    let report = Report::new(environment, limits, arguments.runs, reports);
    print!("{}", report.text());
    if let Some(path) = &arguments.json {
        let text = report.to_json()?;
        fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(if report.any_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The device that both sides get. It depends on the requested device and on the build.
fn chosen(wanted: &Device, cuda: bool) -> Device {
    match wanted {
        Device::Auto if cuda => Device::Cuda(None),
        Device::Auto => Device::Cpu,
        device => device.clone(),
    }
}

fn all_threads() -> u16 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(threads).unwrap_or(u16::MAX)
}

/// Fails early if the file cannot be written, rather than after all measurements.
fn check_folder_of(file: Option<&Path>) -> Result<()> {
    let folder = file.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            Err(Misuse(format!("--json: there is no folder `{}`", folder.display())).into())
        }
        _ => Ok(()),
    }
}

/// The sides of a job: this project first, then each mode of PyTorch.
fn contestants(
    arguments: &Arguments,
    jobs: &cuda::Program,
    script: &Path,
    job: &jobs::Job,
) -> Vec<Contestant> {
    let own_modes = job.own_modes().iter().copied().map(Some);
    let ours = std::iter::once(None).chain(own_modes);
    let ours = ours.map(|mode| Contestant { mode, program: Program::Jobs(jobs.clone()) });
    let torch = arguments.python.iter().flat_map(|python| {
        job.modes(arguments.compile).map(|mode| Contestant {
            mode: Some(mode),
            program: Program::Torch { python: python.clone(), script: script.to_path_buf() },
        })
    });
    ours.chain(torch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_told_the_device_that_was_built_for() {
        assert_eq!(chosen(&Device::Auto, true), Device::Cuda(None));
        assert_eq!(chosen(&Device::Auto, false), Device::Cpu);
        assert_eq!(chosen(&Device::Cuda(Some(2)), true), Device::Cuda(Some(2)));
        assert_eq!(chosen(&Device::Cpu, false), Device::Cpu);
    }
}
