//! The wheels from the Python package index, and pip, which installs them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Compiler and headers.
///
/// All are of CUDA 13.0, update 2, which PyTorch 2.11 is built with too. They must not be newer: a driver
/// refuses the PTX of an nvcc that is newer than the driver, and drivers of the 580 line support 13.0.
const TOOLS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];

/// Libraries that a program is linked with or opens when it runs.
const LIBRARIES: [&str; 4] = [
    "nvidia-cublas==13.1.0.3",
    "nvidia-curand==10.4.0.35",
    "nvidia-cuda-nvrtc==13.0.88",
    "nvidia-cudnn-cu13==9.19.0.56",
];

/// The wheels of a toolkit, with their versions.
pub(super) fn names(full: bool) -> impl Iterator<Item = &'static str> {
    let libraries: &[&str] = if full { &LIBRARIES } else { &[] };
    TOOLS.iter().chain(libraries).copied()
}

/// Checks for pip before anything is removed or fetched.
pub(super) fn check_pip() -> Result<()> {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    let pip = pip.context("cannot start `python3`; install Python 3 with pip")?;
    ensure!(
        pip.status.success(),
        "`python3` has no pip; install it (Debian: `apt-get install python3-pip`)"
    );
    Ok(())
}

/// Lets pip unpack the wheels into `site`. The machine's own Python packages stay as they are.
pub(super) fn install(full: bool, site: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    // No cache, because it would keep the gigabyte a second time. No dependencies, because the versions are
    // fixed here.
    pip.args(["--no-cache-dir", "--no-deps", "--no-compile", "--only-binary=:all:", "--target"]);
    pip.arg(site).args(names(full));
    let status = pip.stdin(Stdio::null()).status().context("cannot start `python3`")?;
    ensure!(
        status.success(),
        "pip could not bring the wheels, see its message above; without a network, put them into a \
         folder and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_pinned() {
        assert_eq!((names(false).count(), names(true).count()), (5, 9));
        for wheel in names(true) {
            let (name, version) = wheel.split_once("==").unwrap();
            assert!(name.starts_with("nvidia-") && version.contains('.'), "{wheel}");
        }
    }
}
