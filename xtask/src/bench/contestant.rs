//! One side of a comparison: a program that runs a job in its own process.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::measurement::Line;
use crate::cargo::root;
use crate::cuda;

/// The environment variable that sets the number of threads of this project's kernels.
pub(super) const OUR_THREADS: &str = "RAYON_NUM_THREADS";

/// The settings that every process gets.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Limits {
    pub(super) threads: u16,
    /// Shortest time to measure, in seconds.
    pub(super) seconds: f64,
    /// The device: `cpu`, `cuda` or `cuda:N`.
    pub(super) device: String,
    /// Whether the jobs for cards are made so small that a CPU can run them.
    pub(super) tiny: bool,
}

/// A program, and PyTorch's mode. This project has no mode.
#[derive(Debug, Clone)]
pub(super) struct Contestant {
    pub(super) mode: Option<&'static str>,
    pub(super) program: Program,
}

#[derive(Debug, Clone)]
pub(super) enum Program {
    /// This project's jobs.
    Jobs(cuda::Program),
    /// The same jobs in PyTorch.
    Torch { python: PathBuf },
}

impl Contestant {
    pub(super) fn name(&self) -> &'static str {
        self.mode.unwrap_or("ours")
    }

    /// Runs the job and shows its stderr as it comes.
    pub(super) fn run(&self, job: &str, limits: &Limits) -> Result<Line> {
        let mut command = self.command(job, limits);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.output().with_context(|| format!("cannot start `{program}`"))?;
        if !output.status.success() {
            bail!("`{program}` ended with {}", output.status);
        }
        Line::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// The process runs in the user's folder, so that a relative CANDLE_VISION_DATA keeps its meaning.
    fn command(&self, job: &str, limits: &Limits) -> Command {
        let (threads, seconds) = (limits.threads.to_string(), limits.seconds.to_string());
        let mut command = match &self.program {
            Program::Jobs(jobs) => {
                let mut command = jobs.command();
                command.arg(job).env(OUR_THREADS, threads);
                command
            }
            Program::Torch { python } => {
                let mut command = Command::new(python);
                command.arg(torch_jobs()).arg(job).args(self.mode);
                command.args(["--threads", &threads]);
                command.env("OMP_NUM_THREADS", &threads).env("MKL_NUM_THREADS", threads);
                command
            }
        };
        command.args(["--seconds", &seconds, "--device", &limits.device]);
        if limits.tiny {
            command.arg("--tiny");
        }
        command
    }
}

/// The script that runs the jobs in PyTorch.
pub(super) fn torch_jobs() -> PathBuf {
    root().join("xtask/bench/torch_jobs.py")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { threads: 2, seconds: 0.5, device: "cuda:1".to_owned(), tiny: true }
    }

    #[track_caller]
    fn check(contestant: &Contestant, arguments: &[&str], variables: &[&str]) {
        let command = contestant.command("a_job", &limits());
        let found: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        assert!(found.ends_with(arguments), "{found:?}");
        for (name, value) in command.get_envs() {
            assert!(variables.contains(&name.to_str().unwrap()), "{name:?}");
            assert_eq!(value, Some("2".as_ref()));
        }
        assert_eq!(command.get_envs().count(), variables.len());
    }

    #[test]
    fn both_sides_get_the_same_limits() {
        const LAST: [&str; 5] = ["--seconds", "0.5", "--device", "cuda:1", "--tiny"];
        let program = Program::Jobs(cuda::Program::plain("jobs".into()));
        let ours = Contestant { mode: None, program };
        check(&ours, &[&["a_job"], LAST.as_slice()].concat(), &["RAYON_NUM_THREADS"]);
        let program = Program::Torch { python: "python3".into() };
        let torch = Contestant { mode: Some("eager"), program };
        let arguments = [["a_job", "eager", "--threads", "2"].as_slice(), &LAST].concat();
        check(&torch, &arguments, &["OMP_NUM_THREADS", "MKL_NUM_THREADS"]);
        assert!(torch_jobs().is_file());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let program = Program::Torch { python: "no/such/python".into() };
        let torch = Contestant { mode: Some("eager"), program };
        let error = torch.run("a_job", &limits()).unwrap_err();
        assert!(error.to_string().contains("`no/such/python`"), "{error}");
    }
}
