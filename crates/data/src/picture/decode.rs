//! Strict decoding. The `image` crate gives a grey rest and `Ok` for a JPEG that was cut off, so
//! JPEG goes to zune-jpeg (the engine under `image`) in its strict mode, with a check on top.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, Limits};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{MAX_BYTES, MAX_SIDE, Picture};
use crate::error::{Error, Result};

const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];
const CUT_OFF: &str = "it was cut off before its end marker";

pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Picture> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => decode_jpeg(bytes, name),
        Ok(ImageFormat::Png) => decode_png(bytes, name),
        Ok(other) => {
            let format = other.extensions_str().first().copied().unwrap_or("unknown");
            Err(broken(name, format!("it is a {} file, not JPEG or PNG", format.to_uppercase())))
        }
        Err(_) if bytes.is_empty() => Err(broken(name, "the file is empty")),
        Err(_) => Err(broken(name, "it does not begin like a JPEG or PNG file")),
    }
}

fn decode_jpeg(bytes: &[u8], name: &str) -> Result<Picture> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        // Larger sides than a JPEG can have: the limits are checked below, with a message of ours.
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| {
        let is_cut = !bytes.windows(2).any(|pair| pair == END_OF_IMAGE);
        let reason = if is_cut { CUT_OFF.to_owned() } else { error.to_string() };
        broken(name, reason)
    })?;
    let (width, height) =
        decoder.dimensions().ok_or_else(|| broken(name, "its header gives no size"))?;
    check_limits(width as u64, height as u64, name)?;
    // The decoder may run up to four bytes past the data in the last row before it notices, and a
    // progressive file that was cut between two scans looks whole; both lack the end marker.
    if !has_end_of_image(bytes) {
        return Err(broken(name, CUT_OFF));
    }
    let pixels = decoder.decode().map_err(|error| broken(name, error.to_string()))?;
    Picture::new(width, height, 3, pixels)
}

/// Whether an end-of-image marker follows the first scan. Coded data cannot contain it; the
/// segments in front (thumbnails) can, so they are stepped over by their lengths.
fn has_end_of_image(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    let mut at = 2;
    while let Some(&[0xFF, marker]) = bytes.get(at..at + 2) {
        if marker == START_OF_SCAN {
            return bytes[at..].windows(2).rev().any(|pair| pair == END_OF_IMAGE);
        }
        let is_fill = marker == 0xFF;
        let has_length = !matches!(marker, 0x01 | 0xD0..=0xD8);
        at += match bytes.get(at + 2..at + 4) {
            _ if is_fill => 1,
            Some(&[high, low]) if has_length => 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => 2,
        };
    }
    false
}

fn decode_png(bytes: &[u8], name: &str) -> Result<Picture> {
    let failed = |error: image::ImageError| broken(name, error.to_string());
    let mut limits = Limits::no_limits();
    // 16-bit RGBA takes 8 bytes where our RGB takes 3.
    limits.max_alloc = Some(MAX_BYTES as u64 * 3);
    let decoder =
        image::codecs::png::PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_limits(u64::from(width), u64::from(height), name)?;
    let pixels = DynamicImage::from_decoder(decoder).map_err(failed)?.into_rgb8().into_raw();
    Picture::new(width as usize, height as usize, 3, pixels)
}

fn check_limits(width: u64, height: u64, name: &str) -> Result<()> {
    let too_long = width.max(height) > MAX_SIDE as u64;
    if too_long || width.saturating_mul(height).saturating_mul(3) > MAX_BYTES as u64 {
        return Err(Error::TooLarge { name: name.to_owned(), width, height });
    }
    Ok(())
}

fn broken(name: &str, reason: impl AsRef<str>) -> Error {
    // Some reasons of the decoders end in a line break.
    let reason = reason.as_ref().split_whitespace().collect::<Vec<_>>().join(" ");
    Error::BrokenPicture { name: name.to_owned(), reason }
}
