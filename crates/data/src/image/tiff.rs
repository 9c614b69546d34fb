//! TIFF: the first page, with integer samples of up to 16 bits.
//!
//! `image` does not support palettes, which many scans have. So the samples are read with the `tiff` crate, on
//! which `image` is built, and are converted to RGB here.

use std::io::Cursor;

use tiff::ColorType;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::directory::{Entry, Layout, oversized};
use super::exif::Orientation;
use super::{Image, ReadOptions, broken};
use crate::error::Result;

/// Samples in rows, 8 bits each.
struct Samples {
    values: Vec<u8>,
    channels: usize,
}

/// The meaning of the channels.
enum Colors {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Palette(Vec<[u8; 3]>),
}

pub(super) fn decode(
    bytes: &[u8],
    name: &str,
    options: &ReadOptions,
) -> Result<(Image, Orientation)> {
    let failed = |error: tiff::TiffError| broken(name, error.to_string());
    check_counts(bytes, name)?;
    let mut decoder = open(bytes, options).map_err(failed)?;
    let (width, height) = decoder.dimensions().map_err(failed)?;
    options.check_size(u64::from(width), u64::from(height), name)?;
    let number = decoder.find_tag_unsigned::<u32>(Tag::Orientation).ok().flatten();
    let orientation = number.map_or_else(Orientation::default, Orientation::of_number);
    // `tiff` does not read images with a palette. It does read the indices if the file calls them shades of
    // grey.
    let grey;
    let palette = palette(&mut decoder).map_err(failed)?;
    if palette.is_some() {
        let mut copy = bytes.to_vec();
        let unreadable = || broken(name, "its directory names no kind of colours");
        call_it_grey(&mut copy).ok_or_else(unreadable)?;
        grey = copy;
        decoder = open(&grey, options).map_err(failed)?;
    }
    let kind = decoder.colortype().map_err(failed)?;
    let unknown = || broken(name, format!("TIFF images of kind {kind:?} cannot be read"));
    // For a JPEG inside a TIFF, the crate mixes up the two channels.
    const JPEG: u16 = 7;
    let is_jpeg = decoder.find_tag_unsigned(Tag::Compression).map_err(failed)? == Some(JPEG);
    if is_jpeg {
        check_jpegs(&mut decoder, bytes, name)?;
    }
    let (channels, bits, colors) = match (kind, palette) {
        (ColorType::Gray(bits @ 1..=8), Some(palette)) => (1, bits, Colors::Palette(palette)),
        (_, Some(_)) => return Err(unknown()),
        (ColorType::Gray(bits), None) => (1, bits, Colors::Grey),
        (
            ColorType::GrayA(bits) | ColorType::Multiband { bit_depth: bits, num_samples: 2 },
            None,
        ) if !is_jpeg => (2, bits, Colors::Grey),
        (ColorType::RGB(bits), None) => (3, bits, Colors::Rgb),
        (ColorType::RGBA(bits), None) => (4, bits, Colors::Rgb),
        (ColorType::CMYK(bits), None) => (4, bits, Colors::Cmyk),
        (ColorType::YCbCr(8), None) => (3, 8, Colors::YCbCr),
        _ => return Err(unknown()),
    };
    let (width, height) = (width as usize, height as usize);
    let are_indices = matches!(colors, Colors::Palette(_));
    let samples = samples(decoder, [width, height, channels], bits, are_indices);
    let samples = samples.map_err(failed)?.ok_or_else(unknown)?;
    let pixels = to_rgb(&samples, &colors);
    Ok((Image::new(width, height, 3, pixels)?, orientation))
}

fn open<'a>(bytes: &'a [u8], options: &ReadOptions) -> tiff::TiffResult<Decoder<Cursor<&'a [u8]>>> {
    let most = usize::try_from(options.max_pixels.saturating_mul(16)).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = most;
    limits.intermediate_buffer_size = most;
    Ok(Decoder::new(Cursor::new(bytes))?.with_limits(limits))
}

/// All samples as 8-bit values. `None` for samples that are not integers. Palette indices are not changed.
fn samples(
    mut decoder: Decoder<Cursor<&[u8]>>,
    [width, height, channels]: [usize; 3],
    bits: u8,
    are_indices: bool,
) -> tiff::TiffResult<Option<Samples>> {
    let mut read = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut read)?;
    let values = match read {
        DecodingResult::U8(values) if bits == 8 => values,
        DecodingResult::U8(packed) if matches!(bits, 1 | 2 | 4) && channels == 1 => {
            unpacked(&packed, width, bits, are_indices)
        }
        DecodingResult::U16(values) if bits == 16 => {
            // Rounded as `image` rounds the samples of a PNG.
            values.into_iter().map(|value| ((u32::from(value) + 128) / 257) as u8).collect()
        }
        _ => return Ok(None),
    };
    let area = width * height;
    if values.len() != area * channels {
        return Ok(None);
    }
    if layout.planes < 2 {
        return Ok(Some(Samples { values, channels }));
    }
    let mut interleaved = vec![0; values.len()];
    for (channel, plane) in values.chunks_exact(area).enumerate() {
        let places = interleaved.iter_mut().skip(channel).step_by(channels);
        places.zip(plane).for_each(|(place, &value)| *place = value);
    }
    Ok(Some(Samples { values: interleaved, channels }))
}

