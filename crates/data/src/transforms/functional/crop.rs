//! Crops, padding and mirroring. They move pixels and compute no new values.

use super::mirror::mirror_rgb;
use crate::error::{Error, Result};
use crate::image::{Image, MAX_BYTES};
use crate::random::{self, Generator};
use crate::transforms::{Fill, PaddingMode};

/// The part of `height` x `width` pixels whose upper left corner is at row `top` and column `left`.
///
/// # Errors
/// If the part is empty or not completely inside the image.
pub fn crop(image: &Image, top: usize, left: usize, height: usize, width: usize) -> Result<Image> {
    check_inside([image.height(), image.width()], [top, left], [height, width])?;
    let channels = image.channels();
    let mut pixels = Vec::with_capacity(height * width * channels);
    for y in top..top + height {
        pixels.extend_from_slice(&image.row(y)[left * channels..][..width * channels]);
    }
    Image::new(width, height, channels, pixels)
}

/// Checks that a part of `size` at `corner` lies inside an image of size `whole`. All are rows, then columns.
pub(crate) fn check_inside(whole: [usize; 2], corner: [usize; 2], size: [usize; 2]) -> Result<()> {
    let fits = |axis: usize| {
        let end = corner[axis].checked_add(size[axis]);
        size[axis] > 0 && end.is_some_and(|end| end <= whole[axis])
    };
    if fits(0) && fits(1) {
        return Ok(());
    }
    let reason = format!(
        "a part of {}x{} at row {}, column {} is not inside an image of {}x{}",
        size[0], size[1], corner[0], corner[1], whole[0], whole[1]
    );
    Err(Error::transform("crop", reason))
}

/// The middle `height` x `width` pixels. If the image is smaller, it is first padded with black.
///
/// # Errors
/// If a side is 0.
pub fn center_crop(image: &Image, height: usize, width: usize) -> Result<Image> {
    let corner = center_corner([image.height(), image.width()], [height, width]);
    window(image, corner, [height, width], [0; 3], PaddingMode::Constant)
}

/// Row and column of the upper left corner of the middle `size` pixels of an image of size `whole`. They are negative
/// where the image is smaller.
pub(in crate::transforms) fn center_corner(whole: [usize; 2], size: [usize; 2]) -> [isize; 2] {
    let corner = |from: usize, to: usize| match from.checked_sub(to) {
        Some(left_over) => centered(left_over) as isize,
        None => -(((to - from) / 2) as isize),
    };
    [corner(whole[0], size[0]), corner(whole[1], size[1])]
}

/// Half of the remaining pixels. Halves are rounded to even, as Python's `round` does.
pub(super) fn centered(left_over: usize) -> usize {
    (left_over as f64 / 2.0).round_ties_even() as usize
}

/// The image with `[left, top, right, bottom]` pixels added. `fill` is their colour in mode
/// [`PaddingMode::Constant`].
///
/// # Errors
/// If the result would exceed [`MAX_BYTES`]. In mode [`PaddingMode::Reflect`], also if a side gets more pixels
/// than the image has there less one; in mode [`PaddingMode::Symmetric`], if it gets more than the image has.
pub fn pad(
    image: &Image,
    [left, top, right, bottom]: [usize; 4],
    fill: impl Into<Fill>,
    mode: PaddingMode,
) -> Result<Image> {
    let fill = fill.into().color();
    let (height, width) = (image.height() + top + bottom, image.width() + left + right);
    window(image, [-(top as isize), -(left as isize)], [height, width], fill, mode)
}

/// The part of `[height, width]` pixels whose upper left corner is at row `top` and column `left`. Pixels outside the
/// image are those that [`pad`] adds.
///
/// # Errors
/// Those of [`pad`], or if the part is empty.
pub(in crate::transforms) fn window(
    image: &Image,
    [top, left]: [isize; 2],
    [height, width]: [usize; 2],
    fill: [u8; 3],
    mode: PaddingMode,
) -> Result<Image> {
    let (rows, columns) = (image.height(), image.width());
    let channels = image.channels();
    check_window([rows, columns, channels], [top, left], [height, width], mode)?;
    let mut part = Image::colored(width, height, channels, fill);
    // The columns of the part that lie inside the image.
    let first = left.saturating_neg().clamp(0, width as isize) as usize;
    let end = (columns as isize - left).clamp(first as isize, width as isize) as usize;
    let inside = (left + first as isize) as usize * channels;
    let outside = (0..first).chain(end..width);
    let outside = outside.filter_map(|x| Some((x, source(left + x as isize, columns, mode)?)));
    let outside: Vec<(usize, usize)> = outside.collect();
    for y in 0..height {
        let Some(row) = source(top + y as isize, rows, mode) else {
            continue;
        };
        let source = image.row(row);
        let target = part.row_mut(y);
        if first < end {
            let length = (end - first) * channels;
            target[first * channels..][..length].copy_from_slice(&source[inside..][..length]);
        }
        for &(x, column) in &outside {
            target[x * channels..][..channels]
                .copy_from_slice(&source[column * channels..][..channels]);
        }
    }
    Ok(part)
}

