//! Chooses between programs for the CPU and for CUDA on this machine, and checks whether they will start.
//!
//! candle links CUDA's libraries, so a program built for CUDA does not start without them. A program built
//! without CUDA cannot use a card. Therefore `--device auto` builds for CUDA only on machines where the
//! program will run.

mod choice;
mod device;
mod libraries;
mod machine;
mod version;
mod wrappers;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) use device::{Device, DeviceArguments};
pub(crate) use wrappers::{check_only, nvcc_wrapper};

use crate::cargo::{BuildOptions, Executable, build_release};
use choice::{Build, Choice, choose};
use machine::{Machine, Toolkit};
use version::Version;

/// The environment variable with the architecture to compile for.
const COMPUTE_CAP: &str = "CUDA_COMPUTE_CAP";

/// A program that was built, and the environment that it needs to start.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    variables: Vec<(&'static str, OsString)>,
    /// Whether it was built for CUDA.
    pub(crate) cuda: bool,
}

impl Program {
    /// A program that needs no special environment, such as one for the CPU.
    pub(crate) fn plain(path: PathBuf) -> Self {
        Self { path, variables: Vec::new(), cuda: false }
    }

    /// A program for cards that is started in an environment with the libraries it needs.
    pub(crate) fn for_cards(path: PathBuf) -> Self {
        Self { path, variables: Vec::new(), cuda: true }
    }

    /// The command that starts the program. The caller adds arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Builds an executable for a device. Reports on stderr what was chosen and why. `python` may have CUDA's
/// libraries.
///
/// # Errors
/// If it does not build, or CUDA was asked for and is not available.
pub(crate) fn build(
    executable: &Executable,
    device: &Device,
    python: Option<&Path>,
) -> Result<Program> {
    if *device == Device::Cpu {
        return build_for_cpu(executable);
    }
    let machine = Machine::of_this();
    let Choice { build, said } = choose(device, &machine)?;
    if let Some(said) = said {
        eprintln!("cuda: {said}");
    }
    let Build::Cuda(toolkit) = build else { return build_for_cpu(executable) };
    let options = BuildOptions { features: &["cuda"], variables: variables(&toolkit, &machine) };
    let path = build_release(executable, &options)
        .context("building with CUDA failed; --cpu builds without")?;
    let python = python.unwrap_or(Path::new("python3"));
    match libraries::find(&path, &machine, &toolkit, python) {
        Ok(found) => Ok(for_cuda(path, found)),
        Err(reason) if *device == Device::Auto => {
            eprintln!("cuda: building for the CPU: {reason}");
            build_for_cpu(executable)
        }
        Err(reason) => bail!(reason),
    }
}

/// The options of a build for cards that are elsewhere. Reports on stderr which toolkit is used.
///
/// # Errors
/// If there is no toolkit.
pub(crate) fn options_for_elsewhere() -> Result<BuildOptions> {
    // The cards of this machine do not matter, nor does its driver.
    let machine = Machine { driver_cuda: None, capability: None, ..Machine::of_this() };
    let Choice { build, said } = choose(&Device::Cuda(None), &machine)?;
    if let Some(said) = said {
        eprintln!("cuda: {said}");
    }
    let Build::Cuda(toolkit) = build else { bail!("no CUDA toolkit was chosen") };
    Ok(BuildOptions { features: &["cuda"], variables: variables(&toolkit, &machine) })
}

fn build_for_cpu(executable: &Executable) -> Result<Program> {
    Ok(Program::plain(build_release(executable, &BuildOptions::default())?))
}

fn for_cuda(path: PathBuf, found: libraries::Found) -> Program {
    if let Some(path) = &found.loader_path {
        eprintln!("cuda: its libraries: LD_LIBRARY_PATH={}", path.display());
    }
    if found.lacks_cudnn {
        eprintln!(
            "cuda: no cuDNN here, so convolutions take a slower way; `cargo xtask cuda-toolkit --full` \
             brings it"
        );
    }
    let variables = found.loader_path.map(|path| ("LD_LIBRARY_PATH", path)).into_iter().collect();
    Program { path, variables, cuda: true }
}

/// The environment of a build with CUDA. Variables that the user has set are kept.
fn variables(toolkit: &Toolkit, machine: &Machine) -> Vec<(&'static str, OsString)> {
    let home = toolkit.home.as_os_str().to_owned();
    let mut variables = vec![("CUDA_HOME", home.clone()), ("CUDA_PATH", home)];
    let bin = toolkit.home.join("bin");
    let path = std::iter::once(bin).chain(machine::folders_of("PATH"));
    if let Ok(path) = std::env::join_paths(path) {
        variables.push(("PATH", path));
    }
    // The wrapper is a bash script.
    if cfg!(unix) {
        variables.push(("NVCC", nvcc_wrapper().into()));
    }
    variables.push((COMPUTE_CAP, compute_cap(machine.capability).into()));
    variables.retain(|(name, _)| {
        let may_be_set = ["NVCC", COMPUTE_CAP].contains(name);
        !may_be_set || std::env::var_os(name).is_none()
    });
    variables
}

/// PTX for 8.0 runs on every later card too, so one build suits them all. Only an older card needs its own.
fn compute_cap(capability: Option<Version>) -> String {
    const AMPERE: Version = Version { major: 8, minor: 0 };
    let Version { major, minor } = capability.map_or(AMPERE, |found| found.min(AMPERE));
    format!("{major}{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_build_does_for_all_cards_but_the_oldest() {
        for (capability, expected) in [("7.5", "75"), ("8.0", "80"), ("8.9", "80"), ("12.0", "80")]
        {
            assert_eq!(compute_cap(Version::parse(capability)), expected);
        }
        assert_eq!(compute_cap(None), "80");
    }

    #[test]
    fn a_build_is_told_of_its_toolkit() {
        let toolkit = Toolkit { home: "/cuda".into(), version: None };
        let variables = variables(&toolkit, &Machine::default());
        let of = |name: &str| {
            let found = variables.iter().find(|(found, _)| *found == name);
            found.unwrap().1.to_str().unwrap()
        };
        assert_eq!((of("CUDA_HOME"), of("CUDA_PATH")), ("/cuda", "/cuda"));
        assert!(of("PATH").starts_with("/cuda/bin:"), "{}", of("PATH"));
    }
}