/// Unpacks rows with less than 8 bits per sample. Each row begins in a new byte.
fn unpacked(packed: &[u8], width: usize, bits: u8, are_indices: bool) -> Vec<u8> {
    let in_byte = 8 / usize::from(bits);
    let most = (1_u16 << bits) - 1;
    let scale = if are_indices { 1 } else { 255 / most };
    let rows = packed.chunks_exact(width.div_ceil(in_byte));
    rows.flat_map(|row| {
        (0..width).map(move |x| {
            let shift = 8 - usize::from(bits) * (x % in_byte + 1);
            ((u16::from(row[x / in_byte]) >> shift & most) * scale) as u8
        })
    })
    .collect()
}

/// The palette of an image. `None` if it has none.
fn palette(decoder: &mut Decoder<Cursor<&[u8]>>) -> tiff::TiffResult<Option<Vec<[u8; 3]>>> {
    const PALETTE: u16 = 3;
    if decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation)? != Some(PALETTE) {
        return Ok(None);
    }
    let map = decoder.get_tag_u16_vec(Tag::ColorMap)?;
    let (reds, rest) = map.split_at(map.len() / 3);
    let (greens, blues) = rest.split_at(rest.len() / 2);
    let colors = reds.iter().zip(greens).zip(blues);
    // Programs store 8-bit colours as `value * 257` or as `value * 256`.
    Ok(Some(colors.map(|((&r, &g), &b)| [r, g, b].map(|shade| (shade >> 8) as u8)).collect()))
}

/// Refuses entries that state more values than the file has room for. The `tiff` crate takes memory for all of them before it
/// reads the first, and its limits can be set only after it has read most of the directory.
fn check_counts(bytes: &[u8], name: &str) -> Result<()> {
    let Some(Entry { tag, count, .. }) = oversized(bytes) else { return Ok(()) };
    let reason = format!("tag {tag} has {count} values, more than the file has room for");
    Err(broken(name, reason))
}

/// Refuses JPEG data of a larger image than the strip or tile that it fills. The `tiff` crate decodes all of it, whatever its size.
fn check_jpegs(decoder: &mut Decoder<Cursor<&[u8]>>, bytes: &[u8], name: &str) -> Result<()> {
    let failed = |error: tiff::TiffError| broken(name, error.to_string());
    let (offsets, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(failed)?;
    let lengths = decoder.get_tag_u64_vec(lengths).map_err(failed)?;
    let (wide, high) = decoder.chunk_dimensions();
    let [most_high, most_wide] = [high, wide].map(|side| side as usize);
    for (&offset, &length) in offsets.iter().zip(&lengths) {
        let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let data = range.and_then(|(offset, length)| bytes.get(offset..)?.get(..length));
        // What lies outside the file is an error of the decoder.
        let Some(data) = data.filter(|data| data.len() > 2) else { continue };
        let Some([high, wide]) = super::jpeg::size(data) else {
            return Err(broken(name, "a strip or tile of it has no readable JPEG header"));
        };
        if high > most_high || wide > most_wide {
            let reason = format!(
                "a strip or tile of {most_high}x{most_wide} pixels has JPEG data of {high}x{wide}"
            );
            return Err(broken(name, reason));
        }
    }
    Ok(())
}

/// Changes the entry "palette" of the first directory to "shades of grey".
fn call_it_grey(bytes: &mut [u8]) -> Option<()> {
    const PHOTOMETRIC: u16 = 262;
    const BLACK_IS_ZERO: u16 = 1;
    let layout = Layout::of(bytes)?;
    let place = layout.entries(bytes).find(|entry| entry.tag == PHOTOMETRIC)?.place;
    let value =
        if layout.is_little { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
    bytes.get_mut(place..)?.first_chunk_mut::<2>().map(|place| *place = value)
}

fn to_rgb(samples: &Samples, colors: &Colors) -> Vec<u8> {
    let pixels = samples.values.chunks_exact(samples.channels);
    pixels
        .flat_map(|pixel| match (colors, pixel) {
            (Colors::Rgb, &[r, g, b, ..]) => [r, g, b],
            (Colors::YCbCr, &[y, cb, cr, ..]) => super::jpeg::from_ycc([y, cb, cr]),
            (Colors::Cmyk, &[c, m, y, k, ..]) => {
                // Full ink is 255 here and 0 in a JPEG.
                super::jpeg::from_inks([c, m, y].map(|ink| 255 - ink), 255 - k)
            }
            (Colors::Palette(palette), &[i, ..]) => {
                palette.get(usize::from(i)).copied().unwrap_or_default()
            }
            (_, &[grey, ..]) => [grey; 3],
            (_, &[]) => [0; 3],
        })
        .collect()
}
