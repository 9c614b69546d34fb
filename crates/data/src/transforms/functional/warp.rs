//! Images whose pixels come from other places, with the arithmetic of Pillow's `Geometry.c`.

use crate::error::{Error, Result};
use crate::image::Image;
use crate::transforms::Interpolation;

/// Interpolations that take pixels from other places. The filters that average wider areas only scale.
pub(in crate::transforms) fn check_warp(
    op: &'static str,
    interpolation: Interpolation,
) -> Result<()> {
    match interpolation {
        Interpolation::Nearest | Interpolation::Bilinear | Interpolation::Bicubic => Ok(()),
        _ => {
            let rule = "`interpolation` must be `nearest`, `bilinear` or `bicubic`";
            Err(Error::transform(op, rule))
        }
    }
}

/// Takes each pixel of a result of `[height, width]` from where the matrix says: the pixel (x, y) comes from
/// (ax + by + c, dx + ey + f), where pixel centres lie at halves. Pixels from outside the image have the colour
/// `fill`.
pub(in crate::transforms) fn affine(
    image: &Image,
    size: [usize; 2],
    matrix: [f64; 6],
    interpolation: Interpolation,
    fill: [u8; 3],
) -> Image {
    let [a, b, c, d, e, f] = matrix;
    match interpolation {
        // Pillow adds positions up where the axes stay axes, and uses fixed-point numbers otherwise.
        Interpolation::Nearest if b == 0.0 && d == 0.0 => scaled(image, size, matrix, fill),
        Interpolation::Nearest => nearest_fixed(image, size, matrix, fill),
        _ => warp(image, size, interpolation, fill, |x, y| (a * x + b * y + c, d * x + e * y + f)),
    }
}

/// As [`affine`], for the eight numbers of a perspective: the pixel (x, y) comes from ((ax + by + c) / w, (dx + ey + f)
/// / w) with w = gx + hy + 1.
pub(in crate::transforms) fn projective(
    image: &Image,
    [a, b, c, d, e, f, g, h]: [f64; 8],
    interpolation: Interpolation,
    fill: [u8; 3],
) -> Image {
    let size = [image.height(), image.width()];
    warp(image, size, interpolation, fill, |x, y| {
        let w = g * x + h * y + 1.0;
        ((a * x + b * y + c) / w, (d * x + e * y + f) / w)
    })
}

/// Takes the pixel whose centre is at (x, y) from `source(x, y)`.
pub(super) fn warp(
    image: &Image,
    size: [usize; 2],
    interpolation: Interpolation,
    fill: [u8; 3],
    source: impl Fn(f64, f64) -> (f64, f64),
) -> Image {
    // Each of them is compiled with its own inner loop.
    match interpolation {
        Interpolation::Nearest => sampled(image, size, fill, source, nearest),
        Interpolation::Bicubic => sampled(image, size, fill, source, bicubic),
        _ => sampled(image, size, fill, source, bilinear),
    }
}

fn sampled(
    image: &Image,
    [height, width]: [usize; 2],
    fill: [u8; 3],
    source: impl Fn(f64, f64) -> (f64, f64),
    sample: impl Fn(&Image, f64, f64, &mut [u8]),
) -> Image {
    let mut warped = filled(image, [height, width], fill);
    let channels = image.channels();
    let (wide, high) = (image.width() as f64, image.height() as f64);
    for y in 0..height {
        let pixels = warped.row_mut(y).chunks_exact_mut(channels);
        for (x, pixel) in pixels.enumerate() {
            let (from_x, from_y) = source(x as f64 + 0.5, y as f64 + 0.5);
            // The comparisons are false for NaN.
            if (0.0..wide).contains(&from_x) && (0.0..high).contains(&from_y) {
                sample(image, from_x, from_y, pixel);
            }
        }
    }
    warped
}

fn filled(image: &Image, [height, width]: [usize; 2], fill: [u8; 3]) -> Image {
    let mut filled = Image::filled(width, height, image.channels(), fill[0]);
    if fill != [fill[0]; 3] && image.channels() == 3 {
        filled.pixels_mut().as_chunks_mut::<3>().0.fill(fill);
    }
    filled
}

