//! `cargo xtask bench host`: what the host does for each step of a card.
//!
//! The jobs run on the emulated device, whose kernels and libraries return at once. So the time of a step is the host's
//! alone, and calls of the driver and the libraries can be counted. A real driver takes a few microseconds for each.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use super::JOBS_BENCH;
use super::measurement::Line;
use crate::cargo::{BuildOptions, build_release};
use crate::cuda_emulator;
use crate::misuse::Misuse;

/// Jobs whose host's part matters: small images, small batches.
const JOBS: [&str; 6] = [
    "resnet18_train_b64_32",
    "resnet18_train_b64_32_graph",
    "resnet18_infer_b64_32",
    "simple_cnn_train_b64_32",
    "resnet18_gradcam_b1_224",
    "resnet18_gradcam_b1_224_graph",
];

pub(super) fn run(only: Option<&str>, seconds: f64) -> Result<ExitCode> {
    let jobs: Vec<&str> =
        JOBS.into_iter().filter(|job| only.is_none_or(|part| job.contains(part))).collect();
    if jobs.is_empty() {
        return Err(Misuse(format!("the jobs of this group are {}", JOBS.join(", "))).into());
    }
    let variables = cuda_emulator::ready(false)?;
    let options = BuildOptions { features: &["cuda"], variables: variables.clone() };
    let program = Program { path: build_release(&JOBS_BENCH, &options)?, variables };
    println!(
        "{:<30}{:>10}{:>10}{:>8}{:>8}{:>8}{:>12}",
        "job", "ms/step", "launches", "copies", "allocs", "waits", "us/launch"
    );
    for job in jobs {
        eprintln!("bench: {job}");
        // The difference of two runs is free of what happens once.
        let (short, long) = (program.run(job, 0.0)?, program.run(job, seconds)?);
        let steps = long.steps.saturating_sub(short.steps);
        if steps == 0 {
            bail!("{job}: {seconds} seconds are too few to count the calls of a step");
        }
        let each = |kind: Kind| (long.calls(kind) as f64 - short.calls(kind) as f64) / steps as f64;
        let launches = each(Kind::Launch);
        println!(
            "{job:<30}{:>10.3}{launches:>10.1}{:>8.1}{:>8.1}{:>8.1}{:>12.1}",
            long.milliseconds,
            each(Kind::Copy),
            each(Kind::Allocation),
            each(Kind::Wait),
            long.milliseconds * 1e3 / launches.max(1.0)
        );
        for (name, count) in long.most_frequent(&short, steps) {
            eprintln!("{count:>8.1} {name}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Program {
    path: PathBuf,
    variables: Vec<(&'static str, OsString)>,
}

/// What one run measured.
struct Run {
    milliseconds: f64,
    steps: u64,
    counts: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Launch,
    Copy,
    Allocation,
    Wait,
}

impl Kind {
    /// Of a call that the emulator counts under this name. Freeing goes with allocating, so it is left out.
    fn of(name: &str) -> Option<Self> {
        match name {
            "free" => None,
            "allocate" => Some(Self::Allocation),
            "wait" => Some(Self::Wait),
            _ if name.starts_with("copy") => Some(Self::Copy),
            _ => Some(Self::Launch),
        }
    }
}

impl Program {
    fn run(&self, job: &str, seconds: f64) -> Result<Run> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let counts = folder.path().join("counts");
        let mut command = Command::new(&self.path);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("EMULATED_CUDA_KERNELS", "none").env("EMULATED_CUDA_COUNTS", &counts);
        command.args([job, "--device", "cuda", "--seconds", &seconds.to_string()]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot start `{}`", self.path.display()))?;
        if !output.status.success() {
            bail!("`{}` ended with {}", self.path.display(), output.status);
        }
        let line = Line::parse(&String::from_utf8_lossy(&output.stdout))?;
        let Line::Measured(measured) = line else { bail!("{job} was not measured") };
        let (milliseconds, steps) = (measured.median_ms, measured.steps);
        Ok(Run { milliseconds, steps, counts: counted(&counts)? })
    }
}

fn counted(file: &Path) -> Result<BTreeMap<String, u64>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the emulator wrote no `{}`", file.display()))?;
    let row = |line: &str| {
        let (count, name) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().map(|line| row(line).with_context(|| format!("`{line}` is no count"))).collect()
}

impl Run {
    fn calls(&self, kind: Kind) -> u64 {
        let of_kind = self.counts.iter().filter(|(name, _)| Kind::of(name) == Some(kind));
        of_kind.map(|(_, count)| count).sum()
    }

    /// The names that a step calls most often, with their number for each step.
    fn most_frequent(&self, before: &Self, steps: u64) -> Vec<(&str, f64)> {
        let each = |(name, count): (&String, &u64)| {
            let earlier = before.counts.get(name).copied().unwrap_or(0);
            count.saturating_sub(earlier) as f64 / steps as f64
        };
        let mut all: Vec<(&str, f64)> =
            self.counts.iter().map(|entry| (entry.0.as_str(), each(entry))).collect();
        all.retain(|(_, count)| *count > 0.0);
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("counts");
        std::fs::write(&file, text).unwrap();
        Run { milliseconds: 1.0, steps: 1, counts: counted(&file).unwrap() }
    }

    #[test]
    fn calls_are_told_apart() {
        let run = run(
            "3 allocate\n3 free\n2 copy to the device\n5 cv_relu_f32\n1 graph launch\n1 wait\n",
        );
        let calls = [Kind::Launch, Kind::Copy, Kind::Allocation, Kind::Wait];
        assert_eq!(calls.map(|kind| run.calls(kind)), [6, 2, 3, 1]);
    }

    #[test]
    fn a_step_is_the_difference_of_two_runs() {
        let (short, long) = (run("10 relu\n1 sgd\n"), run("30 relu\n1 sgd\n8 add\n"));
        assert_eq!(long.most_frequent(&short, 4), [("relu", 5.0), ("add", 2.0)]);
    }
}
