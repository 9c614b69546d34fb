//! A decoded picture: 8-bit pixels, row by row, channels interleaved.

mod decode;

use std::path::Path;

use crate::error::{Error, Result};

/// The largest width or height that is decoded, in pixels.
pub const MAX_SIDE: usize = 16_384;

/// The largest decoded picture, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// A decoded picture: 8-bit pixels, row by row, one (grey) or three (RGB) interleaved channels.
///
/// # Example
/// ```
/// use candle_vision_data::Picture;
///
/// let picture = Picture::new(2, 1, 3, vec![255, 0, 0, 0, 0, 255])?;
/// assert_eq!(picture.pixel(1, 0), [0, 0, 255]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// A picture of these `pixels`, laid out `[height, width, channels]`.
    ///
    /// # Errors
    /// If a side is 0, `channels` is neither 1 nor 3, or the number of bytes does not fit.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        let bytes = width.checked_mul(height).and_then(|area| area.checked_mul(channels));
        let possible = width > 0 && height > 0 && matches!(channels, 1 | 3);
        if !possible || bytes != Some(pixels.len()) {
            return Err(Error::PictureShape { width, height, channels, bytes: pixels.len() });
        }
        Ok(Self { width, height, channels, pixels })
    }

    /// Reads and decodes a JPEG or PNG file, whatever its extension, to RGB.
    ///
    /// # Errors
    /// As [`Picture::decode`], or if the file cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
        if size > MAX_BYTES as u64 {
            let reason = format!("the file has {size} bytes, more than {MAX_BYTES}");
            return Err(Error::BrokenPicture { name: path.display().to_string(), reason });
        }
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::decode(&bytes, &path.display().to_string())
    }

    /// Decodes a JPEG or PNG to RGB; `name` is for messages.
    ///
    /// Grey, CMYK, palette and 16-bit pictures become 8-bit RGB, and alpha is dropped, as
    /// torchvision's loader (`PIL.Image.convert("RGB")`) does. Like there, the orientation that a
    /// camera notes in EXIF is ignored. Unlike there, a JPEG without its end marker is refused.
    ///
    /// # Errors
    /// If the bytes are neither JPEG nor PNG, damaged or cut off, or if the header announces more
    /// than [`MAX_SIDE`] pixels a side or [`MAX_BYTES`] in all.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self> {
        decode::decode(bytes, name)
    }

    /// A picture whose every byte is `value`; the caller vouches for the shape.
    pub(crate) fn filled(width: usize, height: usize, channels: usize, value: u8) -> Self {
        debug_assert!(width > 0 && height > 0 && matches!(channels, 1 | 3));
        Self { width, height, channels, pixels: vec![value; width * height * channels] }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 (grey) or 3 (RGB).
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All pixels, `[height, width, channels]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All pixels, to be changed in place.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// All pixels, `[height, width, channels]`.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The channels of the pixel in column `x` of row `y`.
    ///
    /// # Panics
    /// If the picture has no such pixel.
    pub fn pixel(&self, x: usize, y: usize) -> &[u8] {
        &self.row(y)[x * self.channels..][..self.channels]
    }

    /// Row `y`, `[width, channels]`.
    ///
    /// # Panics
    /// If the picture has no such row.
    pub fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * self.channels;
        &self.pixels[y * stride..][..stride]
    }

    /// Changes row `y`.
    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let stride = self.width * self.channels;
        &mut self.pixels[y * stride..][..stride]
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, height, channels, .. } = self;
        write!(f, "Picture({width}x{height}, {channels} channels)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_must_fit_the_bytes() {
        assert!(Picture::new(2, 3, 3, vec![0; 18]).is_ok());
        assert!(Picture::new(2, 3, 3, vec![0; 17]).is_err());
        assert!(Picture::new(0, 3, 3, vec![]).is_err());
        assert!(Picture::new(2, 3, 4, vec![0; 24]).is_err());
        assert!(Picture::new(usize::MAX, 2, 3, vec![0; 6]).is_err());
    }

    #[test]
    fn debug_does_not_print_the_pixels() {
        assert_eq!(format!("{:?}", Picture::filled(4, 2, 1, 0)), "Picture(4x2, 1 channels)");
    }
}
