//! `cargo xtask parity-all`: every network against stored values of torchvision and timm, a training step, a class
//! activation map and the published costs of each.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::{cargo, succeeds};

/// The test targets that look at every row of the table of networks.
const TARGETS: [&str; 2] = ["reference", "every_network"];

pub(crate) fn run() -> Result<ExitCode> {
    let mut tests = cargo();
    tests.args(["test", "--workspace"]);
    for target in TARGETS {
        tests.args(["--test", target]);
    }
    // One at a time: the largest networks take gigabytes.
    tests.args(["--", "--include-ignored", "--test-threads", "1"]);
    let passed = succeeds(&mut tests)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
