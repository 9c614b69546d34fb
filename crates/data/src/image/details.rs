//! What the header of an image file says besides its size: kind of colours, bits, frames, orientation.

use std::io::Cursor;

use serde::Serialize;
use tiff::ColorType;
use tiff::decoder::Decoder;

use super::directory::{Layout, oversized};
use super::exif::Orientation;
use super::{Format, jpeg};
use crate::foreign;

/// The kind of colours that a file stores. Reading makes RGB of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ColorMode {
    /// Shades of grey.
    Grey,
    /// Shades of grey with alpha, which is dropped.
    GreyAlpha,
    /// Red, green and blue, or a form of them (YCbCr).
    Rgb,
    /// Red, green and blue with alpha, which is dropped.
    Rgba,
    /// Numbers of colours in a palette.
    Palette,
    /// Numbers of colours in a palette, some of them with alpha, which is dropped.
    PaletteAlpha,
    /// Inks for print: CMYK or YCCK.
    Cmyk,
}

impl ColorMode {
    /// The mode in words: `CMYK`, `grey with alpha`.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::GreyAlpha => "grey with alpha",
            Self::Rgb => "RGB",
            Self::Rgba => "RGB with alpha",
            Self::Palette => "palette",
            Self::PaletteAlpha => "palette with alpha",
            Self::Cmyk => "CMYK",
        }
    }
}

/// What an image file stores, besides width and height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImageDetails {
    /// The format of the content.
    #[serde(serialize_with = "by_extension")]
    pub format: Format,
    /// The kind of colours.
    pub mode: ColorMode,
    /// Bits of each channel, or of a palette's numbers.
    pub bits: u8,
    /// Number of frames or pages. Only the first is read.
    pub frames: usize,
    /// How the image must be turned to stand upright, by EXIF's numbers from 1 to 8. 1 is upright.
    pub orientation: u8,
}

fn by_extension<S: serde::Serializer>(format: &Format, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(format.extensions().first().copied().unwrap_or("unknown"))
}

impl ImageDetails {
    /// The details of an image that was decoded from `bytes`. Where a header says less than usual, it is taken for 8-bit
    /// RGB with one frame.
    pub(super) fn of(bytes: &[u8], format: Format, orientation: Orientation) -> Self {
        let (mode, bits) = match format {
            Format::Jpeg => (jpeg::mode(bytes), Some(8)),
            Format::Png => png(bytes),
            Format::Gif => (Some(ColorMode::Palette), Some(8)),
            Format::WebP => (webp(bytes), Some(8)),
            Format::Bmp => bmp(bytes),
            Format::Tiff => tiff(bytes),
            Format::Pnm => pnm(bytes),
            Format::Ico => (Some(ColorMode::Rgba), Some(8)),
            _ => (None, None),
        };
        let frames = match format {
            Format::Png => png_frames(bytes),
            Format::Gif => gif_frames(bytes),
            Format::WebP => chunks(bytes, 12).filter(|(name, _)| *name == b"ANMF").count(),
            Format::Tiff => Layout::of(bytes).map_or(1, |layout| layout.pages(bytes)),
            _ => 1,
        };
        Self {
            format,
            mode: mode.unwrap_or(ColorMode::Rgb),
            bits: bits.unwrap_or(8),
            frames: frames.max(1),
            orientation: orientation.number(),
        }
    }
}

fn png(bytes: &[u8]) -> (Option<ColorMode>, Option<u8>) {
    // The chunk makes a colour or numbers of the palette transparent.
    let has_alpha = png_chunk(bytes, b"tRNS").is_some();
    let mode = match (bytes.get(25), has_alpha) {
        (Some(0), false) => Some(ColorMode::Grey),
        (Some(2), false) => Some(ColorMode::Rgb),
        (Some(3), false) => Some(ColorMode::Palette),
        (Some(3), true) => Some(ColorMode::PaletteAlpha),
        (Some(0 | 4), _) => Some(ColorMode::GreyAlpha),
        (Some(2 | 6), _) => Some(ColorMode::Rgba),
        _ => None,
    };
    (mode, bytes.get(24).copied())
}

/// The number of frames of an animation.
fn png_frames(bytes: &[u8]) -> usize {
    png_chunk(bytes, b"acTL").map_or(1, |content| number(content.get(..4)))
}

/// What stands from the content of a chunk on, if it comes before the first image data.
fn png_chunk<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    let mut at = 8_usize;
    while let Some(header) = bytes.get(at..at.saturating_add(12)) {
        match &header[4..8] {
            found if found == name => return bytes.get(at + 8..),
            b"IDAT" => return None,
            _ => at = at.saturating_add(12 + number(header.get(..4))),
        }
    }
    None
}

/// A big-endian number of four bytes.
fn number(bytes: Option<&[u8]>) -> usize {
    let bytes = bytes.and_then(|bytes| bytes.first_chunk::<4>());
    bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize)
}

fn gif_frames(bytes: &[u8]) -> usize {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let Some(&flags) = bytes.get(10) else { return 1 };
    let (mut at, mut frames) = (13 + table(flags), 0);
    // A block ends with a part of no bytes.
    let after_parts = |mut at: usize| {
        while let Some(&size) = bytes.get(at).filter(|size| **size > 0) {
            at += 1 + usize::from(size);
        }
        at + 1
    };
    loop {
        match bytes.get(at) {
            Some(0x2C) => {
                frames += 1;
                let Some(&flags) = bytes.get(at + 9) else { return frames };
                at = after_parts(at + 10 + table(flags) + 1);
            }
            Some(0x21) => at = after_parts(at + 2),
            _ => return frames,
        }
    }
}

