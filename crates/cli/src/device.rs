//! The device that a command runs on.

use anyhow::{Context, Result, bail};
use candle_core::Device;
use candle_vision::models::Precision;

use crate::say;

/// `auto`, `cpu`, `cuda` or `cuda:N`.
pub(crate) fn parse(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => Device::cuda_if_available(0).context("cannot use the first CUDA device"),
        "cuda" => cuda(0),
        _ => match name.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(ordinal)) => cuda(ordinal),
            _ => bail!("`{name}` is no device; use auto, cpu, cuda or cuda:N"),
        },
    }
}

fn cuda(ordinal: usize) -> Result<Device> {
    if !candle_core::utils::cuda_is_available() {
        bail!(
            "this program was built without CUDA; build it with `--features cuda`, or use --device cpu"
        )
    }
    Device::new_cuda(ordinal).with_context(|| format!("cannot use CUDA device {ordinal}"))
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
    use super::parse;

    #[test]
    fn a_device_that_is_none_gets_the_list() {
        let error = parse("gpu").expect_err("`gpu` is no device");
        assert!(error.to_string().contains("auto, cpu, cuda"), "{error}");
    }
}
