//! A decoded image: 8-bit pixels, row by row, channels interleaved.

mod decode;
mod details;
mod directory;
mod exif;
mod format;
mod gif;
mod jpeg;
mod options;
mod reduce;
mod tiff;
mod webp;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use details::{ColorMode, ImageDetails};
pub use format::Format;
pub use options::{DEFAULT_MAX_PIXELS, ReadOptions};

use crate::error::{Error, Result};
use crate::transforms::functional;

/// The largest width or height of drawings and of the results of transforms, in pixels. Images that are read
/// may be larger: see [`ReadOptions::max_pixels`].
pub const MAX_SIDE: usize = 16_384;

/// The largest result of a transform, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// Chooses the part `[top, left, height, width]` of an image of `[height, width]` pixels.
pub type ChoosePart<'a> = dyn FnMut([usize; 2]) -> [usize; 4] + 'a;

/// What was decoded of an image.
enum Extent {
    Whole,
    Part,
}

/// The part of an image that is chosen.
pub(crate) fn part_of(image: &Image, choose: &mut ChoosePart<'_>) -> Result<Image> {
    let [top, left, height, width] = choose([image.height(), image.width()]);
    functional::crop(image, top, left, height, width)
}

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
    /// An image from `pixels`, in the layout `[height, width, channels]`.
    ///
    /// # Errors
    /// If a side is 0, if `channels` is neither 1 nor 3, or if the number of bytes does not match.
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
    /// Those of [`Image::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &ReadOptions::default())
    }

    /// Reads and decodes an image file to RGB. The content determines the format, not the file name.
    ///
    /// # Errors
    /// Those of [`Image::decode_with`], or if the file cannot be read.
    pub fn open_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Self> {
        let path = path.as_ref();
        let bytes = Self::read_file(path, options)?;
        Self::decode_with(&bytes, &path.display().to_string(), options)
    }

    /// The bytes of an image file. A file that cannot be an image is not read whole.
    pub(crate) fn read_file(path: &Path, options: &ReadOptions) -> Result<Vec<u8>> {
        let name = path.display().to_string();
        let mut file = File::open(path).map_err(Error::io(path))?;
        let size = file.metadata().map_err(Error::io(path))?.len();
        // A film or an archive may have the name of a photo. Of such a file only the beginning is read.
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
        Ok(bytes)
    }

    /// Reads the part of an image file that `choose` takes: from height and width, top, left, height and width of the part.
    /// `choose` is called once. The pixels are those of the same part of [`Image::open_with`]. Of a JPEG file only this part
    /// is computed.
    ///
    /// # Errors
    /// Those of [`Image::open_with`], or if the part is empty or not inside the image.
    ///
    /// # Example
    /// ```no_run
    /// use candle_vision_data::{Image, ReadOptions};
    ///
    /// let upper_half = &mut |[height, width]: [usize; 2]| [0, 0, (height / 2).max(1), width];
    /// let image = Image::open_part_with("photo.jpg", &ReadOptions::default(), upper_half)?;
    /// # Ok::<(), candle_vision_data::Error>(())
    /// ```
    pub fn open_part_with(
        path: impl AsRef<Path>,
        options: &ReadOptions,
        choose: &mut ChoosePart<'_>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let bytes = Self::read_file(path, options)?;
        Self::decode_part_with(&bytes, &path.display().to_string(), options, choose)
    }

    /// As [`Image::open_part_with`], for the bytes of a file. Messages call the image `name`.
    ///
    /// # Errors
    /// Those of [`Image::decode_with`], or if the part is empty or not inside the image.
    pub fn decode_part_with(
        bytes: &[u8],
        name: &str,
        options: &ReadOptions,
        choose: &mut ChoosePart<'_>,
    ) -> Result<Self> {
        decode::decode_part(bytes, name, options, choose)
    }

    /// Decodes an image to RGB, with the default [`ReadOptions`]. Messages call the image `name`.
    ///
    /// # Errors
    /// Those of [`Image::decode_with`].
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self> {
        Self::decode_with(bytes, name, &ReadOptions::default())
    }

    /// Decodes an image to RGB. Messages call the image `name`. [`Format`] lists the supported formats.
    ///
    /// Grey, CMYK, palettes and 1 to 16 bits become 8-bit RGB. Alpha is dropped without blending, and colour
    /// profiles are ignored. torchvision's loader (`PIL.Image.convert("RGB")`) does the same. Of animations and
    /// documents with several pages, the first is read.
    ///
    /// # Damaged JPEG files
    /// These files are errors:
    ///
    /// - files without an end marker
    /// - files whose coded data is too short for all blocks (Pillow fills these with grey)
    /// - files whose coded data contains an impossible code
    /// - files that lack scans or restart markers
    ///
    /// Stray bytes between segments are skipped. Damage that results in a possible image of the right size
    /// cannot be detected, because JPEG has no checksums.
    ///
    /// # Errors
    /// If the format is not supported, if the image is damaged or cut off, or if the header states more pixels
    /// than [`ReadOptions::max_pixels`].
    pub fn decode_with(bytes: &[u8], name: &str, options: &ReadOptions) -> Result<Self> {
        Ok(Self::decode_with_details(bytes, name, options)?.0)
    }

    /// As [`Image::decode_with`], with what the file says of itself.
    ///
    /// # Errors
    /// Those of [`Image::decode_with`].
    pub fn decode_with_details(
        bytes: &[u8],
        name: &str,
        options: &ReadOptions,
    ) -> Result<(Self, ImageDetails)> {
        let (image, orientation, format) = decode::decode(bytes, name, options)?;
        Ok((image, ImageDetails::of(bytes, format, orientation)))
    }

    /// An image in which every byte is `value`. The caller ensures that the shape is possible.
    /// All pixels of one colour. Grey images take the first value.
    pub(crate) fn colored(width: usize, height: usize, channels: usize, color: [u8; 3]) -> Self {
        let [red, green, blue] = color;
        if channels == 1 || (red == green && green == blue) {
            return Self::filled(width, height, channels, red);
        }
        Self { width, height, channels, pixels: color.repeat(width * height) }
    }

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

    /// Number of channels: 1 (grey) or 3 (RGB).
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All pixels, `[height, width, channels]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All pixels, `[height, width, channels]`, for changes in place.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// All pixels, `[height, width, channels]`.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The channels of the pixel in column `x` and row `y`, both counted from 0.
    ///
    /// # Panics
    /// If the image has no such pixel.
    pub fn pixel(&self, x: usize, y: usize) -> &[u8] {
        &self.row(y)[x * self.channels..][..self.channels]
    }

    /// Row `y`, counted from 0, as `[width, channels]`.
    ///
    /// # Panics
    /// If the image has no such row.
    pub fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * self.channels;
        &self.pixels[y * stride..][..stride]
    }

    /// Row `y`, for changes in place.
    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let stride = self.width * self.channels;
        &mut self.pixels[y * stride..][..stride]
    }
}

fn broken(name: &str, reason: impl AsRef<str>) -> Error {
    // Some reasons of the decoders end with a line break.
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
