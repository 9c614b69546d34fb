//! The remedy when a device's memory is full, as command line options.

use std::path::Path;

use candle_vision::train::Error;

/// The error with its remedy. `option` returns the option for another batch size. `last` is the last
/// checkpoint of the run, if there is one.
pub(crate) fn with_remedy(
    error: Error,
    option: impl FnOnce(usize) -> String,
    last: Option<&Path>,
) -> anyhow::Error {
    let Error::OutOfMemory { device, batch_size, source } = error else { return error.into() };
    let mut text = format!("the memory of {device} is too small for ");
    text += &match batch_size {
        0 | 1 => "one image; take a smaller network or smaller images".to_owned(),
        _ => format!("batches of {batch_size} images; try `{}`", option(batch_size / 2)),
    };
    if let Some(last) = last.filter(|last| last.is_file()) {
        text += &format!("; `{}` is whole", last.display());
    }
    anyhow::Error::from(*source).context(text)
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
        say::one_line(&with_remedy(error, option, last))
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
    fn other_errors_are_left_alone() {
        assert_eq!(line(Error::NothingToTrain, None), Error::NothingToTrain.to_string());
    }
}