/// The chunks of a RIFF file from a place on: name and content.
pub(super) fn chunks(bytes: &[u8], mut at: usize) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let name = bytes.get(at..)?.first_chunk::<4>()?;
        let size = bytes.get(at + 4..)?.first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size) as usize;
        let content = bytes.get(at + 8..)?;
        at = at.checked_add(8 + size + size % 2)?;
        Some((name, &content[..size.min(content.len())]))
    })
}

fn webp(bytes: &[u8]) -> Option<ColorMode> {
    const ALPHA: u8 = 0x10;
    let has_alpha = match chunks(bytes, 12).next()? {
        (b"VP8X", content) => content.first()? & ALPHA != 0,
        // The bit after two sizes of 14 bits, which follow a byte of signature.
        (b"VP8L", content) => content.get(4)? & 0x10 != 0,
        _ => false,
    };
    Some(if has_alpha { ColorMode::Rgba } else { ColorMode::Rgb })
}

fn bmp(bytes: &[u8]) -> (Option<ColorMode>, Option<u8>) {
    // The oldest header has two bytes for each size, all others four.
    let at = if bytes.get(14) == Some(&12) { 24 } else { 28 };
    match bytes.get(at) {
        Some(&bits @ 1..=8) => (Some(ColorMode::Palette), Some(bits)),
        Some(32) => (Some(ColorMode::Rgba), Some(8)),
        _ => (Some(ColorMode::Rgb), Some(8)),
    }
}

fn pnm(bytes: &[u8]) -> (Option<ColorMode>, Option<u8>) {
    let head = &bytes[..bytes.len().min(512)];
    let text = String::from_utf8_lossy(head);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let after = |key: &str| {
        let at = words.iter().position(|word| *word == key)?;
        words.get(at + 1)?.parse::<u32>().ok()
    };
    let depth = |most: Option<u32>| if most.is_some_and(|most| most > 255) { 16 } else { 8 };
    match words.first() {
        Some(&("P1" | "P4")) => (Some(ColorMode::Grey), Some(1)),
        Some(&kind @ ("P2" | "P5" | "P3" | "P6")) => {
            let most = words.get(3).and_then(|most| most.parse().ok());
            let is_grey = matches!(kind, "P2" | "P5");
            let mode = if is_grey { ColorMode::Grey } else { ColorMode::Rgb };
            (Some(mode), Some(depth(most)))
        }
        Some(&"P7") => {
            let mode = match after("DEPTH") {
                Some(1) => ColorMode::Grey,
                Some(2) => ColorMode::GreyAlpha,
                Some(4) => ColorMode::Rgba,
                _ => ColorMode::Rgb,
            };
            (Some(mode), Some(depth(after("MAXVAL"))))
        }
        _ => (None, None),
    }
}

fn tiff(bytes: &[u8]) -> (Option<ColorMode>, Option<u8>) {
    if oversized(bytes).is_some() {
        return (None, None);
    }
    let kind = || Decoder::new(Cursor::new(bytes)).ok()?.colortype().ok();
    let Some(kind) = foreign::guarded(kind).flatten() else { return (None, None) };
    let (mode, bits) = match kind {
        ColorType::Gray(bits) => (ColorMode::Grey, bits),
        ColorType::GrayA(bits) => (ColorMode::GreyAlpha, bits),
        ColorType::RGB(bits) | ColorType::YCbCr(bits) => (ColorMode::Rgb, bits),
        ColorType::RGBA(bits) => (ColorMode::Rgba, bits),
        ColorType::Palette(bits) => (ColorMode::Palette, bits),
        ColorType::CMYK(bits) | ColorType::CMYKA(bits) => (ColorMode::Cmyk, bits),
        _ => return (None, None),
    };
    (Some(mode), Some(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Image, ReadOptions};

    fn details(bytes: &[u8]) -> ImageDetails {
        Image::decode_with_details(bytes, "an image", &ReadOptions::default()).unwrap().1
    }

    #[test]
    fn a_header_says_mode_bits_and_frames() {
        let found = details(b"P5 2 1 255 ab");
        assert_eq!((found.format, found.mode, found.bits), (Format::Pnm, ColorMode::Grey, 8));
        assert_eq!(details(b"P6 1 1 65535 abcdef").bits, 16);
        assert_eq!(details(b"P4 8 1 a").bits, 1);
        // Two frames of one pixel.
        let mut gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
        for _ in 0..2 {
            gif.extend(b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0");
        }
        gif.push(0x3B);
        let found = details(&gif);
        assert_eq!((found.mode, found.frames, found.orientation), (ColorMode::Palette, 2, 1));
    }

    #[test]
    fn headers_of_nonsense_end() {
        for format in Format::READABLE {
            for length in 0..80 {
                ImageDetails::of(&vec![0xFF; length], format, Orientation::default());
                ImageDetails::of(&vec![0x2C; length], format, Orientation::default());
            }
        }
    }
}
