//! Images as JPEG makes them.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::error::{Error, Result};
use crate::image::Image;

/// Writes the image as a JPEG file of this quality, from 1 to 100, and reads it again. Colours have half the resolution,
/// as libjpeg writes them by default.
///
/// # Errors
/// If the quality is out of range, or a side is above 65,535 pixels.
pub fn jpeg(image: &Image, quality: u8) -> Result<Image> {
    let failed = |reason: String| Error::transform("jpeg", reason);
    if !(1..=100).contains(&quality) {
        return Err(failed(format!("`quality` is {quality}; it must be 1 to 100")));
    }
    let side = |length: usize| {
        u16::try_from(length).map_err(|_| failed(format!("a side of {length} pixels is too long")))
    };
    let (width, height) = (side(image.width())?, side(image.height())?);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let written = match image.channels() {
        1 => encoder.encode(image.pixels(), width, height, ColorType::Luma),
        // The encoder would take one of four chroma values. libjpeg takes their mean.
        _ => encoder.encode(&with_mean_chroma(image), width, height, ColorType::Ycbcr),
    };
    written.map_err(|error| failed(error.to_string()))?;
    let read = Image::decode(&bytes, "the image as JPEG")?;
    Ok(if image.channels() == 1 { super::grayscale(&read, 1) } else { read })
}

/// Brightness and colour of each pixel (Y, Cb, Cr), where the colours of 2x2 pixels are their mean, with the arithmetic of
/// libjpeg.
fn with_mean_chroma(image: &Image) -> Vec<u8> {
    let (width, height) = (image.width(), image.height());
    let mut values: Vec<[u8; 3]> = image.pixels().as_chunks::<3>().0.iter().map(ycc).collect();
    for top in (0..height).step_by(2) {
        for left in (0..width).step_by(2) {
            // An odd last row or column counts twice.
            let (bottom, right) = ((top + 1).min(height - 1), (left + 1).min(width - 1));
            let places = [(top, left), (top, right), (bottom, left), (bottom, right)];
            let places = places.map(|(y, x)| y * width + x);
            // Halves are rounded down and up in turn.
            let half = if left / 2 % 2 == 0 { 1 } else { 2 };
            for channel in [1, 2] {
                let sum: u32 = places.iter().map(|&place| u32::from(values[place][channel])).sum();
                places.iter().for_each(|&place| values[place][channel] = ((sum + half) / 4) as u8);
            }
        }
    }
    values.into_flattened()
}

/// Y, Cb and Cr of a pixel in 16-bit fixed point.
fn ycc(&[red, green, blue]: &[u8; 3]) -> [u8; 3] {
    let [red, green, blue] = [red, green, blue].map(i32::from);
    let (half, middle) = (1 << 15, (128 << 16) + (1 << 15) - 1);
    let y = 19595 * red + 38470 * green + 7471 * blue + half;
    let cb = -11059 * red - 21709 * green + 32768 * blue + middle;
    let cr = 32768 * red - 27439 * green - 5329 * blue + middle;
    [y, cb, cr].map(|value| (value >> 16) as u8)
}
