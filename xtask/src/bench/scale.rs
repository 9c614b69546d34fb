//! `cargo xtask bench scale`: what several processes make of a training step, beside PyTorch's DistributedDataParallel.
//!
//! Every side trains alone and in so many ranks of as many threads each, all sides in turns. One rank alone is a plain
//! process, without MPI and without DDP, because that is what somebody with one rank would run.

mod report;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::contestant::{OUR_THREADS, finished};
use super::environment::Environment;
use super::programs::Origin;
use super::rounds;
use super::{Arguments, JOBS_BENCH};
use crate::cuda::{self, Device};
use crate::misuse::Misuse;
use crate::mpirun::Mpirun;
use report::{JobReport, Report};

/// A training step that ranks take together.
#[derive(Debug)]
struct Job {
    name: &'static str,
    what: &'static str,
}

const JOBS: [Job; 2] = [
    Job { name: "resnet18_train_b64_32", what: "ResNet18, training step, batch 64 a rank, 32x32" },
    Job {
        name: "simple_cnn_train_b64_32",
        what: "CIFAR CNN, training step, batch 64 a rank, 32x32",
    },
];

/// PyTorch's memory formats.
const MODES: [&str; 2] = ["eager", "channels_last"];

/// A program with its mode, in so many ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    /// PyTorch's mode. `None` is this project.
    mode: Option<&'static str>,
    ranks: u16,
}

impl Side {
    fn maker(self) -> &'static str {
        self.mode.unwrap_or("ours")
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} with {} rank{}",
            self.maker(),
            self.ranks,
            if self.ranks == 1 { "" } else { "s" }
        )
    }
}

