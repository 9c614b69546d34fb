//! The filters of scaling, and scaling by those for which `fast_image_resize` differs from Pillow by more than one level: Pillow's own
//! arithmetic (`Resample.c`).

use crate::error::Result;
use crate::image::Image;

/// A filter over neighbouring pixels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Filter {
    Box,
    Bilinear,
    Hamming,
    Bicubic,
    Lanczos,
}

impl Filter {
    /// The distance from its centre at which it ends, in pixels of the smaller image.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at a distance from its centre.
    pub(super) fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| {
            let x = x * std::f64::consts::PI;
            if x == 0.0 { 1.0 } else { x.sin() / x }
        };
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Bicubic => bicubic(x.abs()),
            Self::Hamming if x.abs() >= 1.0 => 0.0,
            Self::Hamming => sinc(x) * (0.54 + 0.46 * (x * std::f64::consts::PI).cos()),
            Self::Lanczos if !(-3.0..3.0).contains(&x) => 0.0,
            Self::Lanczos => sinc(x) * sinc(x / 3.0),
        }
    }
}

/// Keys 1981, with a slope of -1/2 at a distance of 1.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// One axis of a scaled image: how many pixels it would have, and the ones that are computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) whole: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Axis {
    /// All pixels of an axis.
    pub(super) fn whole(length: usize) -> Self {
        Self { whole: length, first: 0, count: length }
    }
}

/// Bits behind the point in fixed-point weights.
const BITS: u32 = 22;

/// The first source of a pixel, and the weights of the sources from it on.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Scales an image, width first. Rows and columns of the result are those that the axes ask for.
pub(super) fn resample(image: &Image, rows: Axis, columns: Axis, filter: Filter) -> Result<Image> {
    let (width, height, channels) = (image.width(), image.height(), image.channels());
    let across = windows(width, columns, filter);
    let mut narrow = Vec::with_capacity(height * columns.count * channels);
    for y in 0..height {
        let row = image.row(y);
        for window in &across {
            for channel in 0..channels {
                let values = row[window.first * channels..].iter().skip(channel).step_by(channels);
                narrow.push(weighted(values.zip(&window.weights)));
            }
        }
    }
    let length = columns.count * channels;
    let mut pixels = Vec::with_capacity(rows.count * length);
    for window in windows(height, rows, filter) {
        for at in 0..length {
            let values = narrow[window.first * length..].iter().skip(at).step_by(length);
            pixels.push(weighted(values.zip(&window.weights)));
        }
    }
    Image::new(columns.count, rows.count, channels, pixels)
}

fn weighted<'a>(pairs: impl Iterator<Item = (&'a u8, &'a i32)>) -> u8 {
    let sum: i64 = pairs.map(|(&value, &weight)| i64::from(value) * i64::from(weight)).sum();
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

fn windows(length: usize, axis: Axis, filter: Filter) -> Vec<Window> {
    let scale = length as f64 / axis.whole as f64;
    // A larger image is not blurred.
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        // A cast from float truncates and ends at 0.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(length);
        let weight = |x: usize| filter.weight((x as f64 - center + 0.5) / stretch);
        let sum: f64 = (first..end).map(weight).sum();
        let sum = if sum == 0.0 { 1.0 } else { sum };
        let fixed = |weight: f64| (weight / sum * f64::from(1 << BITS)).round() as i32;
        Window { first, weights: (first..end).map(|x| fixed(weight(x))).collect() }
    };
    (axis.first..axis.first + axis.count).map(window).collect()
}
