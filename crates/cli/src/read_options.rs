//! How image files are read.

use anyhow::{Context, Result};
use candle_vision::data::{Error as DataError, ReadOptions};

/// The environment variable that limits the number of pixels per image.
const MAX_PIXELS: &str = "CANDLE_VISION_MAX_PIXELS";

/// The options that the environment sets.
pub(crate) fn read_options() -> Result<ReadOptions> {
    let options = ReadOptions::default();
    match std::env::var(MAX_PIXELS) {
        Ok(text) if !text.is_empty() => {
            let most = text.parse();
            let most = most.with_context(|| {
                format!("{MAX_PIXELS} is `{text}`, which is no number of pixels")
            })?;
            Ok(options.with_max_pixels(most))
        }
        _ => Ok(options),
    }
}

/// Adds the command line's remedy to an error about an image that the user named.
pub(crate) fn with_remedy(error: candle_vision::Error) -> anyhow::Error {
    match error {
        candle_vision::Error::Data(DataError::UnreadableFormat { name, format, .. }) => {
            anyhow::anyhow!(
                "`{name}` holds {format}, which cannot be read; convert it to JPEG or PNG"
            )
        }
        candle_vision::Error::Data(DataError::TooLarge {
            name, width, height, max_pixels, ..
        }) => {
            anyhow::anyhow!(
                "`{name}` is too large: {width}x{height} pixels, {pixels} in all, where {max_pixels} are \
                 allowed; raise that with the environment variable {MAX_PIXELS}={pixels}, or make the \
                 image smaller",
                pixels = width.saturating_mul(height)
            )
        }
        error => error.into(),
    }
}