/// How the processes of all sides are started.
struct Programs {
    jobs: cuda::Program,
    mpirun: Mpirun,
    python: Option<PathBuf>,
    script: PathBuf,
    threads: u16,
    seconds: f64,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    check(arguments)?;
    let jobs: Vec<&Job> = JOBS.iter().filter(|job| wanted(arguments, job)).collect();
    if jobs.is_empty() {
        let names = JOBS.map(|job| job.name).join(", ");
        return Err(Misuse(format!("the jobs of this group are {names}")).into());
    }
    // Errors of the setup are found before the build, which takes minutes.
    super::check_folder_of(arguments.json.as_deref())?;
    let (mpirun, python) = (Mpirun::find()?, arguments.python.clone());
    let script = Origin::Repository.torch_jobs();
    let built_with = Origin::Repository.built_with()?;
    let environment = Environment::of_this_machine(python.as_deref(), &script, built_with)?;
    let jobs_program = cuda::build(&JOBS_BENCH.with_mpi(), &Device::Cpu, None)?;
    let (threads, seconds) = (arguments.threads.unwrap_or(1), arguments.seconds);
    let programs = Programs { jobs: jobs_program, mpirun, python, script, threads, seconds };
    let sides = sides(&arguments.ranks, programs.python.is_some());
    let mut reports = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        eprintln!("bench: {} ({} of {}): {}", job.name, index + 1, jobs.len(), job.what);
        let mut start = |side: &Side| Ok(finished(programs.command(job.name, *side)?)?.0);
        let entries = rounds::take_turns(sides.clone(), arguments.runs.into(), &mut start);
        reports.push(JobReport::new(job, entries));
    }
    let report = Report { environment, threads, seconds, runs: arguments.runs, jobs: reports };
    print!("{}", report.text());
    if let Some(path) = &arguments.json {
        let text = report.to_json()?;
        fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(if report.any_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn check(arguments: &Arguments) -> Result<()> {
    let on_card = matches!(arguments.device.device(), Device::Cuda(_));
    if on_card || arguments.tiny || arguments.compile || arguments.packed.is_some() {
        let message = "`bench scale` takes no --device cuda, --tiny, --compile or --packed: it compares ranks on the CPUs of this machine";
        return Err(Misuse(message.to_owned()).into());
    }
    Ok(())
}

fn wanted(arguments: &Arguments, job: &Job) -> bool {
    arguments.only.as_ref().is_none_or(|part| job.name.contains(part))
}

/// All sides in the order in which they run: those with as many ranks follow each other.
fn sides(ranks: &[u16], with_torch: bool) -> Vec<Side> {
    let mut numbers: Vec<u16> = std::iter::once(1).chain(ranks.iter().copied()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let modes: Vec<Option<&str>> =
        std::iter::once(None).chain(MODES.map(Some).into_iter().filter(|_| with_torch)).collect();
    let of = |ranks: u16| modes.iter().map(move |&mode| Side { mode, ranks });
    numbers.into_iter().flat_map(of).collect()
}

impl Programs {
    fn command(&self, job: &str, side: Side) -> Result<Command> {
        let (threads, seconds) = (self.threads.to_string(), self.seconds.to_string());
        let mut command = match side.mode {
            None => {
                let mut command = match side.ranks {
                    1 => self.jobs.command(),
                    ranks => self.mpirun.command(ranks, &self.jobs),
                };
                command.arg(job).env(OUR_THREADS, threads);
                command
            }
            Some(mode) => {
                let python = self.python.as_deref().context("no --python was given")?;
                let mut command = self.torch(python, side.ranks);
                command.args([job, mode, "--threads", &threads]);
                command.env("OMP_NUM_THREADS", &threads).env("MKL_NUM_THREADS", threads);
                command
            }
        };
        command.args(["--seconds", &seconds]);
        if side.ranks > 1 {
            command.arg("--distributed");
        }
        Ok(command)
    }

    /// Python with the script, as one process or as those of torchrun.
    fn torch(&self, python: &Path, ranks: u16) -> Command {
        let mut command = Command::new(python);
        if ranks > 1 {
            // The module behind `torchrun`, which need not be in the PATH.
            command.args(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]);
            command.arg(ranks.to_string());
        }
        command.arg(&self.script);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_with_as_many_ranks_follow_each_other() {
        let named = |ranks: &[u16], with_torch| -> Vec<String> {
            sides(ranks, with_torch).iter().map(Side::to_string).collect()
        };
        let expected = [
            "ours with 1 rank",
            "eager with 1 rank",
            "channels_last with 1 rank",
            "ours with 2 ranks",
            "eager with 2 ranks",
            "channels_last with 2 ranks",
        ];
        assert_eq!(named(&[2], true), expected);
        let alone = ["ours with 1 rank", "ours with 2 ranks", "ours with 4 ranks"];
        assert_eq!(named(&[4, 2, 1, 2], false), alone);
    }

    #[test]
    fn both_sides_know_the_jobs() {
        let ours = include_str!("../../../crates/cli/benches/jobs/main.rs");
        let torch = include_str!("../../bench/torch_jobs.py");
        for name in JOBS.map(|job| job.name) {
            // Those of a published network are made from their names.
            let is_listed = ours.contains(name) && torch.contains(name);
            assert!(is_listed || name.starts_with("resnet"), "{name}");
        }
        for side in [ours, torch] {
            assert!(side.contains("distributed"));
        }
    }

    #[test]
    fn one_rank_is_a_plain_process_and_more_are_launched() {
        let Ok(mpirun) = Mpirun::find() else {
            eprintln!("skipped: there is no mpirun");
            return;
        };
        let programs = Programs {
            jobs: cuda::Program::plain("jobs".into()),
            mpirun,
            python: Some("python3".into()),
            script: "torch_jobs.py".into(),
            threads: 1,
            seconds: 0.5,
        };
        let words = |mode, ranks| {
            let command = programs.command("a_job", Side { mode, ranks }).unwrap();
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            words.map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(None, 1), "jobs a_job --seconds 0.5");
        let of_two = words(None, 2);
        assert!(
            of_two.contains("-n 2 ") && of_two.ends_with("jobs a_job --seconds 0.5 --distributed")
        );
        let torch = "torch_jobs.py a_job eager --threads 1 --seconds 0.5";
        assert_eq!(words(Some("eager"), 1), format!("python3 {torch}"));
        assert_eq!(
            words(Some("eager"), 2),
            format!(
                "python3 -m torch.distributed.run --standalone --nproc-per-node 2 {torch} --distributed"
            )
        );
    }
}
