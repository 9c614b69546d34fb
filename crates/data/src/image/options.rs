//! Options and limits for reading images.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The default limit on the pixels of an image: 512 MiB of RGB. It is the same as Pillow's.
pub const DEFAULT_MAX_PIXELS: u64 = (512 << 20) / 3;

/// How images are read.
///
/// # Memory
/// A decoded pixel takes 3 bytes. During decoding, an image takes up to 12 more bytes per pixel, and the bytes
/// of its file. So for images of the largest allowed size, a loader needs up to `workers * max_pixels * 15`
/// bytes.
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
    /// Whether an image is turned upright as its EXIF data says (JPEG, PNG, WebP and TIFF). The default is
    /// `false`, because torchvision leaves images as stored. A network should see images in the same way as in
    /// training.
    pub exif_orientation: bool,
    /// The largest number of pixels of an image, width times height. The default is [`DEFAULT_MAX_PIXELS`]. The
    /// size in the header is checked before memory is allocated.
    pub max_pixels: u64,
    /// Reads an image at a half, a quarter or an eighth of its size, as long as its shorter side keeps at least this
    /// number of pixels. A photo of 4000x3000 pixels becomes 1000x750 for 512. The default is `None`: images are
    /// read at their full size.
    ///
    /// JPEG files are decoded at the smaller size, with the pixels of libjpeg's scaled decoding (Pillow's `draft`). That
    /// takes less time and memory. Images of other formats are averaged after decoding (Pillow's `reduce`). Where a
    /// transform scales the image down anyway, the result is nearly the same. Values below 1 count as 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduce_to: Option<usize>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { exif_orientation: false, max_pixels: DEFAULT_MAX_PIXELS, reduce_to: None }
    }
}

impl ReadOptions {
    /// Sets whether images are turned upright.
    pub fn with_exif_orientation(self, exif_orientation: bool) -> Self {
        Self { exif_orientation, ..self }
    }

    /// Sets the largest number of pixels.
    pub fn with_max_pixels(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// Sets the number of pixels that the shorter side of a reduced image keeps.
    pub fn with_reduce_to(self, reduce_to: impl Into<Option<usize>>) -> Self {
        Self { reduce_to: reduce_to.into(), ..self }
    }

    /// The whole number, 1, 2, 4 or 8, that an image of `[height, width]` is reduced by.
    pub(super) fn reduction(&self, [height, width]: [usize; 2]) -> usize {
        let Some(least) = self.reduce_to else { return 1 };
        let shorter = height.min(width);
        [8, 4, 2].into_iter().find(|factor| shorter / factor >= least.max(1)).unwrap_or(1)
    }

    /// Checks the size that a header states.
    pub(super) fn check_size(&self, width: u64, height: u64, name: &str) -> Result<()> {
        if width == 0 || height == 0 {
            let reason = format!("it has no pixels ({width}x{height})");
            return Err(super::broken(name, reason));
        }
        let max_pixels = self.max_pixels;
        if width.saturating_mul(height) <= max_pixels {
            return Ok(());
        }
        Err(Error::TooLarge { name: name.to_owned(), width, height, max_pixels })
    }

    /// The largest number of bytes that is read of a file. It is more than any image with `max_pixels` needs.
    pub(super) fn max_file_bytes(&self) -> u64 {
        self.max_pixels.saturating_mul(16).saturating_add(64 << 20)
    }
}
