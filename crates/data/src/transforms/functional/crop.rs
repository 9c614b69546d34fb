//! Crops, padding and mirroring. They move pixels and compute no new values.

use crate::error::{Error, Result};
use crate::image::{Image, MAX_BYTES};
use crate::random::{self, Generator};
use crate::transforms::PaddingMode;

/// The part of `height` x `width` pixels whose upper left corner is at row `top` and column `left`.
///
/// # Errors
/// If the part is empty or not completely inside the image.
pub fn crop(image: &Image, top: usize, left: usize, height: usize, width: usize) -> Result<Image> {
    check_inside(image, top, left, height, width)?;
    let channels = image.channels();
    let mut pixels = Vec::with_capacity(height * width * channels);
    for y in top..top + height {
        pixels.extend_from_slice(&image.row(y)[left * channels..][..width * channels]);
    }
    Image::new(width, height, channels, pixels)
}

pub(super) fn check_inside(
    image: &Image,
    top: usize,
    left: usize,
    height: usize,
    width: usize,
) -> Result<()> {
    let fits = |start: usize, length: usize, whole: usize| {
        length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
    };
    if fits(top, height, image.height()) && fits(left, width, image.width()) {
        return Ok(());
    }
    let reason = format!(
        "a part of {height}x{width} at row {top}, column {left} is not inside an image of {}x{}",
        image.height(),
        image.width()
    );
    Err(Error::transform("crop", reason))
}

/// The middle `height` x `width` pixels. If the image is smaller, it is first padded with black.
///
/// # Errors
/// If a side is 0.
pub fn center_crop(image: &Image, height: usize, width: usize) -> Result<Image> {
    let missing_rows = height.saturating_sub(image.height());
    let missing_columns = width.saturating_sub(image.width());
    if missing_rows + missing_columns > 0 {
        let (left, top) = (missing_columns / 2, missing_rows / 2);
        let sides = [left, top, missing_columns - left, missing_rows - top];
        let padded = pad(image, sides, 0, PaddingMode::Constant)?;
        return center_crop(&padded, height, width);
    }
    let top = centered(image.height() - height);
    let left = centered(image.width() - width);
    crop(image, top, left, height, width)
}

/// Half of the remaining pixels. Halves are rounded to even, as Python's `round` does.
pub(super) fn centered(left_over: usize) -> usize {
    (left_over as f64 / 2.0).round_ties_even() as usize
}

/// The image with `[left, top, right, bottom]` pixels added. `fill` is their value in mode
/// [`PaddingMode::Constant`].
///
/// # Errors
/// If the result would exceed [`MAX_BYTES`]. In mode [`PaddingMode::Reflect`], also if a side gets more pixels
/// than the image has there less one; in mode [`PaddingMode::Symmetric`], if it gets more than the image has.
pub fn pad(
    image: &Image,
    [left, top, right, bottom]: [usize; 4],
    fill: u8,
    mode: PaddingMode,
) -> Result<Image> {
    let (width, height) = (image.width() + left + right, image.height() + top + bottom);
    let channels = image.channels();
    if width.saturating_mul(height).saturating_mul(channels) > MAX_BYTES {
        return Err(Error::transform("pad", format!("{height}x{width} pixels are too many")));
    }
    let columns = sources(image.width(), left, right, mode)?;
    let rows = sources(image.height(), top, bottom, mode)?;
    let mut padded = Image::filled(width, height, channels, fill);
    for (y, source_row) in rows.iter().enumerate() {
        let Some(source_row) = source_row else {
            continue;
        };
        let source = image.row(*source_row);
        let target = padded.row_mut(y);
        target[left * channels..][..source.len()].copy_from_slice(source);
        let outside = (0..left).chain(width - right..width);
        for (x, column) in outside.filter_map(|x| columns[x].map(|column| (x, column))) {
            target[x * channels..][..channels]
                .copy_from_slice(&source[column * channels..][..channels]);
        }
    }
    Ok(padded)
}

/// The source row (or column) of each row (or column) of the padded image. `None` for the fill value.
fn sources(
    length: usize,
    before: usize,
    after: usize,
    mode: PaddingMode,
) -> Result<Vec<Option<usize>>> {
    let most = match mode {
        PaddingMode::Constant | PaddingMode::Edge => usize::MAX,
        PaddingMode::Reflect => length - 1,
        PaddingMode::Symmetric => length,
    };
    if before.max(after) > most {
        let reason = format!("mode {mode:?} can add at most {most} to a side of {length}");
        return Err(Error::transform("pad", reason.to_lowercase()));
    }
    let last = length as isize - 1;
    let source = |position: isize| {
        let inside = (0..=last).contains(&position);
        let mirrored = |offset: isize| {
            if position < 0 { -position - offset } else { 2 * last - position + offset }
        };
        match mode {
            _ if inside => Some(position as usize),
            PaddingMode::Constant => None,
            PaddingMode::Edge => Some(position.clamp(0, last) as usize),
            PaddingMode::Reflect => Some(mirrored(0) as usize),
            PaddingMode::Symmetric => Some(mirrored(1) as usize),
        }
    };
    Ok((-(before as isize)..(length + after) as isize).map(source).collect())
}

/// Mirrors the image left to right.
pub fn hflip(image: &Image) -> Image {
    let mut flipped = image.clone();
    hflip_in_place(&mut flipped);
    flipped
}

pub(in crate::transforms) fn hflip_in_place(image: &mut Image) {
    let rgb = image.channels() == 3;
    for y in 0..image.height() {
        let row = image.row_mut(y);
        if rgb { row.as_chunks_mut::<3>().0.reverse() } else { row.reverse() }
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

/// Draws the position of a random crop of `height` x `width`: row and column of its upper left corner.
pub(in crate::transforms) fn random_corner(
    image: &Image,
    height: usize,
    width: usize,
    rng: &mut Generator,
) -> Result<(usize, usize)> {
    if image.height() < height || image.width() < width {
        let reason = format!(
            "{height}x{width} is larger than the image's {}x{}; resize first, or set \
             `padding` or `pad_if_needed`",
            image.height(),
            image.width()
        );
        return Err(Error::transform("random_crop", reason));
    }
    let top = random::below(rng, image.height() - height + 1);
    let left = random::below(rng, image.width() - width + 1);
    Ok((top, left))
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
