//! The device that a command runs on.

use std::sync::OnceLock;

use anyhow::{Result, bail};
use candle_core::Device;
use candle_vision::models::Precision;
use candle_vision::ops::{
    Translation, cuda_device, cuda_device_count, limit_card_memory, load_kernels,
};
use clap::Args;

use crate::machine_memory::Bytes;
use crate::say;

/// The flags that choose it, the same for every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceArgs {
    /// auto, cpu, cuda or cuda:N, cards counted from 0; auto is the first CUDA card that can be used,
    /// else the CPU
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Most memory of the card to take for tensors and graphs, for instance 8GiB [default: all that is
    /// free]
    #[arg(long, value_name = "SIZE")]
    device_memory: Option<Bytes>,
}

impl DeviceArgs {
    /// The name of the device, as it was asked for.
    pub(crate) fn name(&self) -> &str {
        &self.device
    }

    /// What --device-memory says.
    pub(crate) fn memory(&self) -> Option<Bytes> {
        self.device_memory
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If there is no such device, support for it was not built in, the driver refuses it or its limit, or a limit was given
    /// for the CPU.
    pub(crate) fn open(&self) -> Result<Device> {
        match parse(&self.device)? {
            Wanted::Cpu if self.device_memory.is_some() => bail!(
                "--device-memory limits a card's memory, and --device cpu is none; `train --memory SIZE` is for both"
            ),
            Wanted::Cpu => Ok(Device::Cpu),
            Wanted::Auto => Ok(first_card_or_cpu(self.device_memory)),
            Wanted::Cuda(ordinal) if is_built_in() => cuda(ordinal, self.device_memory),
            Wanted::Cuda(_) => bail!(
                "this program was built without CUDA; build it with the cargo feature `cuda`, as \
                 `cargo xtask experiment NAME --cuda` does, or use --device cpu"
            ),
        }
    }
}

/// The limit of the card's memory that this process set, which lasts until its end.
static LIMIT: OnceLock<Bytes> = OnceLock::new();

/// The limit of the card's memory, if there is one.
pub(crate) fn limit() -> Option<Bytes> {
    LIMIT.get().copied()
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

fn first_card_or_cpu(limit: Option<Bytes>) -> Device {
    if !is_built_in() {
        return Device::Cpu;
    }
    cuda(0, limit).unwrap_or_else(|error| {
        say::note(format_args!("{}; running on the CPU", say::one_line(&error)));
        Device::Cpu
    })
}

fn cuda(ordinal: usize, limit: Option<Bytes>) -> Result<Device> {
    // If the driver does not say how many there are, it says why when one is opened.
    if let Some(count) = cuda_device_count().ok().filter(|count| ordinal >= *count) {
        bail!("there is no CUDA card {ordinal}: {}", cards(count));
    }
    let opened = cuda_device(ordinal).and_then(|device| {
        if let Some(limit) = limit {
            limit_card_memory(&device, limit.0 as u64)?;
            let _ = LIMIT.set(limit);
        }
        load_kernels(&device, |translation| say::note(of_first_start(translation)))?;
        Ok(device)
    });
    opened.map_err(anyhow::Error::from).map_err(|error| {
        let remedy = remedy(&format!("{error:#}"));
        error.context(format!("CUDA card {ordinal} cannot be used: {remedy}"))
    })
}

/// The cards that can be asked for.
fn cards(count: usize) -> String {
    match count {
        0 => "this process sees none; look at `nvidia-smi -L` and CUDA_VISIBLE_DEVICES".to_owned(),
        1 => "there is one, cuda:0".to_owned(),
        _ => format!("there are {count}, cuda:0 to cuda:{}", count - 1),
    }
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
    fn a_cpu_is_no_card_with_a_limit() {
        let device_memory = Some(Bytes(1 << 30));
        let args = DeviceArgs { device: "cpu".to_owned(), device_memory };
        let error = args.open().expect_err("a CPU").to_string();
        assert!(error.contains("--device-memory") && error.contains("--memory SIZE"), "{error}");
    }

    #[test]
    fn the_cards_to_choose_from_are_named() {
        assert!(cards(0).contains("CUDA_VISIBLE_DEVICES"));
        assert_eq!(cards(1), "there is one, cuda:0");
        assert_eq!(cards(4), "there are 4, cuda:0 to cuda:3");
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
