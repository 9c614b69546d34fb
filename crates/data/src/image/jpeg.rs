//! Strict JPEG decoding with libjpeg's pixels, to the bit. A file that is cut off or incomplete is an error.
//!
//! zune-jpeg was tried. It is about as fast, but its pixels differ by up to three levels, for some files it returns wrong
//! pixels without an error, it does not notice missing coded data before a marker, and it cannot decode a part of an
//! image. `jpeg-decoder` invents missing data as well.

mod bits;
mod colors;
mod headers;
mod samples;
mod scans;
mod sequential;
mod units;
mod window;
mod zigzag;

use std::borrow::Cow;

use super::exif::Orientation;
use super::{ChoosePart, ColorMode, Extent, Image, ReadOptions, broken};
use crate::error::Result;
use crate::transforms::functional::check_inside;
use colors::to_rgb;
pub(super) use colors::{from_inks, from_ycc};
use headers::{Colors, Headers};
use window::Window;

/// The reason why a file is refused. It follows the file's name in messages.
type Reason = Cow<'static, str>;

const CUT_OFF: &str = "it was cut off before its end marker";

/// Decodes the part `[top, left, height, width]` that `choose` takes of an image of `[height, width]`. An image that is to be
/// turned upright is decoded whole.
pub(super) fn decode(
    bytes: &[u8],
    name: &str,
    options: &ReadOptions,
    choose: Option<&mut ChoosePart<'_>>,
) -> Result<(Image, Orientation, Extent)> {
    let failed = |reason: Reason| broken(name, reason);
    let mut headers = Headers::new(bytes);
    let first = headers.next_scan().map_err(failed)?;
    let first = first.ok_or_else(|| failed("it ends before any image data".into()))?;
    let frame = headers.frame.clone().ok_or_else(|| failed(CUT_OFF.into()))?;
    options.check_size(frame.width as u64, frame.height as u64, name)?;
    let colors = headers.colors().map_err(failed)?;
    let frame = frame.reduced(8 / options.reduction([frame.height, frame.width]));
    let orientation = headers.exif.map_or_else(Orientation::default, Orientation::of_exif);
    let is_turned = options.exif_orientation && orientation != Orientation::default();
    let size = [frame.height, frame.width];
    let (part, extent) = match choose.filter(|_| !is_turned) {
        Some(choose) => {
            let part = choose(size);
            check_inside(size, [part[0], part[1]], [part[2], part[3]])?;
            (part, Extent::Part)
        }
        None => ([0, 0, frame.height, frame.width], Extent::Whole),
    };
    let window = Window::around(&frame, part);
    let samples = scans::read(&mut headers, bytes, first, &window).map_err(failed)?;
    let pixels = to_rgb(&frame, &window, colors, &samples).map_err(failed)?;
    Ok((Image::new(part[3], part[2], 3, pixels)?, orientation, extent))
}

/// Height and width that the frame header states, if there is one before the first scan.
pub(super) fn size(bytes: &[u8]) -> Option<[usize; 2]> {
    let mut headers = Headers::new(bytes);
    // The JPEG data within a TIFF may lack tables. The frame header is read before that is noticed.
    let _ = headers.next_scan();
    headers.frame.map(|frame| [frame.height, frame.width])
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
