//! From the bytes of a file to an image.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::ico::IcoDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::pnm::PnmDecoder;
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, Limits};

use super::exif::Orientation;
use super::reduce::reduce;
use super::{
    ChoosePart, Extent, Format, Image, ReadOptions, broken, gif, jpeg, part_of, tiff, webp,
};
use crate::error::{Error, Result};
use crate::foreign;

/// Decodes a part of an image, reduced and turned upright if the options say so. Formats other than JPEG are decoded whole first.
pub(super) fn decode_part(
    bytes: &[u8],
    name: &str,
    options: &ReadOptions,
    choose: &mut ChoosePart<'_>,
) -> Result<Image> {
    if known_format(bytes, name)? == Format::Jpeg {
        let (image, orientation, extent) = jpeg::decode(bytes, name, options, Some(choose))?;
        return match extent {
            Extent::Part => Ok(image),
            Extent::Whole => part_of(&orientation.apply(image), choose),
        };
    }
    part_of(&decode(bytes, name, options)?.0, choose)
}

/// Decodes an image, reduced and turned upright if the options say so. Also gives its orientation as stored, and its format.
pub(super) fn decode(
    bytes: &[u8],
    name: &str,
    options: &ReadOptions,
) -> Result<(Image, Orientation, Format)> {
    let format = known_format(bytes, name)?;
    let (image, orientation) = if format == Format::Jpeg {
        let (image, orientation, _) = jpeg::decode(bytes, name, options, None)?;
        (image, orientation)
    } else {
        let read = foreign::guarded(|| decode_foreign(format, bytes, name, options));
        read.unwrap_or_else(|| Err(broken(name, "it is damaged: the decoder gave up")))?
    };
    // JPEG files were decoded at their reduced size.
    let factor = options.reduction([image.height(), image.width()]);
    let image = if format == Format::Jpeg || factor == 1 { image } else { reduce(&image, factor) };
    let image = if options.exif_orientation { orientation.apply(image) } else { image };
    Ok((image, orientation, format))
}

/// Decodes an image of a format that other projects decode.
fn decode_foreign(
    format: Format,
    bytes: &[u8],
    name: &str,
    options: &ReadOptions,
) -> Result<(Image, Orientation)> {
    let failed = |error: ImageError| broken(name, error.to_string());
    let source = Cursor::new(bytes);
    match format {
        Format::Tiff => tiff::decode(bytes, name, options),
        Format::Png => {
            let decoder = PngDecoder::with_limits(source, limits(options)).map_err(failed)?;
            finish(decoder, name, options)
        }
        Format::WebP => {
            if let Some([width, height]) = webp::larger_frame(bytes) {
                let problem = "pixels, which is larger than the image";
                return Err(broken(name, format!("a frame has {width}x{height} {problem}")));
            }
            finish(WebPDecoder::new(source).map_err(failed)?, name, options)
        }
        Format::Gif => Ok((gif::decode(bytes, name, options)?, Orientation::default())),
        Format::Bmp => finish(BmpDecoder::new(source).map_err(failed)?, name, options),
        Format::Pnm => finish(PnmDecoder::new(source).map_err(failed)?, name, options),
        Format::Ico => finish(IcoDecoder::new(source).map_err(failed)?, name, options),
        other => Err(unreadable(other, name)),
    }
}

/// The format of these bytes. An error if it is not supported.
pub(super) fn known_format(bytes: &[u8], name: &str) -> Result<Format> {
    match Format::of_content(bytes) {
        Some(format) if format.is_readable() => Ok(format),
        Some(format) => Err(unreadable(format, name)),
        None if bytes.is_empty() => Err(broken(name, "the file is empty")),
        None => Err(broken(name, "it does not begin like an image of any known format")),
    }
}

fn unreadable(format: Format, name: &str) -> Error {
    if format.is_image() {
        return Error::UnreadableFormat { name: name.to_owned(), format };
    }
    broken(name, format!("it does not begin like an image: it holds {format}"))
}

/// Decodes the pixels after the header. Alpha is dropped, and 16 bits become 8.
fn finish(
    mut decoder: impl ImageDecoder,
    name: &str,
    options: &ReadOptions,
) -> Result<(Image, Orientation)> {
    let failed = |error: ImageError| broken(name, error.to_string());
    let (width, height) = decoder.dimensions();
    options.check_size(u64::from(width), u64::from(height), name)?;
    decoder.set_limits(limits(options)).map_err(failed)?;
    // A photo is complete even if its EXIF data cannot be read.
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = exif.map_or_else(Orientation::default, |data| Orientation::of_exif(&data));
    let pixels = DynamicImage::from_decoder(decoder).map_err(failed)?.into_rgb8().into_raw();
    Ok((Image::new(width as usize, height as usize, 3, pixels)?, orientation))
}

/// The memory that a decoder may allocate. 16-bit RGBA takes 8 bytes per pixel, and some decoders need a second
/// buffer of the same size.
fn limits(options: &ReadOptions) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.max_pixels.saturating_mul(16).saturating_add(16 << 20));
    limits
}
