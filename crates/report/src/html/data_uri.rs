//! Images embedded in a page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use crate::image::SMALL;
use crate::{Error, Result};

/// A photograph is shown in full up to this side length, in pixels.
pub(crate) const LONGEST: u32 = 256;
const QUALITY: u8 = 85;

/// An image as a `data:` address. Photographs become JPEG. Small images are stored without loss.
pub(crate) fn data_uri(image: &RgbImage) -> Result<String> {
    let (width, height) = image.dimensions();
    let mut bytes = Vec::new();
    let (kind, written) = if width.max(height) <= SMALL {
        let encoder = PngEncoder::new(&mut bytes);
        ("png", encoder.write_image(image, width, height, ExtendedColorType::Rgb8))
    } else {
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
        ("jpeg", encoder.encode(image, width, height, ExtendedColorType::Rgb8))
    };
    written.map_err(Error::draw)?;
    Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pixels_are_kept_and_many_compressed() -> Result<()> {
        let small = data_uri(&RgbImage::from_pixel(2, 2, image::Rgb([9, 8, 7])))?;
        let bytes = small.strip_prefix("data:image/png;base64,").expect("a PNG");
        let bytes = STANDARD.decode(bytes).expect("base64");
        let back = image::load_from_memory(&bytes).expect("an image").into_rgb8();
        assert_eq!(back.get_pixel(1, 1).0, [9, 8, 7]);
        let large = data_uri(&RgbImage::new(200, 100))?;
        assert!(large.starts_with("data:image/jpeg;base64,/9j/"), "{large}");
        Ok(())
    }
}
