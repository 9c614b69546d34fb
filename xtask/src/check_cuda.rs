//! `cargo xtask check-cuda`: checks the code for CUDA as far as a machine without CUDA can.
//!
//! A script that compiles nothing replaces nvcc. Its output must never be linked, so these checks use their
//! own target folder.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cargo::{cargo, succeeds};
use crate::cuda::check_only;
use crate::misuse::Misuse;

pub(crate) fn run() -> Result<ExitCode> {
    let passed = succeeds(&mut command(&["check", "--package", "candle-vision-cli"], &[])?)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command of this step of `cargo xtask check`.
pub(crate) fn clippy() -> Result<Command> {
    command(&["clippy", "--workspace", "--all-targets"], &["--", "-D", "warnings"])
}

fn command(arguments: &[&str], further: &[&str]) -> Result<Command> {
    if cfg!(not(unix)) {
        let message = "the stand-in for nvcc is a script of bash, which this system does not start";
        return Err(Misuse(message.to_owned()).into());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(check_only()).chain(env::split_paths(&folders));
    let path = env::join_paths(path).context("the project's path cannot stand on PATH")?;
    let mut command = cargo();
    command.args(arguments).args(["--features", "cuda", "--target-dir"]).arg(target_folder());
    // Only macros and build scripts run here, and only once. Optimising them would take minutes.
    command.args(["--config", "profile.dev.package.'*'.opt-level=0"]);
    command.args(further).env("PATH", path).env("CUDA_COMPUTE_CAP", "80");
    // A real compiler would compile real kernels and need its toolkit's version.
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        command.env_remove(variable);
    }
    Ok(command)
}

fn target_folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    PathBuf::from(target).join("cuda-check")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_is_asked_and_keeps_to_itself() {
        let command = clippy().unwrap();
        let words: Vec<_> = command.get_args().filter_map(|word| word.to_str()).collect();
        assert!(words.windows(2).any(|pair| pair == ["--features", "cuda"]), "{words:?}");
        assert!(words.iter().any(|word| word.ends_with("cuda-check")), "{words:?}");
        assert!(words.ends_with(&["--", "-D", "warnings"]), "{words:?}");
        let of = |name: &str| command.get_envs().find(|(found, _)| *found == name);
        let path = of("PATH").and_then(|(_, path)| path).unwrap();
        assert_eq!(env::split_paths(path).next(), Some(check_only()));
        assert!(check_only().join("nvcc").is_file());
        assert_eq!(of("NVCC"), Some(("NVCC".as_ref(), None)));
    }
}