/// Checks that a window of `size` at `corner`, both rows and columns, is possible in an image of this shape.
pub(in crate::transforms) fn check_window(
    [rows, columns, channels]: [usize; 3],
    corner: [isize; 2],
    [height, width]: [usize; 2],
    mode: PaddingMode,
) -> Result<()> {
    if height == 0 || width == 0 {
        return Err(Error::transform("crop", format!("a part of {height}x{width} is empty")));
    }
    if height.saturating_mul(width).saturating_mul(channels) > MAX_BYTES {
        return Err(Error::transform("pad", format!("{height}x{width} pixels are too many")));
    }
    for ((length, first), count) in [rows, columns].into_iter().zip(corner).zip([height, width]) {
        let most = match mode {
            PaddingMode::Constant | PaddingMode::Edge => continue,
            PaddingMode::Reflect => length - 1,
            PaddingMode::Symmetric => length,
        };
        let before = usize::try_from(first.saturating_neg()).unwrap_or(0);
        let after = first.saturating_add_unsigned(count).saturating_sub_unsigned(length);
        if before.max(usize::try_from(after).unwrap_or(0)) > most {
            let reason = format!("mode {mode:?} can add at most {most} to a side of {length}");
            return Err(Error::transform("pad", reason.to_lowercase()));
        }
    }
    Ok(())
}

/// The row (or column) of an image with `length` of them whose content is at `position`. `None` for the fill value.
fn source(position: isize, length: usize, mode: PaddingMode) -> Option<usize> {
    let last = length as isize - 1;
    let mirrored = |offset: isize| {
        if position < 0 { -position - offset } else { 2 * last - position + offset }
    };
    match mode {
        _ if (0..=last).contains(&position) => Some(position as usize),
        PaddingMode::Constant => None,
        PaddingMode::Edge => Some(position.clamp(0, last) as usize),
        PaddingMode::Reflect => Some(mirrored(0) as usize),
        PaddingMode::Symmetric => Some(mirrored(1) as usize),
    }
}

/// Covers a rectangle of `[height, width]` pixels, which must lie inside the image, with one colour. Grey images take
/// its first value.
pub(in crate::transforms) fn cover(
    image: &mut Image,
    [top, left]: [usize; 2],
    [height, width]: [usize; 2],
    color: [u8; 3],
) {
    let channels = image.channels();
    for y in top..top + height {
        let row = &mut image.row_mut(y)[left * channels..][..width * channels];
        row.chunks_exact_mut(channels).for_each(|pixel| pixel.copy_from_slice(&color[..channels]));
    }
}

/// Mirrors the image left to right.
pub fn hflip(image: &Image) -> Image {
    let mut flipped = image.clone();
    hflip_in_place(&mut flipped);
    flipped
}

