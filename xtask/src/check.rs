//! `cargo xtask check`: everything that must hold before a change goes in. The steps run in order up to the
//! first that fails.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cargo::{cargo, succeeds};
use crate::{check_cuda, package, tidy};

/// The name of a step and its function, which returns whether it succeeded.
type Step = (&'static str, fn() -> Result<bool>);

const STEPS: [Step; 7] = [
    ("fmt", || run_cargo(&["fmt", "--all", "--", "--check"])),
    ("clippy", || run_cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("tests", || run_cargo(&["test", "--workspace"])),
    ("cuda", || succeeds(&mut check_cuda::clippy()?)),
    ("docs", || {
        let mut doc = command(&["doc", "--workspace", "--no-deps"]);
        succeeds(doc.env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("tidy", || Ok(tidy::run()? == ExitCode::SUCCESS)),
    ("package", || Ok(package::run()? == ExitCode::SUCCESS)),
];

/// Whether a step succeeded, and its duration. `None` for a step that did not run.
type Outcome = Option<(bool, Duration)>;

pub(crate) fn run() -> Result<ExitCode> {
    let outcomes = run_all(&STEPS)?;
    print!("{}", summary(&STEPS, &outcomes));
    let passed = outcomes.iter().all(|outcome| matches!(outcome, Some((true, _))));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_all(steps: &[Step]) -> Result<Vec<Outcome>> {
    let mut outcomes = vec![None; steps.len()];
    for ((name, step), outcome) in steps.iter().zip(&mut outcomes) {
        eprintln!("check: {name}");
        let start = Instant::now();
        let passed = step()?;
        let elapsed = start.elapsed();
        eprintln!("check: {name} took {:.1} s", elapsed.as_secs_f64());
        *outcome = Some((passed, elapsed));
        if !passed {
            break;
        }
    }
    Ok(outcomes)
}

fn summary(steps: &[Step], outcomes: &[Outcome]) -> String {
    let line = |((name, _), outcome): (&Step, &Outcome)| match outcome {
        Some((true, took)) => format!("{name:<8} ok      {:>7.1} s\n", took.as_secs_f64()),
        Some((false, took)) => format!("{name:<8} FAILED  {:>7.1} s\n", took.as_secs_f64()),
        None => format!("{name:<8} not run\n"),
    };
    steps.iter().zip(outcomes).map(line).collect()
}

fn run_cargo(arguments: &[&str]) -> Result<bool> {
    succeeds(&mut command(arguments))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = cargo();
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_ends_the_run_and_the_summary_says_so() {
        let steps: [Step; 3] =
            [("one", || Ok(true)), ("two", || Ok(false)), ("three", || panic!("must not run"))];
        let outcomes = run_all(&steps).unwrap();
        let summary = summary(&steps, &outcomes);
        let lines: Vec<&str> = summary.lines().collect();
        assert!(lines[0].starts_with("one") && lines[0].contains("ok"), "{summary}");
        assert!(lines[1].starts_with("two") && lines[1].contains("FAILED"), "{summary}");
        assert!(lines[2].starts_with("three") && lines[2].contains("not run"), "{summary}");
    }
}
