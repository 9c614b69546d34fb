//! One side of a comparison: a program that runs a job in its own process.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::jobs::{Cache, Job};
use super::measurement::{Line, Measurement};
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

/// A program and its mode. The usual mode of this project has no name.
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
    Torch { python: PathBuf, script: PathBuf },
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Contestant {
    pub(super) fn name(&self) -> &'static str {
        self.mode.unwrap_or("ours")
    }

    pub(super) fn is_ours(&self) -> bool {
        matches!(self.program, Program::Jobs(_))
    }

    /// Runs the job and shows its stderr as it comes.
    pub(super) fn run(&self, job: &Job, limits: &Limits) -> Result<Line> {
        let command = || self.command(job.name, limits);
        let Some(cache) = job.start() else { return Ok(finished(command())?.0) };
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let start = || timed_start(with_caches_in(command(), folder.path()));
        if cache == Cache::Filled {
            start()?;
        }
        start()
    }

    /// The process runs in the user's folder, so that a relative CANDLE_VISION_DATA keeps its meaning.
    fn command(&self, job: &str, limits: &Limits) -> Command {
        let (threads, seconds) = (limits.threads.to_string(), limits.seconds.to_string());
        let mut command = match &self.program {
            Program::Jobs(jobs) => {
                let mut command = jobs.command();
                command.arg(job).env(OUR_THREADS, threads);
                if self.mode.is_some() {
                    command.arg("--plain");
                }
                command
            }
            Program::Torch { python, script } => {
                let mut command = Command::new(python);
                command.arg(script).arg(job).args(self.mode);
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

/// Waits for the process. Returns what it measured, and the seconds until it said so.
pub(super) fn finished(mut command: Command) -> Result<(Line, f64)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().with_context(|| format!("cannot start `{program}`"))?;
    let (mut said, mut seconds) = (String::new(), 0.0);
    let stdout = child.stdout.take().context("the process has no output")?;
    for line in BufReader::new(stdout).lines() {
        said += &line.with_context(|| format!("cannot read what `{program}` prints"))?;
        said.push('\n');
        seconds = started.elapsed().as_secs_f64();
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{program}`"))?;
    if !status.success() {
        bail!("`{program}` ended with {status}");
    }
    Ok((Line::parse(&said)?, seconds))
}

/// What counts of a start is the time until its result, not what the process could measure itself.
fn timed_start(command: Command) -> Result<Line> {
    let (line, seconds) = finished(command)?;
    let milliseconds = seconds * 1e3;
    Ok(match line {
        Line::Measured(measured) => Line::Measured(Measurement {
            median_ms: milliseconds,
            min_ms: milliseconds,
            images_per_s: 1.0 / seconds,
            ..measured
        }),
        skipped @ Line::Skipped { .. } => skipped,
    })
}

/// The driver, and the compilers of torch.compile, keep what they compiled in this folder.
fn with_caches_in(mut command: Command, folder: &Path) -> Command {
    const CACHES: [&str; 3] = ["CUDA_CACHE_PATH", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"];
    command.envs(CACHES.map(|name| (name, folder.join(name))));
    command.env("CUDA_CACHE_DISABLE", "0");
    command
}

#[cfg(test)]
mod tests {
    use super::super::jobs;
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
        let plain = Contestant { mode: Some("ours_plain"), ..ours };
        check(&plain, &[&["a_job", "--plain"], LAST.as_slice()].concat(), &["RAYON_NUM_THREADS"]);
        let program = Program::Torch { python: "python3".into(), script: "jobs.py".into() };
        let torch = Contestant { mode: Some("eager"), program };
        let arguments =
            [["jobs.py", "a_job", "eager", "--threads", "2"].as_slice(), &LAST].concat();
        check(&torch, &arguments, &["OMP_NUM_THREADS", "MKL_NUM_THREADS"]);
    }

    fn python(program: &str) -> Contestant {
        let (python, script) = (program.into(), "jobs.py".into());
        Contestant { mode: Some("eager"), program: Program::Torch { python, script } }
    }

    fn job(name: &str) -> &'static Job {
        jobs::of(None, true).into_iter().find(|job| job.name == name).unwrap()
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = python("no/such/python").run(job("resnet18_infer_b1_224_f32"), &limits());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("`no/such/python`"), "{error}");
    }

    /// A program that tells the first result of a process with the number of files in the driver's cache, and leaves one.
    #[cfg(unix)]
    fn starter(folder: &Path) -> Contestant {
        use std::os::unix::fs::PermissionsExt;
        let text = r#"#!/bin/sh
mkdir -p "$CUDA_CACHE_PATH"
found=$(ls "$CUDA_CACHE_PATH" | wc -l)
touch "$CUDA_CACHE_PATH/kernel"
sleep 0.05
echo "{\"threads\":1,\"median_ms\":0,\"min_ms\":0,\"steps\":$((found + 1)),\"images_per_s\":0,\"peak_mib\":null,\"minor_faults_per_step\":null}"
sleep 0.5
"#;
        let file = folder.join("starter");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        python(file.to_str().unwrap())
    }

    #[cfg(unix)]
    #[test]
    fn a_start_is_timed_until_its_result_with_an_empty_and_with_a_filled_cache() {
        let folder = tempfile::tempdir().unwrap();
        let starter = starter(folder.path());
        for (name, found) in [("empty", 0), ("filled", 1)] {
            // Twice: no start may see what another one left.
            for _ in 0..2 {
                let begun = Instant::now();
                let job = job(&format!("resnet18_start_b1_224_{name}_cache"));
                let Line::Measured(measured) = starter.run(job, &limits()).unwrap() else {
                    panic!("it was measured")
                };
                assert_eq!(measured.steps, found + 1, "{name}");
                assert!(measured.median_ms >= 50.0, "{}", measured.median_ms);
                assert!((measured.images_per_s * measured.median_ms / 1e3 - 1.0).abs() < 1e-9);
                // What the process does after its result does not count.
                assert!(measured.median_ms + 400.0 < begun.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
}
