//! `cargo xtask tidy`: the rules that no other tool checks.
//!
//! - the crates depend on each other only along the arrows of `docs/architecture.md`;
//! - `unsafe` stands only where kernels live;
//! - every library says what it is for;
//! - libraries name no command and no option of the cli in their messages;
//! - no large file is in git.

mod arrows;
mod files;
mod rust_code;

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cargo::{cargo, output, root};

pub(crate) fn run() -> Result<ExitCode> {
    let mut faults = arrows::check(&metadata()?)?;
    let root = root();
    for path in project_files()? {
        faults.extend(files::check(&root, &path)?);
    }
    for fault in &faults {
        println!("tidy: {fault}");
    }
    if faults.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} found", faults.len());
    Ok(ExitCode::FAILURE)
}

/// What cargo says of the workspace's packages.
fn metadata() -> Result<String> {
    output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))
}

/// The files that git has or would take, relative to the project's folder.
fn project_files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = output(git.current_dir(root()))?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}
