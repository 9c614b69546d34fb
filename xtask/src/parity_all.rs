//! `cargo xtask parity-all`: every network against stored values of torchvision and timm.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{cargo, succeeds};

pub(crate) fn run() -> Result<ExitCode> {
    // One at a time: the largest networks take gigabytes.
    let arguments = [
        "test",
        "--workspace",
        "--test",
        "reference",
        "--",
        "--include-ignored",
        "--test-threads",
        "1",
    ];
    let passed = succeeds(cargo().args(arguments))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
