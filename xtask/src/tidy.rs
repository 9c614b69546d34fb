//! `cargo xtask tidy`: the rules that no other tool checks.
//!
//! - the crates depend on each other only along the arrows of `docs/architecture.md`;
//! - `unsafe` occurs only in the folders of kernels;
//! - every library says what it is for;
//! - libraries name no command and no option of the cli in their messages;
//! - every module `foo` lies in `foo.rs`, not in `foo/mod.rs`;
//! - published crates have everything that crates.io and docs.rs show, and read no file from outside their
//!   folder;
//! - words that were replaced do not come back;
//! - no large file is in git.

mod arrows;
mod files;
mod outside;
mod published;
mod rust_code;
mod words;

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cargo::{output, root};
use crate::workspace::{metadata, packages};

pub(crate) fn run() -> Result<ExitCode> {
    let metadata = metadata()?;
    let mut faults = arrows::check(&metadata)?;
    let root = root();
    let paths = project_files()?;
    faults.extend(published::check(&root, &packages(&metadata)?, &paths)?);
    for path in &paths {
        faults.extend(files::check(&root, path)?);
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

/// The files that git tracks or would add, relative to the project's folder.
fn project_files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = output(git.current_dir(root()))?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}
