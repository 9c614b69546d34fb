//! The device that a command runs on.

use anyhow::{Context, Result, bail};
use candle_core::Device;

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

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_device_that_is_none_gets_the_list() {
        let error = parse("gpu").expect_err("`gpu` is no device");
        assert!(error.to_string().contains("auto, cpu, cuda"), "{error}");
    }
}
