//! Scaling with Pillow's results.
//!
//! `fast_image_resize` computes like Pillow (8 bits between the passes), but takes the vertical
//! pass first, which leaves bicubic results up to 6 levels away. Calling it once per axis, width
//! first, keeps every pixel within one level.

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions, Resizer};
use rand_chacha::ChaCha8Rng;

use super::crop::check_inside;
use super::{Interpolation, Size};
use crate::error::{Error, Result};
use crate::picture::{MAX_BYTES, MAX_SIDE, Picture};
use crate::random;

/// The picture scaled to `height` x `width` pixels.
///
/// # Errors
/// If a side is 0 or more than [`MAX_SIDE`], or the result would exceed [`MAX_BYTES`].
pub fn resize(
    picture: &Picture,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Result<Picture> {
    let (whole_height, whole_width) = (picture.height(), picture.width());
    resized_crop(picture, [0, 0, whole_height, whole_width], height, width, interpolation)
}

/// The part `[top, left, height, width]` of the picture, scaled to `height` x `width`; pixels
/// around the part have no influence.
///
/// # Errors
/// As [`resize`], or if the part is empty or not wholly inside the picture.
pub fn resized_crop(
    picture: &Picture,
    [top, left, part_height, part_width]: [usize; 4],
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Result<Picture> {
    check_inside(picture, top, left, part_height, part_width)?;
    check_size(height, width)?;
    let filter = match interpolation {
        Interpolation::Nearest => {
            return Ok(nearest(picture, [top, left, part_height, part_width], height, width));
        }
        Interpolation::Bilinear => FilterType::Bilinear,
        Interpolation::Bicubic => FilterType::CatmullRom,
    };
    let pixel_type = if picture.channels() == 3 { PixelType::U8x3 } else { PixelType::U8 };
    let whole = ImageRef::new(
        picture.width() as u32,
        picture.height() as u32,
        picture.pixels(),
        pixel_type,
    )
    .map_err(failed)?;
    let [left, top] = [left as u32, top as u32];
    let part = CroppedImage::new(&whole, left, top, part_width as u32, part_height as u32)
        .map_err(failed)?;
    let narrow = one_axis(&part, width as u32, part_height as u32, pixel_type, filter)?;
    let scaled = one_axis(&narrow, width as u32, height as u32, pixel_type, filter)?;
    Picture::new(width, height, picture.channels(), scaled.into_vec())
}

fn one_axis(
    source: &impl IntoImageView,
    width: u32,
    height: u32,
    pixel_type: PixelType,
    filter: FilterType,
) -> Result<Image<'static>> {
    let mut target = Image::new(width, height, pixel_type);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    Resizer::new().resize(source, &mut target, &options).map_err(failed)?;
    Ok(target)
}

/// Pillow's nearest neighbour: positions are summed up step by step, rounding errors and all.
fn nearest(
    picture: &Picture,
    [top, left, part_height, part_width]: [usize; 4],
    height: usize,
    width: usize,
) -> Picture {
    let positions = |from: usize, to: usize| {
        let step = from as f64 / to as f64;
        let next = move |position: &f64| Some(position + step);
        std::iter::successors(Some(step * 0.5), next)
            .map(move |position| (position as usize).min(from - 1))
            .take(to)
    };
    let channels = picture.channels();
    let columns: Vec<usize> = positions(part_width, width).map(|x| (left + x) * channels).collect();
    let mut scaled = Picture::filled(width, height, channels, 0);
    for (y, source_y) in positions(part_height, height).enumerate() {
        let source = picture.row(top + source_y);
        let target = scaled.row_mut(y).chunks_exact_mut(channels);
        for (pixel, &column) in target.zip(&columns) {
            pixel.copy_from_slice(&source[column..][..channels]);
        }
    }
    scaled
}

/// Height and width that a picture of `height` x `width` is scaled to.
pub(super) fn resized_size(height: usize, width: usize, size: Size) -> (usize, usize) {
    let Size::One(short) = size else {
        return size.square();
    };
    let short = short as usize;
    let long = |long_side: usize, short_side: usize| {
        // torchvision: int(size * long / short), a product of integers divided in f64.
        ((short * long_side) as f64 / short_side as f64) as usize
    };
    if width <= height { (long(height, width), short) } else { (short, long(width, height)) }
}

/// Draws the part of a random resized crop: `[top, left, height, width]`, by torchvision's rule of
/// ten tries and then the largest centred part within the range of ratios.
pub(super) fn random_part(
    picture: &Picture,
    scale: [f64; 2],
    ratio: [f64; 2],
    rng: &mut ChaCha8Rng,
) -> [usize; 4] {
    let (height, width) = (picture.height(), picture.width());
    let area = (height * width) as f64;
    for _ in 0..10 {
        let target_area = area * random::between(rng, scale[0], scale[1]);
        let aspect_ratio = random::between(rng, ratio[0].ln(), ratio[1].ln()).exp();
        let part_width = (target_area * aspect_ratio).sqrt().round_ties_even() as usize;
        let part_height = (target_area / aspect_ratio).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&part_width) && (1..=height).contains(&part_height) {
            let top = random::below(rng, height - part_height + 1);
            let left = random::below(rng, width - part_width + 1);
            return [top, left, part_height, part_width];
        }
    }
    central_part(height, width, ratio)
}

