//! Starts `cargo` and finds the executables that it built.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// An executable of the project.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Executable {
    pub(crate) package: &'static str,
    /// Name of its target.
    pub(crate) name: &'static str,
    /// The options of `cargo build` that select the target.
    pub(crate) selection: &'static [&'static str],
    /// The cargo features that it needs on every device.
    pub(crate) features: &'static [&'static str],
}

impl Executable {
    /// The same for runs of several processes.
    pub(crate) const fn with_mpi(self) -> Self {
        Self { features: &["mpi"], ..self }
    }
}

/// The `candle-vision` command.
pub(crate) const CLI: Executable = Executable {
    package: "candle-vision-cli",
    name: "candle-vision",
    selection: &[],
    features: &[],
};

/// Options of a build besides the executable.
#[derive(Debug, Default)]
pub(crate) struct BuildOptions {
    pub(crate) features: &'static [&'static str],
    pub(crate) variables: Vec<(&'static str, OsString)>,
}

/// The project's folder, which is the parent of this package's folder.
pub(crate) fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let package = package.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// `cargo` in the project's folder. It is the same cargo that started this program.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root());
    command
}

/// The version of a package in `Cargo.lock`.
pub(crate) fn locked_version(package: &str) -> Result<String> {
    let path = root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&path);
    let lock = lock.with_context(|| format!("cannot read `{}`", path.display()))?;
    version_in(&lock, package)
        .with_context(|| format!("`{}` has no package `{package}`", path.display()))
}

fn version_in(lock: &str, name: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let lock: Lock = toml::from_str(lock).ok()?;
    lock.package.into_iter().find(|package| package.name == name).map(|package| package.version)
}

/// Becomes the command. The command has this program's terminal, its exit code is this program's, and only
/// it receives Ctrl-C.
pub(crate) fn become_command(command: Command) -> Result<ExitCode> {
    let program = command.get_program().to_string_lossy().into_owned();
    exec(command).with_context(|| format!("cannot start `{program}`"))
}

#[cfg(unix)]
fn exec(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec().into())
}

/// Where a program cannot become another, this one waits and returns the exit code.
#[cfg(not(unix))]
fn exec(mut command: Command) -> Result<ExitCode> {
    let code = command.status()?.code();
    let code = code.and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds an executable in release mode and shows cargo's progress on stderr. Returns its path, which
/// depends on `CARGO_TARGET_DIR` and other settings of cargo.
pub(crate) fn build_release(executable: &Executable, options: &BuildOptions) -> Result<PathBuf> {
    let Executable { package, name, selection, features } = executable;
    let mut build = cargo();
    build.args(["build", "--release", "--package", package]).args(*selection);
    build.args(features.iter().flat_map(|feature| ["--features", feature]));
    let built = built(build, options, package)?;
    let found = built.into_iter().rfind(|artifact| artifact.target.name == *name);
    let found = found.with_context(|| format!("cargo built no executable called `{name}`"))?;
    Ok(found.executable)
}

/// A test that was built and not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Test {
    /// The folder of its package.
    pub(crate) package: PathBuf,
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Builds tests of packages, and shows cargo's progress on stderr. `names` are those of all the packages together.
pub(crate) fn build_tests(
    packages: &[&str],
    names: &[&str],
    options: &BuildOptions,
) -> Result<Vec<Test>> {
    let mut build = cargo();
    build.args(["test", "--no-run"]);
    build.args(packages.iter().flat_map(|package| ["--package", package]));
    build.args(names.iter().flat_map(|name| ["--test", name]));
    let built = built(build, options, &packages.join("`, `"))?;
    let test = |Artifact { target, manifest_path, executable }: Artifact| {
        let package = manifest_path.parent().map(Path::to_path_buf).unwrap_or_default();
        Test { package, name: target.name, path: executable }
    };
    Ok(built.into_iter().map(test).collect())
}

/// An executable among cargo's messages.
#[derive(Debug, Deserialize)]
struct Artifact {
    target: Target,
    manifest_path: PathBuf,
    executable: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// The executables that a build makes. `what` is built, for the error.
fn built(mut build: Command, options: &BuildOptions, what: &str) -> Result<Vec<Artifact>> {
    if !options.features.is_empty() {
        build.args(["--features", &options.features.join(",")]);
    }
    build.envs(options.variables.iter().map(|(name, value)| (name, value)));
    build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut build = build.spawn().context("cannot start cargo")?;
    let stdout = build.stdout.take().context("cargo has no output")?;
    let mut found = Vec::new();
    for line in BufReader::new(stdout).lines() {
        found.extend(artifact(&line.context("cannot read cargo's output")?));
    }
    let status = build.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("`{what}` does not build, see cargo's messages above");
    }
    Ok(found)
}

/// The executable that one of cargo's messages is about. Libraries and build scripts have none.
fn artifact(message: &str) -> Option<Artifact> {
    serde_json::from_str(message).ok()
}

/// Runs a step of `cargo xtask check`. Returns whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().context("cannot start cargo")?;
    Ok(status.success())
}

/// The standard output of a program. If it fails, the error holds what it wrote to stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{program}` wrote no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargo_s_messages() {
        let message = |name: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/crates/cli/Cargo.toml","target":{{"kind":["bin"],"name":"{name}"}},"executable":{executable}}}"#
            )
        };
        let found = artifact(&message("candle-vision", r#""/elsewhere/release/candle-vision""#));
        let found = found.unwrap();
        assert_eq!(found.executable, Path::new("/elsewhere/release/candle-vision"));
        assert_eq!(found.target.name, "candle-vision");
        assert_eq!(found.manifest_path, Path::new("/crates/cli/Cargo.toml"));
        // The library of the same name has no executable.
        assert!(artifact(&message("candle-vision", "null")).is_none());
        assert!(artifact(r#"{"reason":"build-finished","success":true}"#).is_none());
        assert!(artifact("not json").is_none());
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("Cargo.toml").is_file());
        assert!(root().join("xtask").is_dir());
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n\n[[package]]\nname = \"b\"\nversion = \"4.0.0\"\n";
        assert_eq!(version_in(lock, "b").as_deref(), Some("4.0.0"));
        assert_eq!(version_in(lock, "c"), None);
        assert!(locked_version("cudarc").is_ok());
        let error = locked_version("no-such-package").unwrap_err().to_string();
        assert!(error.contains("`no-such-package`"), "{error}");
    }
}