/// The nearest pixel in 16.16 fixed-point arithmetic (`affine_fixed`). It uses `i64`; Pillow uses 32 bits and checks
/// that they do not overflow.
fn nearest_fixed(
    image: &Image,
    [height, width]: [usize; 2],
    [a, b, c, d, e, f]: [f64; 6],
    fill: [u8; 3],
) -> Image {
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let channels = image.channels();
    let (mut x_start, mut y_start) = (fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5));
    let (x_step, y_step) = (fixed(a), fixed(d));
    let mut warped = filled(image, [height, width], fill);
    for y in 0..height {
        let (mut source_x, mut source_y) = (x_start, y_start);
        for pixel in warped.row_mut(y).chunks_exact_mut(channels) {
            let inside = |position: i64, length: usize| {
                usize::try_from(position >> 16).ok().filter(|&index| index < length)
            };
            let (column, row) = (inside(source_x, image.width()), inside(source_y, image.height()));
            if let (Some(x), Some(y)) = (column, row) {
                pixel.copy_from_slice(image.pixel(x, y));
            }
            source_x += x_step;
            source_y += y_step;
        }
        x_start += fixed(b);
        y_start += fixed(e);
    }
    warped
}

/// The nearest pixel where columns come from columns and rows from rows (`ImagingScaleAffine`).
fn scaled(
    image: &Image,
    [height, width]: [usize; 2],
    [a, _, c, _, e, f]: [f64; 6],
    fill: [u8; 3],
) -> Image {
    let places = |start: f64, step: f64, count: usize, length: usize| {
        let position = std::iter::successors(Some(start + step * 0.5), move |at| Some(at + step));
        let place = move |at: f64| (at >= 0.0 && at < length as f64).then_some(at as usize);
        position.map(place).take(count).collect::<Vec<_>>()
    };
    let columns = places(c, a, width, image.width());
    let rows = places(f, e, height, image.height());
    let mut warped = filled(image, [height, width], fill);
    for (y, row) in rows.into_iter().enumerate() {
        let Some(row) = row else { continue };
        let pixels = warped.row_mut(y).chunks_exact_mut(image.channels());
        for (pixel, column) in pixels.zip(&columns) {
            if let Some(column) = column {
                pixel.copy_from_slice(image.pixel(*column, row));
            }
        }
    }
    warped
}

fn nearest(image: &Image, x: f64, y: f64, pixel: &mut [u8]) {
    pixel.copy_from_slice(image.pixel(x as usize, y as usize));
}

/// Between pixel centres (`bilinear_filter`). Beyond the outermost centres the edge is repeated. Results are truncated,
/// not rounded, as in Pillow.
fn bilinear(image: &Image, x: f64, y: f64, pixel: &mut [u8]) {
    let (x, y) = (x - 0.5, y - 0.5);
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

/// The cubic polynomial through four values in a row (`bicubic_filter`, where `a` is -1). A row outside the image counts
/// as the one before it.
fn bicubic(image: &Image, x: f64, y: f64, pixel: &mut [u8]) {
    let (x, y) = (x - 0.5, y - 0.5);
    let (left, top) = (x.floor(), y.floor());
    let (x_share, y_share) = (x - left, y - top);
    let cubic = |[v1, v2, v3, v4]: [f64; 4], share: f64| {
        let (p2, p3, p4) = (v3 - v1, 2.0 * (v1 - v2) + v3 - v4, v2 - v1 - v3 + v4);
        v2 + share * (p2 + share * (p3 + share * p4))
    };
    let (first_x, first_y) = (left as isize - 1, top as isize - 1);
    let last = (image.width() - 1) as isize;
    let columns = [0, 1, 2, 3].map(|at| (first_x + at).clamp(0, last) as usize);
    for (channel, value) in pixel.iter_mut().enumerate() {
        let row = |y: usize| cubic(columns.map(|x| f64::from(image.pixel(x, y)[channel])), x_share);
        let mut rows = [row(first_y.max(0) as usize); 4];
        for at in 1..4 {
            let y = first_y + at as isize;
            let is_inside = y >= 0 && (y as usize) < image.height();
            rows[at] = if is_inside { row(y as usize) } else { rows[at - 1] };
        }
        // A cast from float saturates at 0 and 255, which is the clipping needed here.
        *value = cubic(rows, y_share) as u8;
    }
}
