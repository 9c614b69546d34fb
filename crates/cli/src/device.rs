//! The device that a command runs on.

use anyhow::{Result, bail};
use candle_core::Device;
use candle_vision::models::Precision;
use candle_vision::ops::cuda_device;
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
    /// Makes the device ready.
    ///
    /// # Errors
    /// If there is no such device, it was not built in, or the driver does not give it.
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
    cuda_device(ordinal).map_err(anyhow::Error::from).map_err(|error| {
        let remedy = remedy(&format!("{error:#}"));
        error.context(format!("CUDA card {ordinal} cannot be used: {remedy}"))
    })
}

/// What to do about an error of the driver, which is known by its name.
fn remedy(error: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 6] = [
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

/// Says what there is to know about computing in `precision` there.
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
    fn the_driver_s_errors_get_a_remedy() {
        let error = r#"DriverError(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")"#;
        assert!(remedy(error).contains("nvidia-smi -L"));
        assert!(remedy("CUDA_ERROR_NO_DEVICE").contains("CUDA_VISIBLE_DEVICES"));
        assert!(remedy("something else").contains("--device cpu"));
    }
}
