//! Starting `cargo`, and the binary it builds.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

const CLI_PACKAGE: &str = "candle-vision-cli";
const CLI_BINARY: &str = "candle-vision";

/// The project's folder: the parent of this package's.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// `cargo` in the project's folder, the same one that started this program.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root());
    command
}

/// Builds the cli in release mode, then becomes it: it runs in the project's folder with this
/// program's terminal, its exit code is this program's, and Ctrl-C reaches it alone.
pub(crate) fn run_cli(arguments: &[OsString]) -> Result<ExitCode> {
    let binary = build_cli()?;
    let mut command = Command::new(&binary);
    command.args(arguments).current_dir(root());
    become_command(command).with_context(|| format!("cannot start `{}`", binary.display()))
}

#[cfg(unix)]
fn become_command(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec().into())
}

/// Where no program can become another, this one waits and hands the exit code on.
#[cfg(not(unix))]
fn become_command(mut command: Command) -> Result<ExitCode> {
    let code = command.status()?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds the cli and says where it lies.
fn build_cli() -> Result<PathBuf> {
    build_release(CLI_PACKAGE, &[], CLI_BINARY)
}

/// Builds a package in release mode, cargo's progress shown on stderr, and says where the
/// executable of its target `name` lies (which `CARGO_TARGET_DIR` and other settings of cargo
/// decide). `selection` chooses what is built, as `cargo build` takes it.
pub(crate) fn build_release(package: &str, selection: &[&str], name: &str) -> Result<PathBuf> {
    let mut build = cargo()
        .args(["build", "--release", "--package", package])
        .args(selection)
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = build.stdout.take().context("cargo has no output")?;
    let mut found = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read cargo's output")?;
        found = executable(&line, name).or(found);
    }
    let status = build.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("`{package}` does not build, see cargo's messages above");
    }
    found.with_context(|| format!("cargo built no executable called `{name}`"))
}

/// The executable that one of cargo's messages tells of, if it is that of the target `name`.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    let message: Message = serde_json::from_str(message).ok()?;
    let is_wanted = message.reason == "compiler-artifact"
        && message.target.is_some_and(|target| target.name == name);
    message.executable.filter(|_| is_wanted)
}

/// Runs a step of `cargo xtask check` to its end; whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().context("cannot start cargo")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargo_s_messages() {
        let message = |reason: &str, name: &str, executable: &str| {
            format!(
                r#"{{"reason":"{reason}","target":{{"kind":["bin"],"name":"{name}"}},"executable":{executable}}}"#
            )
        };
        let path = r#""/elsewhere/release/candle-vision""#;
        let executable = |message: &str| executable(message, "candle-vision");
        let found = executable(&message("compiler-artifact", "candle-vision", path));
        assert_eq!(found, Some(PathBuf::from("/elsewhere/release/candle-vision")));
        // The library of the same name has no executable.
        assert_eq!(executable(&message("compiler-artifact", "candle-vision", "null")), None);
        assert_eq!(executable(&message("compiler-artifact", "xtask", path)), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(executable("not json"), None);
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("Cargo.toml").is_file());
        assert!(root().join("xtask").is_dir());
    }
}
