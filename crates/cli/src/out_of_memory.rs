//! The remedy when a device's memory is full, as command line options.

use std::fmt;
use std::path::Path;

use candle_vision::train::{Error, is_out_of_memory};

use crate::device;
use crate::machine_memory::Bytes;

/// What the user is told. It marks an error that has its remedy.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error with its remedy. `option` returns the option for another batch size. `limit` is that of the card's memory.
/// `last` is the last checkpoint of the run, if there is one.
pub(crate) fn with_remedy(
    error: Error,
    option: impl FnOnce(usize) -> String,
    limit: Option<Bytes>,
    last: Option<&Path>,
) -> anyhow::Error {
    let Error::OutOfMemory { device, batch_size, source } = error else { return error.into() };
    let mut text = too_small(&device, limit, batch_size, option);
    if let Some(last) = last.filter(|last| last.is_file()) {
        text += &format!("; `{}` is whole", last.display());
    }
    anyhow::Error::from(*source).context(Told(text))
}

/// Returns the error of a batch of `batch_size` images unless the memory was too small.
///
/// # Errors
/// If it was: the error with its remedy.
pub(crate) fn unless_full(
    error: anyhow::Error,
    batch_size: usize,
) -> anyhow::Result<anyhow::Error> {
    if !is_out_of_memory(error.as_ref()) {
        return Ok(error);
    }
    let option = |batch_size| format!("--batch-size {batch_size}");
    Err(error.context(Told(too_small("the card", device::limit(), batch_size, option))))
}

/// The error of a command with its remedy, if it has none yet.
pub(crate) fn of_command(error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<Told>().is_some() || !is_out_of_memory(error.as_ref()) {
        return error;
    }
    let memory = memory("the card", device::limit());
    error.context(Told(format!("{memory} is too small; take a smaller network or smaller images")))
}

fn too_small(
    device: &str,
    limit: Option<Bytes>,
    batch_size: usize,
    option: impl FnOnce(usize) -> String,
) -> String {
    let memory = memory(device, limit);
    match batch_size {
        0 | 1 => {
            format!("{memory} is too small for one image; take a smaller network or smaller images")
        }
        _ => format!(
            "{memory} is too small for batches of {batch_size} images; try `{}`",
            option(batch_size / 2)
        ),
    }
}

fn memory(device: &str, limit: Option<Bytes>) -> String {
    match limit {
        None => format!("the memory of {device}"),
        Some(limit) => format!("the limit of --device-memory, {limit} of {device},"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say;

    fn full(batch_size: usize) -> Error {
        let said = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let source = Box::new(Error::Tensor(candle_core::Error::Cuda(said.into())));
        Error::OutOfMemory { device: "cuda:0".to_owned(), batch_size, source }
    }

    fn line(error: Error, last: Option<&Path>) -> String {
        let option = |batch_size| format!("--batch-size {batch_size}");
        say::one_line(&with_remedy(error, option, None, last))
    }

    #[test]
    fn the_batch_size_the_option_the_device_and_the_checkpoint_are_named() {
        let last = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(
            line(full(64), Some(&last)),
            format!(
                "the memory of cuda:0 is too small for batches of 64 images; try \
                 `--batch-size 32`; `{}` is whole: \
                 DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
                last.display()
            )
        );
        let missing = line(full(3), Some(Path::new("no/last.safetensors")));
        assert!(missing.contains("--batch-size 1`: DriverError"), "{missing}");
    }

    #[test]
    fn there_is_no_smaller_batch_than_one_image() {
        let line = line(full(1), None);
        assert!(line.contains("for one image; take a smaller network"), "{line}");
    }

    #[test]
    fn a_limit_is_named_as_what_it_is() {
        let option = |batch_size| format!("--batch-size {batch_size}");
        let line = say::one_line(&with_remedy(full(64), option, Some(Bytes(2 << 30)), None));
        let expected = "the limit of --device-memory, 2.0 GiB of cuda:0, is too small for batches of 64 images; try \
                        `--batch-size 32`: ";
        assert!(line.starts_with(expected), "{line}");
    }

    #[test]
    fn every_command_says_it_once() {
        let error = || anyhow::Error::from(full(64)).context("in a map");
        let line = say::one_line(&of_command(error()));
        let remedy = "the memory of the card is too small; take a smaller network";
        assert!(line.starts_with(remedy) && line.contains("in a map"), "{line}");
        let told = unless_full(error(), 8).expect_err("it is out of memory");
        let line = say::one_line(&of_command(told));
        assert!(line.starts_with("the memory of the card is too small for batches of 8"), "{line}");
        assert_eq!(line.matches("too small for batches of 8").count(), 1, "{line}");
        assert!(unless_full(anyhow::anyhow!("shapes differ"), 8).is_ok());
    }

    #[test]
    fn other_errors_are_left_alone() {
        assert_eq!(line(Error::NothingToTrain, None), Error::NothingToTrain.to_string());
    }
}
