//! Scaling with Pillow's results.
//!
//! `fast_image_resize` computes like Pillow, with 8 bits between the passes. But it does the vertical pass
//! first, and bicubic results then differ by up to 6 levels. Here it is called once per axis, width first. This
//! keeps every pixel within one level of Pillow's. The width of all but the smallest images is scaled in `across.rs`, with the same
//! results in half the time.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::across::{Part, Windows, scale_across};
use super::crop::check_inside;
use super::resample::{Axis, Filter, resample};
use crate::error::{Error, Result};
use crate::image::{Image, MAX_BYTES};
use crate::random::{self, Generator};
use crate::transforms::{Interpolation, Size};

/// Scales the image to `height` x `width` pixels.
///
/// # Errors
/// If a side is 0, or the result would exceed [`MAX_BYTES`].
pub fn resize(
    image: &Image,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Result<Image> {
    let (whole_height, whole_width) = (image.height(), image.width());
    resized_crop(image, [0, 0, whole_height, whole_width], height, width, interpolation)
}

/// Scales the part `[top, left, height, width]` of the image to `height` x `width` pixels. Pixels outside the
/// part have no influence.
///
/// # Errors
/// Those of [`resize`], or if the part is empty or not completely inside the image.
pub fn resized_crop(
    image: &Image,
    [top, left, part_height, part_width]: [usize; 4],
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Result<Image> {
    check_inside([image.height(), image.width()], [top, left], [part_height, part_width])?;
    check_size(height, width)?;
    let filter = match method(interpolation) {
        Method::Nearest => {
            return Ok(nearest(image, [top, left, part_height, part_width], height, width));
        }
        Method::Exact(filter) => {
            let part = super::crop::crop(image, top, left, part_height, part_width)?;
            return resample(&part, Axis::whole(height), Axis::whole(width), filter);
        }
        Method::Fast(filter) => filter,
    };
    let part = [top, left, part_height, part_width];
    let narrow = scale_width(image, part, width, [0.0, part_width as f64], filter)?;
    one_axis(&narrow, [0, 0, part_height, width], [height, width], &resize_options(filter))
}

/// Scales `[start, length]` of the width of the part `[top, left, height, width]`. Of the part, what lies around that has influence.
fn scale_width(
    image: &Image,
    [top, left, rows, columns]: [usize; 4],
    width: usize,
    [start, length]: [f64; 2],
    filter: Filter,
) -> Result<Image> {
    let channels = image.channels();
    let has_changed = width as f64 != length || start != start.round();
    if has_changed {
        let stride = image.width() * channels;
        let bytes = &image.pixels()[top * stride + left * channels..];
        let windows = Windows::new(columns, [start, length], width, filter);
        let part = Part { bytes, stride, rows, columns, channels };
        if let Some(pixels) = scale_across(part, &windows) {
            return Image::new(width, rows, channels, pixels);
        }
    }
    let options = resize_options(filter).crop(start, 0.0, length, rows as f64);
    one_axis(image, [top, left, rows, columns], [rows, width], &options)
}

/// Scales the part `[top, left, height, width]` to `[height, width]`, of which one is the part's.
fn one_axis(
    image: &Image,
    part: [usize; 4],
    size: [usize; 2],
    options: &ResizeOptions,
) -> Result<Image> {
    // The resizer is compiled again for each kind of pixel and of source. Its function for any kind of pixel
    // makes three quarters of this crate's machine code.
    if image.channels() == 3 {
        one_axis_of::<U8x3>(image, part, size, options)
    } else {
        one_axis_of::<U8>(image, part, size, options)
    }
}

fn one_axis_of<P: PixelTrait>(
    image: &Image,
    part: [usize; 4],
    [height, width]: [usize; 2],
    options: &ResizeOptions,
) -> Result<Image> {
    let [top, left, part_height, part_width] = part.map(|side| side as u32);
    let (whole_width, whole_height) = (image.width() as u32, image.height() as u32);
    let whole = TypedImageRef::<P>::from_buffer(whole_width, whole_height, image.pixels())
        .map_err(failed)?;
    let part =
        TypedCroppedImage::from_ref(&whole, left, top, part_width, part_height).map_err(failed)?;
    let mut pixels = vec![0; height * width * image.channels()];
    let mut target =
        TypedImage::<P>::from_buffer(width as u32, height as u32, &mut pixels).map_err(failed)?;
    Resizer::new().resize_typed(&part, &mut target, options).map_err(failed)?;
    Image::new(width, height, image.channels(), pixels)
}

/// How the library scales by a filter.
fn resize_options(filter: Filter) -> ResizeOptions {
    let filter = match filter {
        Filter::Box => FilterType::Box,
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Hamming => FilterType::Hamming,
        Filter::Bicubic => FilterType::CatmullRom,
        Filter::Lanczos => FilterType::Lanczos3,
    };
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false)
}

/// Who computes an interpolation.
enum Method {
    Nearest,
    Fast(Filter),
    Exact(Filter),
}

fn method(interpolation: Interpolation) -> Method {
    match interpolation {
        Interpolation::Nearest => Method::Nearest,
        Interpolation::Bilinear => Method::Fast(Filter::Bilinear),
        Interpolation::Bicubic => Method::Fast(Filter::Bicubic),
        Interpolation::Box => Method::Exact(Filter::Box),
        Interpolation::Hamming => Method::Exact(Filter::Hamming),
        Interpolation::Lanczos => Method::Exact(Filter::Lanczos),
    }
}

/// The middle `part_height` x `part_width` of the image scaled to `height` x `width`. The rest is not computed:
/// a strip of 2000x1 pixels whose shorter side becomes 256 would take 400 MB. The result equals [`resize`]
/// followed by [`center_crop`](super::crop::center_crop), within one level.
///
/// # Errors
/// If a side is 0, or the result would exceed [`MAX_BYTES`].
pub(in crate::transforms) fn resized_center(
    image: &Image,
    [height, width]: [usize; 2],
    [part_height, part_width]: [usize; 2],
    interpolation: Interpolation,
) -> Result<Image> {
    check_size(part_height, part_width)?;
    // The crop adds black pixels where the scaled image is too small.
    let [rows, columns] = [part_height.min(height), part_width.min(width)];
    let [top, left] =
        [super::crop::centered(height - rows), super::crop::centered(width - columns)];
    let filter = match method(interpolation) {
        Method::Nearest => {
            let places = |from: usize, to: usize, first: usize, count: usize| {
                nearest_positions(from, to).skip(first).take(count).collect::<Vec<_>>()
            };
            let columns = places(image.width(), width, left, columns);
            let rows = places(image.height(), height, top, rows);
            let part = pick(image, &rows, &columns);
            return super::crop::center_crop(&part, part_height, part_width);
        }
        Method::Exact(filter) => {
            let rows = Axis { whole: height, first: top, count: rows };
            let columns = Axis { whole: width, first: left, count: columns };
            let part = resample(image, rows, columns, filter)?;
            return super::crop::center_crop(&part, part_height, part_width);
        }
        Method::Fast(filter) => filter,
    };
    let old_height = image.height();
    let whole = [0, 0, old_height, image.width()];
    let range = source_range(image.width(), width, left, columns);
    let narrow = scale_width(image, whole, columns, range, filter)?;
    let [from_y, high] = source_range(old_height, height, top, rows);
    let options = resize_options(filter).crop(0.0, from_y, columns as f64, high);
    let part = one_axis(&narrow, [0, 0, old_height, columns], [rows, columns], &options)?;
    super::crop::center_crop(&part, part_height, part_width)
}

/// The source of `count` scaled pixels from `first` on, if `from` pixels are scaled to `to`: start and length.
fn source_range(from: usize, to: usize, first: usize, count: usize) -> [f64; 2] {
    let scale = from as f64 / to as f64;
    let start = first as f64 * scale;
    [start, (count as f64 * scale).min(from as f64 - start)]
}

/// Pillow's nearest neighbour. Positions are added up step by step, with the same rounding errors.
fn nearest_positions(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let step = from as f64 / to as f64;
    let next = move |position: &f64| Some(position + step);
    std::iter::successors(Some(step * 0.5), next)
        .map(move |position| (position as usize).min(from - 1))
        .take(to)
}

fn nearest(
    image: &Image,
    [top, left, part_height, part_width]: [usize; 4],
    height: usize,
    width: usize,
) -> Image {
    let columns: Vec<usize> = nearest_positions(part_width, width).map(|x| left + x).collect();
    let rows: Vec<usize> = nearest_positions(part_height, height).map(|y| top + y).collect();
    pick(image, &rows, &columns)
}

/// The given rows and columns of an image.
fn pick(image: &Image, rows: &[usize], columns: &[usize]) -> Image {
    let channels = image.channels();
    let mut picked = Image::filled(columns.len(), rows.len(), channels, 0);
    for (y, &row) in rows.iter().enumerate() {
        let source = image.row(row);
        for (pixel, &column) in picked.row_mut(y).chunks_exact_mut(channels).zip(columns) {
            pixel.copy_from_slice(&source[column * channels..][..channels]);
        }
    }
    picked
}

/// The height and width after scaling an image of `height` x `width`.
pub(in crate::transforms) fn resized_size(
    height: usize,
    width: usize,
    size: Size,
) -> (usize, usize) {
    let Size::One(short) = size else {
        return size.square();
    };
    let short = short as usize;
    let long = |long_side: usize, short_side: usize| {
        // As in torchvision: `int(size * long / short)`, a product of integers divided in f64.
        ((short * long_side) as f64 / short_side as f64) as usize
    };
    if width <= height { (long(height, width), short) } else { (short, long(width, height)) }
}

/// Draws the part for a random resized crop, `[top, left, height, width]`. As in torchvision, there are ten
/// tries. If all fail, it is the largest centred part whose aspect ratio is in range.
pub(in crate::transforms) fn random_part(
    [height, width]: [usize; 2],
    scale: [f64; 2],
    ratio: [f64; 2],
    rng: &mut Generator,
) -> [usize; 4] {
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
    if height > 0 && width > 0 && fits(height, width) {
        return Ok(());
    }
    Err(Error::transform("resize", format!("to {height}x{width} pixels is not possible")))
}

/// Whether an image of this size may be made in full.
pub(in crate::transforms) fn fits(height: usize, width: usize) -> bool {
    height.saturating_mul(width).saturating_mul(3) <= MAX_BYTES
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::transform("resize", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::crop::center_crop;
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
        let mut rng = stream(0, Purpose::Augment, 0);
        for _ in 0..500 {
            let [top, left, height, width] =
                random_part([150, 200], [0.08, 1.0], [0.75, 4.0 / 3.0], &mut rng);
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
        let part = random_part([1000, 10], [1.0, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(part, [(1000 - 13) / 2, 0, 13, 10]);
        let part = random_part([9, 1000], [1.0, 1.0], [0.75, 4.0 / 3.0], &mut rng);
        assert_eq!(part, [0, (1000 - 12) / 2, 9, 12]);
    }

    #[test]
    fn pixels_around_a_part_have_no_influence() {
        let mut image = Image::filled(8, 8, 1, 255);
        for y in 2..6 {
            image.row_mut(y)[2..6].fill(10);
        }
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let scaled = resized_crop(&image, [2, 2, 4, 4], 9, 9, interpolation).unwrap();
            assert!(scaled.pixels().iter().all(|&value| value == 10));
        }
    }

    #[test]
    fn a_width_is_scaled_like_by_the_library() {
        let parts = [
            ([60, 90], [3, 5, 50, 77]),
            ([9, 470], [0, 0, 9, 470]),
            ([8, 33], [0, 0, 8, 32]),
            ([5, 6], [1, 1, 3, 4]),
        ];
        for ([height, width], part) in parts {
            for channels in [1, 3] {
                let value = |i: usize| (i * i * 31 % 251) as u8;
                let pixels = (0..height * width * channels).map(value).collect();
                let image = Image::new(width, height, channels, pixels).unwrap();
                let [_, _, rows, columns] = part;
                let whole = [0.0, columns as f64];
                let inner = [columns as f64 * 0.13, columns as f64 * 0.71];
                for filter in [Filter::Bilinear, Filter::Bicubic] {
                    for (wide, source) in [1, 11, 31, 32, 40, 77, 100, 224, 1000]
                        .into_iter()
                        .flat_map(|wide| [(wide, whole), (wide, inner)])
                    {
                        let found = scale_width(&image, part, wide, source, filter).unwrap();
                        let options = resize_options(filter);
                        let options = options.crop(source[0], 0.0, source[1], rows as f64);
                        let expected = one_axis(&image, part, [rows, wide], &options).unwrap();
                        assert_eq!(found, expected, "{part:?} {channels} {wide} {filter:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_middle_alone_is_as_the_middle_of_the_whole() {
        for (height, width) in [(4, 50), (50, 4), (3, 7), (1, 90), (90, 1)] {
            for channels in [1, 3] {
                let value = |i: usize| (i * 37 % 251) as u8;
                let pixels = (0..height * width * channels).map(value).collect();
                let image = Image::new(width, height, channels, pixels).unwrap();
                let (high, wide) = resized_size(height, width, Size::One(41));
                let kinds = [
                    Interpolation::Nearest,
                    Interpolation::Bilinear,
                    Interpolation::Bicubic,
                    Interpolation::Lanczos,
                ];
                for interpolation in kinds {
                    let whole = resize(&image, high, wide, interpolation).unwrap();
                    let expected = center_crop(&whole, 36, 44).unwrap();
                    let sizes = ([high, wide], [36, 44]);
                    let found = resized_center(&image, sizes.0, sizes.1, interpolation).unwrap();
                    let pairs = found.pixels().iter().zip(expected.pixels());
                    let difference = pairs.map(|(a, b)| a.abs_diff(*b)).max();
                    assert!(
                        difference <= Some(1),
                        "{height}x{width} {interpolation:?} {difference:?}"
                    );
                    assert_eq!(found.width(), expected.width());
                }
            }
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        let image = Image::filled(4, 4, 3, 0);
        assert!(resize(&image, 0, 4, Interpolation::Bilinear).is_err());
        assert!(resize(&image, 1 << 14, 1 << 14, Interpolation::Nearest).is_err());
        assert!(resize(&image, 4, usize::MAX, Interpolation::Nearest).is_err());
        assert!(resized_crop(&image, [1, 1, 4, 2], 4, 4, Interpolation::Nearest).is_err());
    }
}
