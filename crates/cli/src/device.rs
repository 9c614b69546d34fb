//! The device that a command runs on.

use anyhow::{Result, bail};
use candle_core::Device;
use candle_vision::models::Precision;
use candle_vision::ops::{Translation, cuda_device, load_kernels};
use clap::Args;

use crate::say;

/// The flag that chooses it, the same for every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceArgs {
    /// auto, cpu, cuda or cuda:N, cards counted from 0; auto is the first CUDA card that can be used,
    /// else the CPU
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

impl DeviceArgs {
    /// The name of the device, as it was asked for.
    pub(crate) fn name(&self) -> &str {
        &self.device
    }

    /// Opens the device of a process that is one of several: of cards that were not counted, that with the number of the
    /// process on its computer.
    ///
    /// # Errors
    /// As [`DeviceArgs::open`].
    pub(crate) fn open_of(&self, card: Option<usize>) -> Result<Device> {
        match (parse(&self.device)?, card) {
            (Wanted::Auto, Some(card)) if card > 0 && first_card_or_cpu().is_cuda() => cuda(card),
            (Wanted::Cuda(0), Some(card)) if self.device == "cuda" && is_built_in() => cuda(card),
            _ => self.open(),
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If there is no such device, support for it was not built in, or the driver refuses it.
    pub(crate) fn open(&self) -> Result<Device> {
        match parse(&self.device)? {
            Wanted::Cpu => Ok(Device::Cpu),
            Wanted::Auto => Ok(first_card_or_cpu()),
            Wanted::Cuda(ordinal) if is_built_in() => cuda(ordinal),
            Wanted::Cuda(_) => bail!(
                "this program was built without CUDA; build it with the cargo feature `cuda`, as \
                 `cargo xtask experiment NAME --cuda` does, or use --device cpu"
            ),
        }
    }
}

/// A device that need not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cpu,
    /// A CUDA card, counted from 0.
    Cuda(usize),
}

impl Place {
    /// The device of this name. `auto` is the first card if this program was built for cards, else the CPU.
    ///
    /// # Errors
    /// If the name is not that of a device.
    pub(crate) fn named(name: &str) -> Result<Self> {
        Ok(match parse(name)? {
            Wanted::Cpu => Self::Cpu,
            Wanted::Auto if is_built_in() => Self::Cuda(0),
            Wanted::Auto => Self::Cpu,
            Wanted::Cuda(ordinal) => Self::Cuda(ordinal),
        })
    }
}

/// A device by name.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Auto,
    Cpu,
    Cuda(usize),
}

fn parse(name: &str) -> Result<Wanted> {
    match name {
        "auto" => Ok(Wanted::Auto),
        "cpu" => Ok(Wanted::Cpu),
        "cuda" => Ok(Wanted::Cuda(0)),
        _ => match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(ordinal)) => Ok(Wanted::Cuda(ordinal)),
            _ => bail!("`{name}` is no device; use auto, cpu, cuda or cuda:N"),
        },
    }
}

fn is_built_in() -> bool {
    candle_core::utils::cuda_is_available()
}

fn first_card_or_cpu() -> Device {
    if !is_built_in() {
        return Device::Cpu;
    }
    cuda(0).unwrap_or_else(|error| {
        say::note(format_args!("{}; running on the CPU", say::one_line(&error)));
        Device::Cpu
    })
}

fn cuda(ordinal: usize) -> Result<Device> {
    let opened = cuda_device(ordinal).and_then(|device| {
        load_kernels(&device, |translation| say::note(of_first_start(translation)))?;
        Ok(device)
    });
    opened.map_err(anyhow::Error::from).map_err(|error| {
        let remedy = remedy(&format!("{error:#}"));
        error.context(format!("CUDA card {ordinal} cannot be used: {remedy}"))
    })
}

/// Explains why the first start on a machine takes long.
fn of_first_start(Translation { kernels, ours_too }: Translation) -> String {
    let more = if ours_too { " and this program's own" } else { "" };
    format!(
        "the driver compiles {kernels} kernels{more} for this card, once; this can take half a minute"
    )
}

/// The remedy for an error of the driver, found by the error's name.
fn remedy(error: &str) -> &'static str {
    const TOO_OLD: &str = "this program has no code for it; build with CUDA_COMPUTE_CAP set to the \
                           card's compute capability, such as 75";
    const REMEDIES: [(&str, &str); 8] = [
        ("CUDA_ERROR_NO_BINARY_FOR_GPU", TOO_OLD),
        ("CUDA_ERROR_INVALID_PTX", TOO_OLD),
        ("CUDA_ERROR_INVALID_DEVICE", "there are not so many; `nvidia-smi -L` lists them"),
        (
            "CUDA_ERROR_NO_DEVICE",
            "the driver sees no card; look at `nvidia-smi -L` and CUDA_VISIBLE_DEVICES",
        ),
        ("CUDA_ERROR_STUB_LIBRARY", "libcuda.so.1 is the stub for building; install the driver"),
        (
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            "the driver was updated; restart the machine or the container",
        ),
        (
            "CUDA_ERROR_INSUFFICIENT_DRIVER",
            "the driver is older than this program's CUDA; update it",
        ),
        ("CUDA_ERROR_OUT_OF_MEMORY", "its memory is full; `nvidia-smi` says of what"),
    ];
    let found = REMEDIES.iter().find(|(name, _)| error.contains(name));
    found.map_or("look at `nvidia-smi`, or use --device cpu", |(_, remedy)| remedy)
}

/// Prints notes on computing in `precision` on this device.
pub(crate) fn tell_of_precision(precision: Precision, device: &Device) {
    if device.is_cpu() && precision != Precision::F32 {
        say::note(format_args!(
            "{precision} on a CPU is computed in f32 and rounded: right, but slower than f32"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_go_by_name() -> Result<()> {
        let known = [
            ("auto", Wanted::Auto),
            ("cpu", Wanted::Cpu),
            ("cuda", Wanted::Cuda(0)),
            ("cuda:3", Wanted::Cuda(3)),
        ];
        for (name, device) in known {
            assert_eq!(parse(name)?, device);
        }
        for name in ["gpu", "", "cuda:", "cuda:-1", "cuda:x", "cuda3"] {
            let error = parse(name).expect_err("this is no device").to_string();
            assert!(error.contains("auto, cpu, cuda or cuda:N"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn a_first_start_is_told_in_one_line() {
        let of = |ours_too| of_first_start(Translation { kernels: 540, ours_too });
        assert!(of(false).contains("compiles 540 kernels for this card, once"), "{}", of(false));
        assert!(of(true).contains("540 kernels and this program's own"), "{}", of(true));
    }

    #[test]
    fn the_driver_s_errors_get_a_remedy() {
        let error = r#"DriverError(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")"#;
        assert!(remedy(error).contains("nvidia-smi -L"));
        assert!(remedy("CUDA_ERROR_NO_DEVICE").contains("CUDA_VISIBLE_DEVICES"));
        assert!(remedy("CUDA_ERROR_NO_BINARY_FOR_GPU").contains("CUDA_COMPUTE_CAP"));
        assert!(remedy("something else").contains("--device cpu"));
    }
}
