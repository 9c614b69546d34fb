//! `cargo xtask cuda-emulator`: runs CUDA code on the CPU, without a card, for tests.
//!
//! It builds the libraries of `xtask/cuda/emulator` with `make` and a C++ compiler. The kernels come from
//! this project and from the candle that cargo resolved. A program built with the feature `cuda` then runs
//! on these libraries. No CUDA toolkit is needed, because they include a replacement for nvcc.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::root;
use crate::resolved::Resolved;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run the emulator's own tests first
    #[arg(long)]
    check: bool,
    /// A command to run with the emulator, such as `cargo test -p candle-vision-ops --features
    /// cuda`; without one, the settings that do so are printed for a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let settings = ready(arguments.check)?;
    let Some((program, rest)) = arguments.command.split_first() else {
        for (name, value) in settings {
            println!("export {name}='{}'", value.display());
        }
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = Command::new(program);
    let status = command.args(rest).envs(settings).status();
    let status = status.with_context(|| format!("cannot start `{}`", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the emulator, and tests it if asked to. Returns the environment that a build and a run with it need.
pub(crate) fn ready(check: bool) -> Result<Vec<(&'static str, OsString)>> {
    let resolved = Resolved::with_cuda()?;
    let folder = resolved.target_directory.join("cuda-emulator");
    build(&resolved, &folder, if check { "check" } else { "all" })?;
    Ok(settings(&folder, |name| std::env::var_os(name)))
}

fn build(resolved: &Resolved, folder: &Path, goal: &str) -> Result<()> {
    let source = root().join("xtask/cuda/emulator");
    let variable = |name: &str, path: &Path| {
        let mut text = OsString::from(name);
        text.push("=");
        text.push(path);
        text
    };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let status = Command::new("make")
        .arg(format!("-j{jobs}"))
        .arg("-f")
        .arg(source.join("Makefile"))
        .arg(variable("OUT", folder))
        .arg(variable("CANDLE_KERNELS", &resolved.sources("candle-kernels")?))
        .arg(variable("PROJECT_KERNELS", &root().join("crates/ops/src/cuda/kernels")))
        .arg(variable("CUDARC", &resolved.sources("cudarc")?))
        .arg(goal)
        // Stdout carries only the settings.
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .context("cannot start `make`: the emulator needs it and g++")?;
    if !status.success() {
        bail!("the emulator does not build, see the messages of make above");
    }
    Ok(())
}

/// The environment that a build and a run with the emulator need.
fn settings(
    folder: &Path,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, OsString)> {
    let in_front = |name: &'static str, entry: PathBuf| {
        let mut text = entry.into_os_string();
        if let Some(before) = environment(name).filter(|before| !before.is_empty()) {
            text.push(":");
            text.push(before);
        }
        (name, text)
    };
    vec![
        // cudarc's build script looks for nvcc on PATH. candle's and ours look in NVCC.
        in_front("PATH", folder.join("bin")),
        ("NVCC", folder.join("bin/nvcc").into()),
        ("CUDA_COMPUTE_CAP", "90".into()),
        in_front("LIBRARY_PATH", folder.join("lib")),
        in_front("LD_LIBRARY_PATH", folder.join("lib")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emulator_comes_before_what_is_installed() {
        let environment = |name: &str| (name == "PATH").then(|| OsString::from("/usr/bin"));
        let settings = settings(Path::new("/emulator"), environment);
        let value = |name: &str| {
            let found = settings.iter().find(|setting| setting.0 == name);
            found.map(|setting| setting.1.to_string_lossy().into_owned())
        };
        assert_eq!(value("PATH").as_deref(), Some("/emulator/bin:/usr/bin"));
        // An empty entry would mean the current folder.
        assert_eq!(value("LD_LIBRARY_PATH").as_deref(), Some("/emulator/lib"));
    }
}
