//! Several crops of one image, as evaluations average over them.

use super::{center_crop, crop, hflip};
use crate::error::Result;
use crate::image::Image;

/// The four corners and the middle of the image, `height` x `width` pixels each: upper left, upper right, lower left, lower
/// right, middle.
///
/// # Errors
/// If the image is smaller than a crop, or a side is 0.
pub fn five_crop(image: &Image, height: usize, width: usize) -> Result<[Image; 5]> {
    let (bottom, right) =
        (image.height().saturating_sub(height), image.width().saturating_sub(width));
    Ok([
        crop(image, 0, 0, height, width)?,
        crop(image, 0, right, height, width)?,
        crop(image, bottom, 0, height, width)?,
        crop(image, bottom, right, height, width)?,
        center_crop(image, height, width)?,
    ])
}

/// The crops of [`five_crop`], and then those of the image mirrored left to right.
///
/// # Errors
/// Those of [`five_crop`].
pub fn ten_crop(image: &Image, height: usize, width: usize) -> Result<[Image; 10]> {
    let [a, b, c, d, e] = five_crop(image, height, width)?;
    let [f, g, h, i, j] = five_crop(&hflip(image), height, width)?;
    Ok([a, b, c, d, e, f, g, h, i, j])
}