fn central_part(height: usize, width: usize, [least, most]: [f64; 2]) -> [usize; 4] {
    let whole_ratio = width as f64 / height as f64;
    let rounded = |side: f64, whole: usize| (side.round_ties_even() as usize).clamp(1, whole);
    let (part_height, part_width) = if whole_ratio < least {
        (rounded(width as f64 / least, height), width)
    } else if whole_ratio > most {
        (height, rounded(height as f64 * most, width))
    } else {
        (height, width)
    };
    [(height - part_height) / 2, (width - part_width) / 2, part_height, part_width]
}

fn check_size(height: usize, width: usize) -> Result<()> {
    let sides = 1..=MAX_SIDE;
    if sides.contains(&height) && sides.contains(&width) && height * width * 3 <= MAX_BYTES {
        return Ok(());
    }
    Err(Error::transform("resize", format!("to {height}x{width} pixels is not possible")))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::transform("resize", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn shorter_side_keeps_the_aspect_ratio() {
        assert_eq!(resized_size(375, 500, Size::One(256)), (256, 341));
        assert_eq!(resized_size(500, 375, Size::One(256)), (341, 256));
        assert_eq!(resized_size(500, 375, Size::HeightWidth([10, 20])), (10, 20));
    }

    #[test]
    fn random_parts_follow_scale_and_ratio() {
        let picture = Picture::filled(200, 150, 1, 0);
        let mut rng = stream(0, Purpose::Augment, 0);
        for _ in 0..500 {
            let [top, left, height, width] =
                random_part(&picture, [0.08, 1.0], [0.75, 4.0 / 3.0], &mut rng);
            assert!(top + height <= 150 && left + width <= 200);
            let (area, ratio) = ((height * width) as f64 / 30_000.0, width as f64 / height as f64);
            // Rounding of the sides moves both by up to two in a hundred at the smallest parts.
            assert!((0.078..=1.0).contains(&area), "{area}");
            assert!((0.73..=1.37).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn impossible_ratios_fall_back_to_the_centre() {
        let mut rng = stream(0, Purpose::Augment, 0);
        let tall = Picture::filled(10, 1000, 1, 0);
        let part = random_part(&tall, [1.0, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(part, [(1000 - 13) / 2, 0, 13, 10]);
        let wide = Picture::filled(1000, 9, 1, 0);
        let part = random_part(&wide, [1.0, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(part, [0, (1000 - 12) / 2, 9, 12]);
    }

    #[test]
    fn pixels_around_a_part_have_no_influence() {
        let mut picture = Picture::filled(8, 8, 1, 255);
        for y in 2..6 {
            picture.row_mut(y)[2..6].fill(10);
        }
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let scaled = resized_crop(&picture, [2, 2, 4, 4], 9, 9, interpolation).unwrap();
            assert!(scaled.pixels().iter().all(|&value| value == 10));
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let picture = Picture::filled(4, 4, 3, 0);
        assert!(resize(&picture, 0, 4, Interpolation::Bilinear).is_err());
        assert!(resize(&picture, 4, MAX_SIDE + 1, Interpolation::Nearest).is_err());
        assert!(resized_crop(&picture, [1, 1, 4, 2], 4, 4, Interpolation::Nearest).is_err());
    }
}