pub(in crate::transforms) fn hflip_in_place(image: &mut Image) {
    let width = image.width().max(1);
    if image.channels() == 3 {
        mirror_rgb(image.pixels_mut().as_chunks_mut().0, width);
    } else {
        image.pixels_mut().chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
}

/// Mirrors the image top to bottom.
pub fn vflip(image: &Image) -> Image {
    let mut flipped = image.clone();
    for y in 0..image.height() {
        flipped.row_mut(y).copy_from_slice(image.row(image.height() - 1 - y));
    }
    flipped
}

/// Draws the position of a random crop of `height` x `width` in an image of size `whole`: row and column of its upper
/// left corner.
pub(in crate::transforms) fn random_corner(
    [rows, columns]: [usize; 2],
    [height, width]: [usize; 2],
    rng: &mut Generator,
) -> Result<[usize; 2]> {
    if rows < height || columns < width {
        let reason = format!(
            "{height}x{width} is larger than the image's {rows}x{columns}; resize first, or set \
             `padding` or `pad_if_needed`"
        );
        return Err(Error::transform("random_crop", reason));
    }
    let top = random::below(rng, rows - height + 1);
    let left = random::below(rng, columns - width + 1);
    Ok([top, left])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[u8]) -> Image {
        Image::new(values.len(), 1, 1, values.to_vec()).unwrap()
    }

    #[track_caller]
    fn check_pad(mode: PaddingMode, expected: &[u8]) {
        let padded = pad(&row(&[1, 2, 3]), [2, 0, 2, 0], 9, mode).unwrap();
        assert_eq!(padded.pixels(), expected);
    }

    #[test]
    fn padding_modes() {
        check_pad(PaddingMode::Constant, &[9, 9, 1, 2, 3, 9, 9]);
        check_pad(PaddingMode::Edge, &[1, 1, 1, 2, 3, 3, 3]);
        check_pad(PaddingMode::Reflect, &[3, 2, 1, 2, 3, 2, 1]);
        check_pad(PaddingMode::Symmetric, &[2, 1, 1, 2, 3, 3, 2]);
    }

    #[test]
    fn padding_may_have_a_colour() {
        let image = Image::new(1, 1, 3, vec![1, 2, 3]).unwrap();
        let padded = pad(&image, [1, 0, 0, 1], [7, 8, 9], PaddingMode::Constant).unwrap();
        assert_eq!(padded.pixels(), [7, 8, 9, 1, 2, 3, 7, 8, 9, 7, 8, 9]);
        let grey = pad(&row(&[1]), [1, 0, 0, 0], [7, 8, 9], PaddingMode::Constant).unwrap();
        assert_eq!(grey.pixels(), [7, 1]);
        for (json, printed) in [("9", "9"), ("[7,8,9]", "[7, 8, 9]")] {
            let fill: Fill = serde_json::from_str(json).unwrap();
            assert_eq!(
                (serde_json::to_string(&fill).unwrap(), format!("{fill:?}")),
                (json.into(), printed.into())
            );
        }
    }

    #[test]
    fn padding_beyond_the_image_is_an_error() {
        let image = row(&[1, 2, 3]);
        assert!(pad(&image, [3, 0, 0, 0], 0, PaddingMode::Reflect).is_err());
        assert!(pad(&image, [0, 0, 4, 0], 0, PaddingMode::Symmetric).is_err());
        assert!(pad(&image, [0, 1, 0, 0], 0, PaddingMode::Reflect).is_err());
        assert!(pad(&image, [1 << 30, 0, 0, 0], 0, PaddingMode::Constant).is_err());
    }

    #[test]
    fn crops_outside_are_errors() {
        let image = row(&[1, 2, 3]);
        assert_eq!(crop(&image, 0, 1, 1, 2).unwrap().pixels(), [2, 3]);
        assert!(crop(&image, 0, 2, 1, 2).is_err());
        assert!(crop(&image, 0, 0, 1, 0).is_err());
        assert!(crop(&image, usize::MAX, 0, 1, 1).is_err());
        assert!(center_crop(&image, 1, 0).is_err());
    }

    #[test]
    fn odd_remainders_round_to_even() {
        // torchvision: int(round(0.5)) = 0, int(round(1.5)) = 2.
        assert_eq!(center_crop(&row(&[1, 2]), 1, 1).unwrap().pixels(), [1]);
        assert_eq!(center_crop(&row(&[1, 2, 3, 4]), 1, 1).unwrap().pixels(), [3]);
        assert_eq!(center_crop(&row(&[1, 2]), 1, 5).unwrap().pixels(), [0, 1, 2, 0, 0]);
    }

    #[test]
    fn flips_twice_are_nothing() {
        let pixels = (0..2 * 3 * 3).collect();
        let image = Image::new(2, 3, 3, pixels).unwrap();
        assert_eq!(hflip(&image).pixel(0, 0), image.pixel(1, 0));
        assert_eq!(vflip(&image).row(0), image.row(2));
        assert_eq!(hflip(&hflip(&image)), image);
        assert_eq!(vflip(&vflip(&image)), image);
    }
}
