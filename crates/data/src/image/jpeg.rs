//! Strict JPEG decoding. A file that is cut off or incomplete is an error, and the pixels equal Pillow's.
//!
//! zune-jpeg reads the usual files, fast. It has three faults:
//!
//! - For some files it returns wrong pixels without an error: subsampled baseline files with one scan per
//!   component, some markers and component names, and the last column and row of subsampled images whose blocks
//!   are padded.
//! - It refuses some valid files, such as those with stray bytes between segments.
//! - It does not notice missing coded data before a marker.
//!
//! So every file that is not clearly usual goes to a second decoder, in the modules below. That decoder is
//! slower, gives libjpeg's pixels to the bit, and is strict about coded data. It also decides about the files
//! that zune-jpeg refuses.
//!
//! A newer zune-jpeg that fixes the first of these faults exists as a release candidate. Depending on a release
//! candidate would exclude every program that uses `image` with JPEG. `jpeg-decoder` invents missing data as
//! well.

mod bits;
mod colors;
mod headers;
mod samples;
mod scans;

use std::borrow::Cow;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::exif::Orientation;
use super::{ColorMode, Image, ReadOptions, broken};
use crate::error::Result;
use colors::to_rgb;
pub(super) use colors::{from_inks, from_ycc};
use headers::{Colors, Frame, Headers, Scan};
use samples::Samples;

/// The reason why a file is refused. It follows the file's name in messages.
type Reason = Cow<'static, str>;

const CUT_OFF: &str = "it was cut off before its end marker";

pub(super) fn decode(
    bytes: &[u8],
    name: &str,
    options: &ReadOptions,
) -> Result<(Image, Orientation)> {
    let failed = |reason: Reason| broken(name, reason);
    let mut headers = Headers::new(bytes);
    let first = headers.next_scan().map_err(failed)?;
    let first = first.ok_or_else(|| failed("it ends before any image data".into()))?;
    let frame = headers.frame.clone().ok_or_else(|| failed(CUT_OFF.into()))?;
    options.check_size(frame.width as u64, frame.height as u64, name)?;
    let colors = headers.colors().map_err(failed)?;
    let orientation = headers.exif.map_or_else(Orientation::default, Orientation::of_exif);
    let pixels = match usual(bytes, &headers, &frame, &first, colors) {
        Some(pixels) => pixels,
        None => unusual(bytes, &mut headers, &frame, first, colors).map_err(failed)?,
    };
    let image = Image::new(frame.width, frame.height, 3, pixels)?;
    Ok((image, orientation))
}

/// The kind of colours that the headers before the first scan state.
pub(super) fn mode(bytes: &[u8]) -> Option<ColorMode> {
    let mut headers = Headers::new(bytes);
    headers.next_scan().ok()??;
    Some(match headers.colors().ok()? {
        Colors::Grey => ColorMode::Grey,
        Colors::Rgb | Colors::YCbCr => ColorMode::Rgb,
        Colors::Cmyk | Colors::Ycck => ColorMode::Cmyk,
    })
}

/// Decodes with the second decoder.
fn unusual(
    bytes: &[u8],
    headers: &mut Headers<'_>,
    frame: &Frame,
    first: Scan,
    colors: Colors,
) -> Result<Vec<u8>, Reason> {
    let planes = scans::read(headers, bytes, first)?;
    let samples = frame.components.iter().zip(planes);
    let samples: Result<Vec<Samples>, Reason> =
        samples.map(|(component, plane)| Samples::new(component, &plane)).collect();
    to_rgb(frame, colors, &samples?)
}

/// Decodes with the first decoder, if it is known to read the file correctly. `None` leaves the file to the
/// second.
fn usual(
    bytes: &[u8],
    headers: &Headers<'_>,
    frame: &Frame,
    first: &Scan,
    colors: Colors,
) -> Option<Vec<u8>> {
    if !is_usual(headers, frame, colors) {
        return None;
    }
    let is_plain = !frame.is_progressive
        && headers.restart_interval == 0
        && first.components.len() == frame.components.len();
    let padded;
    let bytes = if is_plain {
        padded = with_invalid_codes_at_the_end(bytes, headers.position())?;
        &padded
    } else if frame.is_progressive || first.components.len() == frame.components.len() {
        // zune-jpeg does not notice what is missing before a restart marker or between scans.
        scans::read(&mut headers.clone(), bytes, first.clone()).ok()?;
        bytes
    } else {
        return None;
    };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        // These limits are larger than any JPEG. The size was already checked.
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().ok()?;
    (decoder.dimensions() == Some((frame.width, frame.height))).then_some(pixels)
}

/// Whether the file is grey or YCbCr in the form that nearly all files have.
fn is_usual(headers: &Headers<'_>, frame: &Frame, colors: Colors) -> bool {
    let factors = |place: usize| frame.components.get(place).map(|part| (part.across, part.down));
    let ids = frame.components.iter().map(|component| component.id);
    let has_usual_colors = match colors {
        Colors::Grey => factors(0) == Some((1, 1)),
        Colors::YCbCr => {
            let luma = matches!(factors(0), Some((1 | 2, 1 | 2)));
            luma && factors(1) == Some((1, 1)) && factors(2) == Some((1, 1)) && !ids.eq(*b"RGB")
        }
        _ => false,
    };
    // At the right and lower edges, zune-jpeg mixes the colours with the padding of the last blocks.
    let has_padding = |factor: usize, size: usize| factor > 1 && !size.is_multiple_of(8 * factor);
    has_usual_colors
        && !has_padding(frame.across, frame.width)
        && !has_padding(frame.down, frame.height)
        && matches!(headers.adobe, None | Some(1))
        && !headers.has_stray_bytes
}

/// The file with its end marker replaced by ones, which are no code of any Huffman table. Where coded data is
/// missing, the decoder then finds an invalid code. Otherwise it would invent zeros at the marker and read them
/// as blocks. `None` if the first scan is not followed by the end marker.
fn with_invalid_codes_at_the_end(bytes: &[u8], scan: usize) -> Option<Vec<u8>> {
    let data = bytes.get(scan..)?;
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF);
    let end = data.windows(2).position(is_marker)?;
    if data[end + 1] != 0xD9 {
        return None;
    }
    let mut padded = Vec::with_capacity(scan + end + 32);
    padded.extend_from_slice(&bytes[..scan + end]);
    // A fill byte of the marker would form a pair with the next byte.
    while padded.last() == Some(&0xFF) {
        padded.pop();
    }
    padded.extend([0xFF, 0x00].repeat(16));
    Some(padded)
}
