//! Rotations and other affine changes, with the geometry of Pillow's `Image.rotate` and of torchvision.

use crate::error::{Error, Result};
use crate::image::{Image, MAX_BYTES};
use crate::transforms::Interpolation;
use crate::transforms::functional::warp::{affine as warp_affine, check_warp};

/// Rotates the image counter-clockwise by `degrees` about its centre. The size does not change. Pixels from
/// outside the image have the value `fill`.
///
/// # Errors
/// If `degrees` is not finite, or the interpolation is none of nearest, bilinear and bicubic.
pub fn rotate(
    image: &Image,
    degrees: f64,
    interpolation: Interpolation,
    fill: u8,
) -> Result<Image> {
    check_warp("rotate", interpolation)?;
    let size = [image.height(), image.width()];
    let matrix = rotation(size, degrees)?;
    Ok(matrix.map_or_else(
        || image.clone(),
        |matrix| warp_affine(image, size, matrix, interpolation, [fill; 3]),
    ))
}

/// The matrix that rotates an image of `[height, width]` pixels about its centre. `None` if nothing changes.
///
/// # Errors
/// If `degrees` is not finite.
pub(in crate::transforms) fn rotation(size: [usize; 2], degrees: f64) -> Result<Option<[f64; 6]>> {
    let degrees = turn(degrees)?;
    let [height, width] = size.map(|side| side as f64);
    Ok((degrees != 0.0).then(|| inverse_rotation([width / 2.0, height / 2.0], degrees)))
}

/// The matrix that rotates about `center`, (x, y), and the height and width of the result. With `expand` they are those
/// that the whole rotated image needs.
///
/// # Errors
/// If `degrees` is not finite, or the result would be too large.
pub(in crate::transforms) fn rotation_about(
    [height, width]: [usize; 2],
    degrees: f64,
    center: Option<[f64; 2]>,
    expand: bool,
) -> Result<Option<([f64; 6], [usize; 2])>> {
    let degrees = turn(degrees)?;
    if degrees == 0.0 {
        return Ok(None);
    }
    let (wide, high) = (width as f64, height as f64);
    let mut matrix = inverse_rotation(center.unwrap_or([wide / 2.0, high / 2.0]), degrees);
    if !expand {
        return Ok(Some((matrix, [height, width])));
    }
    let placed =
        |[a, b, c, d, e, f]: [f64; 6], x: f64, y: f64| [a * x + b * y + c, d * x + e * y + f];
    let corners = [(0.0, 0.0), (wide, 0.0), (wide, high), (0.0, high)];
    let corners = corners.map(|(x, y)| placed(matrix, x, y));
    let extent = |axis: usize| {
        let places = corners.map(|corner| corner[axis]);
        let [least, most] = places
            .iter()
            .fold([f64::MAX, f64::MIN], |[least, most], place| [place.min(least), place.max(most)]);
        most.ceil() - least.floor()
    };
    let (new_width, new_height) = (extent(0), extent(1));
    if new_width * new_height * 3.0 > MAX_BYTES as f64 {
        let reason = format!("`expand` would make an image of {new_height}x{new_width} pixels");
        return Err(Error::transform("rotate", reason));
    }
    [matrix[2], matrix[5]] = placed(matrix, -(new_width - wide) / 2.0, -(new_height - high) / 2.0);
    Ok(Some((matrix, [new_height as usize, new_width as usize])))
}

fn turn(degrees: f64) -> Result<f64> {
    if degrees.is_finite() {
        return Ok(degrees.rem_euclid(360.0));
    }
    Err(Error::transform("rotate", format!("by {degrees} degrees is not possible")))
}

/// `[a, b, c, d, e, f]`: the point (x, y) of the output comes from (ax + by + c, dx + ey + f).
fn inverse_rotation([x, y]: [f64; 2], degrees: f64) -> [f64; 6] {
    // Pillow rounds to 15 places, so that right angles give exact zeros and ones.
    let rounded = |value: f64| (value * 1e15).round_ties_even() / 1e15;
    let angle = -degrees.to_radians();
    let (sin, cos) = (rounded(angle.sin()), rounded(angle.cos()));
    [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]
}

