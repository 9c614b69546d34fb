//! Perspective and elastic changes, with torchvision's geometry.

use super::warp::{check_warp, projective};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::transforms::Interpolation;

/// Moves the corners `start` of the image to `end`, with everything between them as in a photograph of a flat image.
/// Points are (x, y) in pixels: upper left, upper right, lower right, lower left. Pixels from outside the image have the
/// colour `fill`; grey images take its first value.
///
/// # Errors
/// If three of the points lie on a line, or the interpolation is none of nearest, bilinear and bicubic.
pub fn perspective(
    image: &Image,
    start: [[f64; 2]; 4],
    end: [[f64; 2]; 4],
    interpolation: Interpolation,
    fill: [u8; 3],
) -> Result<Image> {
    check_warp("perspective", interpolation)?;
    let numbers = perspective_numbers(start, end).ok_or_else(|| {
        Error::transform("perspective", format!("three of the points {end:?} lie on a line"))
    })?;
    Ok(projective(image, numbers, interpolation, fill))
}

/// The eight numbers that lead from each point of `end` to its point of `start`.
fn perspective_numbers(start: [[f64; 2]; 4], end: [[f64; 2]; 4]) -> Option<[f64; 8]> {
    let mut rows = [[0.0; 9]; 8];
    for (i, ([x, y], [to_x, to_y])) in end.into_iter().zip(start).enumerate() {
        rows[2 * i] = [x, y, 1.0, 0.0, 0.0, 0.0, -to_x * x, -to_x * y, to_x];
        rows[2 * i + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -to_y * x, -to_y * y, to_y];
    }
    // Gaussian elimination, with the largest number of a column as its pivot.
    for column in 0..8 {
        let pivot =
            (column..8).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        let lead = rows[column];
        if lead[column].is_nan() || lead[column].abs() < 1e-9 {
            return None;
        }
        for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column] / lead[column];
            row.iter_mut().zip(lead).for_each(|(value, lead)| *value -= factor * lead);
        }
    }
    // torchvision rounds the numbers to f32.
    Some(std::array::from_fn(|i| f64::from((rows[i][8] / rows[i][i]) as f32)))
}

/// Takes the pixel at column x and row y from (x, y) plus its displacement, `[across, down]` in pixels, row by row. The
/// image is surrounded by the colour `fill`; grey images take its first value.
///
/// # Errors
/// If there is not one displacement for each pixel, or the interpolation is neither nearest nor bilinear.
pub fn elastic(
    image: &Image,
    displacement: &[[f32; 2]],
    interpolation: Interpolation,
    fill: [u8; 3],
) -> Result<Image> {
    check_elastic("elastic", interpolation)?;
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    if displacement.len() != width * height {
        let found = displacement.len();
        let reason = format!("{found} displacements for an image of {height}x{width}");
        return Err(Error::transform("elastic", reason));
    }
    let mut warped = Image::filled(width, height, channels, 0);
    let pixels = warped.pixels_mut().chunks_exact_mut(channels);
    for (i, (pixel, [across, down])) in pixels.zip(displacement).enumerate() {
        let (x, y) = ((i % width) as f32 + across, (i / width) as f32 + down);
        match interpolation {
            Interpolation::Nearest => match inside(image, x.round_ties_even(), y.round_ties_even())
            {
                Some(source) => pixel.copy_from_slice(source),
                None => pixel.copy_from_slice(&fill[..channels]),
            },
            _ => between(image, x, y, fill, pixel),
        }
    }
    Ok(warped)
}

pub(in crate::transforms) fn check_elastic(
    op: &'static str,
    interpolation: Interpolation,
) -> Result<()> {
    match interpolation {
        Interpolation::Nearest | Interpolation::Bilinear => Ok(()),
        _ => Err(Error::transform(op, "`interpolation` must be `nearest` or `bilinear`")),
    }
}

/// Bilinear interpolation. What lies outside the image is black at first. Then the result fades to `fill` by the share of
/// the outside, so that the border of another colour is blended twice, as in torchvision.
fn between(image: &Image, x: f32, y: f32, fill: [u8; 3], pixel: &mut [u8]) {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, lower_share) = (x - left, y - top);
    let corners = [
        (left, top, (1.0 - right_share) * (1.0 - lower_share)),
        (left + 1.0, top, right_share * (1.0 - lower_share)),
        (left, top + 1.0, (1.0 - right_share) * lower_share),
        (left + 1.0, top + 1.0, right_share * lower_share),
    ];
    let (mut sums, mut share) = ([0.0; 3], 0.0);
    for (x, y, weight) in corners {
        let Some(source) = inside(image, x, y) else { continue };
        share += weight;
        for (sum, value) in sums.iter_mut().zip(source) {
            *sum += weight * f32::from(*value);
        }
    }
    for ((value, sum), fill) in pixel.iter_mut().zip(sums).zip(fill) {
        let fill = f32::from(fill);
        *value = ((sum - fill) * share + fill).round_ties_even() as u8;
    }
}

fn inside(image: &Image, x: f32, y: f32) -> Option<&[u8]> {
    let fits = |place: f32, length: usize| {
        // The comparison is false for NaN.
        (place >= 0.0 && place < length as f32).then_some(place as usize)
    };
    Some(image.pixel(fits(x, image.width())?, fits(y, image.height())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image::new(4, 3, 3, (0..36).map(|value| value * 7).collect()).unwrap()
    }

    #[test]
    fn what_moves_nothing_changes_nothing() {
        let image = image();
        let corners = [[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]];
        let still = [[0.0; 2]; 12];
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
            let same = perspective(&image, corners, corners, interpolation, [9; 3]).unwrap();
            assert_eq!(same, image);
            assert_eq!(elastic(&image, &still, interpolation, [9; 3]).unwrap(), image);
        }
    }

    #[test]
    fn impossible_arguments_are_errors() {
        let image = image();
        let corners = [[0.0, 0.0], [3.0, 0.0], [3.0, 2.0], [0.0, 2.0]];
        let line = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 2.0]];
        let bilinear = Interpolation::Bilinear;
        let error = perspective(&image, corners, line, bilinear, [0; 3]).unwrap_err().to_string();
        assert!(error.contains("lie on a line"), "{error}");
        assert!(perspective(&image, corners, corners, Interpolation::Box, [0; 3]).is_err());
        assert!(elastic(&image, &[[0.0; 2]; 11], bilinear, [0; 3]).is_err());
        assert!(elastic(&image, &[[0.0; 2]; 12], Interpolation::Bicubic, [0; 3]).is_err());
        let far = elastic(&image, &[[f32::NAN, 1e30]; 12], bilinear, [1, 2, 3]).unwrap();
        assert_eq!(far.pixel(3, 2), [1, 2, 3]);
    }
}
