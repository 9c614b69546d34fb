//! Chooses a build with or without CUDA, from the device that was asked for and the machine.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::device::Device;
use super::machine::{Machine, Toolkit};

/// How to build, and the message about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) build: Build,
    /// `None` if the choice is no surprise to anyone.
    pub(super) said: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Build {
    Cpu,
    Cuda(Toolkit),
}

/// Chooses the build.
///
/// # Errors
/// If CUDA was asked for and there is nothing to compile it with.
pub(super) fn choose(device: &Device, machine: &Machine) -> Result<Choice> {
    match device {
        Device::Cpu => Ok(Choice { build: Build::Cpu, said: None }),
        Device::Cuda(_) => forced(machine),
        Device::Auto => Ok(by_itself(machine)),
    }
}

/// The choice if CUDA was asked for. The driver need not be found, because the user may know better.
fn forced(machine: &Machine) -> Result<Choice> {
    let Some(first) = machine.toolkits.first() else {
        bail!(
            "CUDA was asked for and there is no nvcc in CUDA_HOME/bin, on PATH, in `{}` or in \
             /usr/local/cuda: `cargo xtask cuda-toolkit` brings one",
            made_here().display()
        )
    };
    let said = match fitting(machine) {
        Ok(toolkit) => return Ok(with_cuda(toolkit, "")),
        Err(reason) => format!("building with CUDA all the same: {reason}"),
    };
    Ok(Choice { build: Build::Cuda(first.clone()), said: Some(said) })
}

fn by_itself(machine: &Machine) -> Choice {
    let without = |reason: String| Choice {
        build: Build::Cpu,
        said: Some(format!("building for the CPU: {reason}")),
    };
    match (machine.card, &machine.driver) {
        (false, _) => Choice { build: Build::Cpu, said: None },
        (true, None) => without(
            "an NVIDIA card is here but no driver (libcuda.so.1); install NVIDIA's driver, or start \
             the container with `--gpus all`"
                .to_owned(),
        ),
        (true, Some(_)) if machine.toolkits.is_empty() => without(
            "an NVIDIA card is here but no nvcc; `cargo xtask cuda-toolkit --full` brings CUDA".to_owned(),
        ),
        (true, Some(_)) => match fitting(machine) {
            Ok(toolkit) => with_cuda(toolkit, " (--cpu builds without)"),
            Err(reason) => without(reason),
        },
    }
}

fn with_cuda(toolkit: &Toolkit, remedy: &str) -> Choice {
    let Toolkit { home, version } = toolkit;
    let version = version.map(|version| format!(" {version}")).unwrap_or_default();
    let said = format!("building with CUDA{version} of `{}`{remedy}", home.display());
    Choice { build: Build::Cuda(toolkit.clone()), said: Some(said) }
}

/// The first toolkit whose kernels the driver accepts. A driver refuses kernels of a later release than its
/// own. If either version is unknown, the toolkit is accepted.
fn fitting(machine: &Machine) -> Result<&Toolkit, String> {
    let is_too_new = |toolkit: &Toolkit| {
        machine.driver_cuda.zip(toolkit.version).is_some_and(|(driver, nvcc)| nvcc > driver)
    };
    let fits = machine.toolkits.iter().find(|toolkit| !is_too_new(toolkit));
    fits.ok_or_else(|| {
        let text = |version: Option<super::version::Version>| {
            version.map_or_else(|| "?".to_owned(), |version| version.to_string())
        };
        let nvcc = machine.toolkits.first().and_then(|toolkit| toolkit.version);
        format!(
            "nvcc is of CUDA {}, newer than the {} that the driver knows; update the driver, or set \
             CUDA_HOME to an older toolkit",
            text(nvcc),
            text(machine.driver_cuda)
        )
    })
}

fn made_here() -> PathBuf {
    crate::cuda_toolkit::default_root()
}

#[cfg(test)]
mod tests {
    use super::super::version::Version;
    use super::*;

    fn toolkit(home: &str, version: &str) -> Toolkit {
        Toolkit { home: home.into(), version: Version::parse(version) }
    }

    /// A machine on which everything is in place.
    fn whole() -> Machine {
        Machine {
            toolkits: vec![toolkit("/cuda", "13.0")],
            driver: Some("/lib".into()),
            card: true,
            driver_cuda: Version::parse("13.0"),
            capability: Version::parse("9.0"),
        }
    }

    fn cuda() -> Device {
        Device::Cuda(None)
    }

    /// Which toolkit is built with, if any, and whether what is said has these parts; no parts stand
    /// for silence.
    #[track_caller]
    fn check(device: Device, machine: &Machine, home: Option<&str>, parts: &[&str]) {
        let Choice { build, said } = choose(&device, machine).unwrap();
        let found = match &build {
            Build::Cpu => None,
            Build::Cuda(toolkit) => toolkit.home.to_str(),
        };
        assert_eq!(found, home, "{said:?}");
        assert_eq!(said.is_none(), parts.is_empty(), "{said:?}");
        let said = said.unwrap_or_default();
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }

    #[test]
    fn cuda_is_taken_where_everything_is_in_place() {
        check(Device::Auto, &whole(), Some("/cuda"), &["CUDA 13.0 of `/cuda`", "--cpu"]);
        // nvidia-smi need not be there, nor nvcc tell its version.
        let machine = Machine { driver_cuda: None, capability: None, ..whole() };
        check(Device::Auto, &machine, Some("/cuda"), &["CUDA 13.0"]);
        let machine = Machine { toolkits: vec![toolkit("/cuda", "")], ..whole() };
        check(Device::Auto, &machine, Some("/cuda"), &["with CUDA of `/cuda`"]);
    }

    #[test]
    fn a_machine_without_a_card_hears_nothing() {
        check(Device::Auto, &Machine { card: false, ..whole() }, None, &[]);
        check(Device::Auto, &Machine::default(), None, &[]);
        check(Device::Cpu, &whole(), None, &[]);
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let machine = Machine { driver: None, ..whole() };
        check(Device::Auto, &machine, None, &["no driver", "--gpus all"]);
        let machine = Machine { toolkits: Vec::new(), ..whole() };
        check(Device::Auto, &machine, None, &["no nvcc", "cargo xtask cuda-toolkit --full"]);
    }

    #[test]
    fn a_compiler_newer_than_the_driver_is_passed_over() {
        let old = Machine { driver_cuda: Version::parse("12.8"), ..whole() };
        check(Device::Auto, &old, None, &["CUDA 13.0", "12.8", "update the driver"]);
        check(cuda(), &old, Some("/cuda"), &["all the same", "12.8"]);
        let toolkits = vec![toolkit("/cuda", "13.0"), toolkit("/old", "12.8")];
        let two = Machine { toolkits, ..old };
        check(Device::Auto, &two, Some("/old"), &["CUDA 12.8 of `/old`"]);
    }

    #[test]
    fn who_asks_for_cuda_gets_it_without_a_card() {
        let machine = Machine { card: false, driver: None, ..whole() };
        check(cuda(), &machine, Some("/cuda"), &["CUDA 13.0 of `/cuda`"]);
        let error = choose(&cuda(), &Machine::default()).unwrap_err().to_string();
        assert!(error.contains("no nvcc") && error.contains("cargo xtask cuda-toolkit"), "{error}");
    }
}
