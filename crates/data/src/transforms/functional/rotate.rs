//! Rotation about the centre, with the geometry and arithmetic of Pillow's `Image.rotate`.

use crate::error::{Error, Result};
use crate::image::Image;
use crate::transforms::Interpolation;

/// Rotates the image counter-clockwise by `degrees` about its centre. The size does not change. Pixels from
/// outside the image have the value `fill`.
///
/// # Errors
/// If `degrees` is not finite, or the interpolation is [`Interpolation::Bicubic`].
pub fn rotate(
    image: &Image,
    degrees: f64,
    interpolation: Interpolation,
    fill: u8,
) -> Result<Image> {
    if interpolation == Interpolation::Bicubic {
        return Err(Error::transform("rotate", "knows `nearest` and `bilinear` only"));
    }
    let matrix = rotation([image.height(), image.width()], degrees)?;
    Ok(matrix.map_or_else(|| image.clone(), |matrix| affine(image, matrix, interpolation, fill)))
}

/// The matrix that rotates an image of `[height, width]` pixels, for [`affine`]. `None` if nothing changes.
///
/// # Errors
/// If `degrees` is not finite.
pub(in crate::transforms) fn rotation(size: [usize; 2], degrees: f64) -> Result<Option<[f64; 6]>> {
    if !degrees.is_finite() {
        return Err(Error::transform("rotate", format!("by {degrees} degrees is not possible")));
    }
    let degrees = degrees.rem_euclid(360.0);
    Ok((degrees != 0.0).then(|| inverse_rotation(size, degrees)))
}

/// Takes each pixel from where the matrix says. Pixels from outside the image have the value `fill`. The interpolation
/// must not be bicubic.
pub(in crate::transforms) fn affine(
    image: &Image,
    matrix: [f64; 6],
    interpolation: Interpolation,
    fill: u8,
) -> Image {
    match interpolation {
        Interpolation::Nearest => nearest(image, matrix, fill),
        _ => bilinear(image, matrix, fill),
    }
}

/// `[a, b, c, d, e, f]`: the point (x, y) of the output comes from (ax + by + c, dx + ey + f).
fn inverse_rotation([height, width]: [usize; 2], degrees: f64) -> [f64; 6] {
    // Pillow rounds to 15 places, so that right angles give exact zeros and ones.
    let rounded = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let angle = -degrees.to_radians();
    let (sin, cos) = (rounded(angle.sin()), rounded(angle.cos()));
    let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
    [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]
}

/// The nearest pixel, in Pillow's 16.16 fixed-point arithmetic (`affine_fixed` in `Geometry.c`). It uses `i64`;
/// Pillow uses 32 bits and checks that they do not overflow.
fn nearest(image: &Image, [a, b, c, d, e, f]: [f64; 6], fill: u8) -> Image {
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let (width, height) = (image.width(), image.height());
    let channels = image.channels();
    let (mut x_start, mut y_start) = (fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5));
    let (x_step, y_step) = (fixed(a), fixed(d));
    let mut rotated = Image::filled(width, height, channels, fill);
    for y in 0..height {
        let (mut source_x, mut source_y) = (x_start, y_start);
        for pixel in rotated.row_mut(y).chunks_exact_mut(channels) {
            let inside = |position: i64, length: usize| {
                usize::try_from(position >> 16).ok().filter(|&index| index < length)
            };
            if let (Some(x), Some(y)) = (inside(source_x, width), inside(source_y, height)) {
                pixel.copy_from_slice(image.pixel(x, y));
            }
            source_x += x_step;
            source_y += y_step;
        }
        x_start += fixed(b);
        y_start += fixed(e);
    }
    rotated
}

/// Bilinear interpolation between pixel centres (`bilinear_filter` in `Geometry.c`). Beyond the outermost
/// centres the edge is repeated. Results are truncated, not rounded, as in Pillow.
fn bilinear(image: &Image, [a, b, c, d, e, f]: [f64; 6], fill: u8) -> Image {
    let (width, height) = (image.width(), image.height());
    let channels = image.channels();
    let mut rotated = Image::filled(width, height, channels, fill);
    for y in 0..height {
        let row = rotated.row_mut(y);
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
            let (source_x, source_y) = (a * x + b * y + c, d * x + e * y + f);
            let inside =
                (0.0..width as f64).contains(&source_x) && (0.0..height as f64).contains(&source_y);
            if inside {
                interpolate(image, source_x - 0.5, source_y - 0.5, pixel);
            }
        }
    }
    rotated
}

fn interpolate(image: &Image, x: f64, y: f64, pixel: &mut [u8]) {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, lower_share) = (x - left, y - top);
    let column = |x: f64| x.clamp(0.0, (image.width() - 1) as f64) as usize;
    let line = |y: f64| y.clamp(0.0, (image.height() - 1) as f64) as usize;
    let (left, right) = (column(left), column(left + 1.0));
    let (upper, lower) = (line(top), line(top + 1.0));
    for (channel, value) in pixel.iter_mut().enumerate() {
        let at = |x: usize, y: usize| f64::from(image.pixel(x, y)[channel]);
        let mix = |from: f64, to: f64, share: f64| from + (to - from) * share;
        let above = mix(at(left, upper), at(right, upper), right_share);
        let below = mix(at(left, lower), at(right, lower), right_share);
        *value = mix(above, below, lower_share) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarter_turn_is_counter_clockwise() {
        let image = Image::new(2, 2, 1, vec![1, 2, 3, 4]).unwrap();
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
            let turned = rotate(&image, 90.0, interpolation, 0).unwrap();
            assert_eq!(turned.pixels(), [2, 4, 1, 3]);
        }
    }

    #[test]
    fn full_turns_change_nothing() {
        let image = Image::new(3, 1, 1, vec![1, 2, 3]).unwrap();
        for degrees in [0.0, 360.0, -720.0] {
            assert_eq!(rotate(&image, degrees, Interpolation::Nearest, 0).unwrap(), image);
        }
    }

    #[test]
    fn corners_take_the_fill_value() {
        let image = Image::filled(9, 9, 3, 200);
        let turned = rotate(&image, 45.0, Interpolation::Nearest, 7).unwrap();
        assert_eq!(turned.pixel(0, 0), [7, 7, 7]);
        assert_eq!(turned.pixel(4, 4), [200, 200, 200]);
    }

    #[test]
    fn impossible_arguments_are_errors() {
        let image = Image::filled(2, 2, 1, 0);
        assert!(rotate(&image, f64::NAN, Interpolation::Nearest, 0).is_err());
        assert!(rotate(&image, 10.0, Interpolation::Bicubic, 0).is_err());
    }
}
