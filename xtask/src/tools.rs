//! `cargo xtask deny` and `cargo xtask semver`: checks by tools that not every machine has.
//!
//! If the tool is not installed, the task says so in one line and succeeds. A check that somebody cannot
//! run must not keep them from working.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, output, root, succeeds};

#[derive(Args)]
pub(crate) struct SemverArguments {
    /// The git revision whose public API this one must be compatible with [default: the newest tag]
    #[arg(long, value_name = "REVISION")]
    baseline: Option<String>,
}

/// Checks licences, advisories and sources of all dependencies, by `deny.toml`.
pub(crate) fn deny() -> Result<ExitCode> {
    run("deny", &["check"])
}

/// Checks whether the public API changed more than the version says.
///
/// The baseline is a git revision, not the release on crates.io. So crates that were never published are
/// compared too.
pub(crate) fn semver(arguments: &SemverArguments) -> Result<ExitCode> {
    let Some(baseline) = arguments.baseline.clone().or_else(newest_tag) else {
        eprintln!(
            "semver: skipped, there is no tag to compare with; name one with --baseline REVISION"
        );
        return Ok(ExitCode::SUCCESS);
    };
    run("semver-checks", &["--workspace", "--baseline-rev", &baseline])
}

fn newest_tag() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--tags", "--abbrev=0"]).current_dir(root());
    output(&mut git).ok().map(|tag| tag.trim().to_owned())
}

fn run(tool: &str, arguments: &[&str]) -> Result<ExitCode> {
    if !is_installed(tool) {
        eprintln!("{}", not_installed(tool));
        return Ok(ExitCode::SUCCESS);
    }
    let passed = succeeds(cargo().arg(tool).args(arguments))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Cargo itself fails on a subcommand that does not exist.
fn is_installed(tool: &str) -> bool {
    let mut version = cargo();
    version.args([tool, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn not_installed(tool: &str) -> String {
    format!("{tool}: skipped, it is not installed; `cargo install --locked cargo-{tool}` brings it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_not_there_is_skipped_in_one_line() {
        let tool = "no-such-tool-of-this-project";
        assert!(!is_installed(tool));
        assert_eq!(run(tool, &[]).unwrap(), ExitCode::SUCCESS);
        let line = not_installed(tool);
        assert!(line.contains("skipped") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn a_tool_that_is_there_is_found() {
        // `cargo xtask check` needs clippy as well.
        assert!(is_installed("clippy"));
    }
}