/// How [`affine`] changes an image. The default changes nothing.
///
/// The changes happen in torchvision's order: shear, then scale, then rotation, then translation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Clockwise rotation in degrees, as torchvision's `affine` counts it.
    pub degrees: f64,
    /// Translation in pixels, to the right and downwards.
    pub translate: [f64; 2],
    /// Scale, above 0.
    pub scale: f64,
    /// Shear along x and along y, in degrees.
    pub shear: [f64; 2],
    /// The point (x, y) that rotation, scale and shear leave in its place. The default is the centre.
    pub center: Option<[f64; 2]>,
}

impl Default for Affine {
    fn default() -> Self {
        Self { degrees: 0.0, translate: [0.0; 2], scale: 1.0, shear: [0.0; 2], center: None }
    }
}

impl Affine {
    /// `[a, b, c, d, e, f]`: the point (x, y) of a result of `[height, width]` comes from (ax + by + c, dx + ey + f).
    pub(in crate::transforms) fn matrix(&self, [height, width]: [usize; 2]) -> [f64; 6] {
        let [center_x, center_y] = self.center.unwrap_or([width as f64 * 0.5, height as f64 * 0.5]);
        let [translate_x, translate_y] = self.translate;
        let rotation = self.degrees.to_radians();
        let [shear_x, shear_y] = self.shear.map(f64::to_radians);
        let turned = rotation - shear_y;
        let a = turned.cos() / shear_y.cos();
        let b = -turned.cos() * shear_x.tan() / shear_y.cos() - rotation.sin();
        let c = turned.sin() / shear_y.cos();
        let d = -turned.sin() * shear_x.tan() / shear_y.cos() + rotation.cos();
        let [a, b, d, e] = [d, -b, -c, a].map(|value| value / self.scale);
        let (x, y) = (-center_x - translate_x, -center_y - translate_y);
        [a, b, a * x + b * y + center_x, d, e, d * x + e * y + center_y]
    }
}

/// Rotates, moves, scales and shears the image. The size does not change. Pixels from outside the image have the colour
/// `fill`; grey images take its first value.
///
/// # Errors
/// If a number is not finite, the scale is not above 0, or the interpolation is none of nearest, bilinear and bicubic.
pub fn affine(
    image: &Image,
    change: &Affine,
    interpolation: Interpolation,
    fill: [u8; 3],
) -> Result<Image> {
    check_warp("affine", interpolation)?;
    let size = [image.height(), image.width()];
    let matrix = change.matrix(size);
    if !(change.scale > 0.0 && matrix.iter().all(|value| value.is_finite())) {
        return Err(Error::transform("affine", format!("{change:?} is not possible")));
    }
    Ok(warp_affine(image, size, matrix, interpolation, fill))
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
        let shifted = Affine { translate: [3.0, 0.0], ..Affine::default() };
        let moved = affine(&image, &shifted, Interpolation::Nearest, [1, 2, 3]).unwrap();
        assert_eq!((moved.pixel(2, 4), moved.pixel(3, 4)), (&[1, 2, 3][..], &[200; 3][..]));
    }

    #[test]
    fn impossible_arguments_are_errors() {
        let image = Image::filled(2, 2, 1, 0);
        assert!(rotate(&image, f64::NAN, Interpolation::Nearest, 0).is_err());
        assert!(rotate(&image, 10.0, Interpolation::Lanczos, 0).is_err());
        for change in [
            Affine { scale: 0.0, ..Affine::default() },
            Affine { degrees: f64::INFINITY, ..Affine::default() },
        ] {
            assert!(affine(&image, &change, Interpolation::Nearest, [0; 3]).is_err());
        }
        let size = [20_000, 20_000];
        assert!(rotation_about(size, 45.0, None, true).is_err());
    }
}
