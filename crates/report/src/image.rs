//! Photographs on a page, and changes of their size.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma, RgbImage};

use crate::canvas::Color;
use crate::{Error, Result};

/// A borrowed image: 8-bit red, green and blue, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RgbView<'a> {
    width: u32,
    height: u32,
    bytes: &'a [u8],
}

impl<'a> RgbView<'a> {
    /// Borrows an image of `height` rows with `width` pixels, three bytes per pixel.
    ///
    /// # Errors
    /// If a side is 0, or if the number of bytes does not fit.
    ///
    /// ```
    /// use candle_vision_report::RgbView;
    ///
    /// assert!(RgbView::new(2, 1, &[255, 0, 0, 0, 0, 255]).is_ok());
    /// assert!(RgbView::new(2, 2, &[255, 0, 0]).is_err());
    /// ```
    pub fn new(width: usize, height: usize, bytes: &'a [u8]) -> Result<Self> {
        let area = width.checked_mul(height).and_then(|area| area.checked_mul(3));
        let sides = (u32::try_from(width), u32::try_from(height));
        match sides {
            (Ok(w), Ok(h)) if w > 0 && h > 0 && area == Some(bytes.len()) => {
                Ok(Self { width: w, height: h, bytes })
            }
            _ => Err(Error::ImageShape { width, height, bytes: bytes.len() }),
        }
    }

    /// Width and height, in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// The image at another size. If an image of few pixels grows by a whole factor, its pixels stay
    /// squares. All other images are smoothed.
    pub(crate) fn resized(&self, (width, height): (u32, u32)) -> RgbImage {
        let bytes = self.bytes.to_vec();
        let image = RgbImage::from_raw(self.width, self.height, bytes);
        let image = image.expect("`new` checked the number of bytes");
        if (width, height) == self.size() {
            return image;
        }
        resize(&image, width, height, self.filter(width))
    }

    fn filter(&self, width: u32) -> FilterType {
        if self.width.max(self.height) <= SMALL && width > self.width {
            FilterType::Nearest
        } else {
            FilterType::CatmullRom
        }
    }
}

/// Largest side, in pixels, of images whose single pixels matter, such as those of CIFAR.
pub(crate) const SMALL: u32 = 64;

/// The largest size of a `width` x `height` image whose sides have at most `limit` pixels. Small images
/// grow by whole factors, so that their pixels stay equal in size.
pub(crate) fn fit((width, height): (u32, u32), limit: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= SMALL {
        let factor = (limit / longest).max(1);
        return (width * factor, height * factor);
    }
    let scaled = |side: u32| {
        let scaled = f64::from(side) * f64::from(limit) / f64::from(longest);
        (scaled.round() as u32).max(1)
    };
    (scaled(width), scaled(height))
}

/// Resizes a map of `width * height` values to `to` (width, height), smoothly.
pub(crate) fn resized_map(
    values: &[f32],
    (width, height): (u32, u32),
    to: (u32, u32),
) -> ImageBuffer<Luma<f32>, Vec<f32>> {
    let map = ImageBuffer::from_raw(width, height, values.to_vec());
    let map: ImageBuffer<Luma<f32>, Vec<f32>> = map.expect("the caller checked the map's shape");
    if (width, height) == to { map } else { resize(&map, to.0, to.1, FilterType::Triangle) }
}

/// Mixes `share` of `over` with `1 - share` of `under`.
pub(crate) fn blend(under: Color, over: Color, share: f64) -> Color {
    let mixed = |i: usize| f64::from(under[i]) * (1.0 - share) + f64::from(over[i]) * share;
    [0, 1, 2].map(|i| mixed(i).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_must_fit() {
        assert!(RgbView::new(0, 2, &[]).is_err());
        assert!(RgbView::new(usize::MAX, 2, &[0; 6]).is_err());
        assert!(RgbView::new(1, 2, &[0; 6]).is_ok());
    }

    #[test]
    fn small_images_grow_by_whole_factors_and_large_ones_fill_the_limit() {
        assert_eq!(fit((32, 32), 400), (384, 384));
        assert_eq!(fit((28, 14), 400), (392, 196));
        assert_eq!(fit((500, 375), 400), (400, 300));
        assert_eq!(fit((5000, 1), 400), (400, 1));
    }

    #[test]
    fn enlarged_pixels_are_squares() {
        let bytes = [255, 0, 0, 0, 0, 255];
        let image = RgbView::new(2, 1, &bytes).expect("fits").resized((6, 3));
        assert_eq!(image.get_pixel(2, 2).0, [255, 0, 0]);
        assert_eq!(image.get_pixel(3, 0).0, [0, 0, 255]);
    }

    #[test]
    fn a_map_is_interpolated() {
        let map = resized_map(&[0.0, 1.0], (2, 1), (4, 1));
        let values: Vec<f32> = map.pixels().map(|pixel| pixel.0[0]).collect();
        for (found, expected) in values.iter().zip([0.0, 0.25, 0.75, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{values:?}");
        }
    }
}
