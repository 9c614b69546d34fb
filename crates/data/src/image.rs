//! A decoded image: 8-bit pixels, row by row, channels interleaved.

mod decode;
mod exif;
mod format;
mod gif;
mod jpeg;
mod options;
mod tiff;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use format::Format;
pub use options::{DEFAULT_MAX_PIXELS, ReadOptions};

use crate::error::{Error, Result};

/// The largest width or height, in pixels, that drawings are made in and transforms give. Images
/// that are read may be longer: see [`ReadOptions::max_pixels`].
pub const MAX_SIDE: usize = 16_384;

/// The largest result of a transform, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// A decoded image: 8-bit pixels, row by row, one (grey) or three (RGB) interleaved channels.
///
/// # Example
/// ```
/// use candle_vision_data::Image;
///
/// let image = Image::new(2, 1, 3, vec![255, 0, 0, 0, 0, 255])?;
/// assert_eq!(image.pixel(1, 0), [0, 0, 255]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// An image of these `pixels`, laid out `[height, width, channels]`.
    ///
    /// # Errors
    /// If a side is 0, `channels` is neither 1 nor 3, or the number of bytes does not fit.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Result<Self> {
        let bytes = width.checked_mul(height).and_then(|area| area.checked_mul(channels));
        let possible = width > 0 && height > 0 && matches!(channels, 1 | 3);
        if !possible || bytes != Some(pixels.len()) {
            return Err(Error::ImageShape { width, height, channels, bytes: pixels.len() });
        }
        Ok(Self { width, height, channels, pixels })
    }

    /// Reads and decodes an image file to RGB, with the default [`ReadOptions`].
    ///
    /// # Errors
    /// As [`Image::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ReadOptions::default())
    }

    /// Reads and decodes an image file to RGB. What it holds is told by its content, not by its
    /// name.
    ///
    /// # Errors
    /// As [`Image::decode_with`], or if the file cannot be read.
    pub fn open_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let mut file = File::open(path).map_err(Error::io(path))?;
        let size = file.metadata().map_err(Error::io(path))?.len();
        // Of a film or an archive under a photo's name, only the beginning is read.
        let mut bytes = Vec::new();
        let head = file.by_ref().take(format::HEAD as u64).read_to_end(&mut bytes);
        head.map_err(Error::io(path))?;
        decode::known_format(&bytes, &name)?;
        if size > options.max_file_bytes() {
            let most = options.max_pixels;
            let reason = format!(
                "the file has {size} bytes, more than {most} pixels (`max_pixels`) can need"
            );
            return Err(broken(&name, reason));
        }
        file.read_to_end(&mut bytes).map_err(Error::io(path))?;
        Self::decode_with(&bytes, &name, options)
    }

    /// Decodes an image to RGB, with the default [`ReadOptions`]; `name` is for messages.
    ///
    /// # Errors
    /// As [`Image::decode_with`].
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self> {
        Self::decode_with(bytes, name, &ReadOptions::default())
    }

    /// Decodes an image to RGB; `name` is for messages. [`Format`] lists what is read.
    ///
    /// Grey, CMYK, palettes and 1 to 16 bits become 8-bit RGB, and alpha is dropped without
    /// blending, as torchvision's loader (`PIL.Image.convert("RGB")`) does. Colour profiles are
    /// ignored, as there. Of animations and documents of several pages the first is read.
    ///
    /// # What is promised of damaged JPEG files
    /// A file that lacks its end marker is refused; so is one whose coded data does not suffice for
    /// all its blocks (Pillow fills them with grey), one whose coded data holds an impossible code,
    /// and one that lacks scans or restart markers. Bytes between segments that belong to none are
    /// passed over. Damage that leaves a possible image of the right size cannot be noticed: JPEG has
    /// no checksums.
    ///
    /// # Errors
    /// If the bytes are of a format that is not read, damaged or cut off, or if the header announces
    /// more pixels than [`ReadOptions::max_pixels`].
    pub fn decode_with(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<Self> {
        decode::decode(bytes, name, options)
    }

    /// An image whose every byte is `value`; the caller vouches for the shape.
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
    /// If the image has no such pixel.
    pub fn pixel(&self, x: usize, y: usize) -> &[u8] {
        &self.row(y)[x * self.channels..][..self.channels]
    }

    /// Row `y`, `[width, channels]`.
    ///
    /// # Panics
    /// If the image has no such row.
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

fn broken(name: &str, reason: impl AsRef<str>) -> Error {
    // Some reasons of the decoders end in a line break.
    let reason = reason.as_ref().split_whitespace().collect::<Vec<_>>().join(" ");
    Error::BrokenImage { name: name.to_owned(), reason }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { width, height, channels, .. } = self;
        write!(f, "Image({width}x{height}, {channels} channels)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_must_fit_the_bytes() {
        assert!(Image::new(2, 3, 3, vec![0; 18]).is_ok());
        assert!(Image::new(2, 3, 3, vec![0; 17]).is_err());
        assert!(Image::new(0, 3, 3, vec![]).is_err());
        assert!(Image::new(2, 3, 4, vec![0; 24]).is_err());
        assert!(Image::new(usize::MAX, 2, 3, vec![0; 6]).is_err());
    }

    #[test]
    fn debug_does_not_print_the_pixels() {
        assert_eq!(format!("{:?}", Image::filled(4, 2, 1, 0)), "Image(4x2, 1 channels)");
    }
}
