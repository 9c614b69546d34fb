//! What may be read, and how.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How many pixels an image may have unless told otherwise: 512 MiB of RGB. Pillow draws the same
/// line.
pub const DEFAULT_MAX_PIXELS: u64 = (512 << 20) / 3;

/// How images are read.
///
/// # Memory
/// A decoded pixel takes 3 bytes. While it is decoded, an image takes up to 12 bytes more for each
/// pixel, and its file's bytes; so a loader needs up to `workers * max_pixels * 15` bytes for the
/// largest images that are allowed.
///
/// # Example
/// ```
/// use candle_vision_data::{Error, Image, ReadOptions};
///
/// // A PBM image of 100x100 pixels, of which only the header is looked at.
/// let options = ReadOptions::default().with_max_pixels(5_000);
/// let error = Image::decode_with(b"P4\n100 100\n", "big.pbm", &options).unwrap_err();
/// assert!(matches!(error, Error::TooLarge { width: 100, max_pixels: 5_000, .. }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Whether an image is turned upright as its EXIF data says (JPEG, PNG, WebP and TIFF). Off by
    /// default: torchvision leaves images as they are stored. A network should be shown images in
    /// the way it was trained on.
    pub exif_orientation: bool,
    /// How many pixels an image may have, width times height; [`DEFAULT_MAX_PIXELS`] by default.
    /// What the header announces is checked before memory is asked for.
    pub max_pixels: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { exif_orientation: false, max_pixels: DEFAULT_MAX_PIXELS }
    }
}

impl ReadOptions {
    /// The same, with images turned upright or not.
    pub fn with_exif_orientation(self, exif_orientation: bool) -> Self {
        Self { exif_orientation, ..self }
    }

    /// The same with another limit.
    pub fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// Checks a size that a header announces.
    pub(super) fn check_size(&self, width: u64, height: u64, name: &str) -> Result<()> {
        let max_pixels = self.max_pixels;
        if width.saturating_mul(height) <= max_pixels {
            return Ok(());
        }
        Err(Error::TooLarge { name: name.to_owned(), width, height, max_pixels })
    }

    /// How many bytes a file may have: more than any image of so many pixels can need.
    pub(super) fn max_file_bytes(&self) -> u64 {
        self.max_pixels.saturating_mul(16).saturating_add(64 << 20)
    }
}
