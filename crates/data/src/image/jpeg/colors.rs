//! Converts samples to RGB with libjpeg's upsampling and colours, which Pillow uses.

use super::Reason;
use super::headers::{Colors, Component, Frame};
use super::samples::Samples;
use super::window::Window;

/// How the rows of a component are enlarged to those of the image.
#[derive(Clone, Copy)]
enum Growth {
    /// Each sample is repeated for this many columns and rows.
    Repeat([usize; 2]),
    /// Triangle filters over two neighbours ("fancy upsampling").
    Across,
    Down,
    Both,
}

impl Growth {
    fn of(component: &Component, frame: &Frame) -> Result<Self, Reason> {
        let [h, v] = [component.across, component.down].map(|factor| factor * component.side);
        let [across, down] = [frame.across, frame.down].map(|factor| factor * frame.side);
        if !across.is_multiple_of(h) || !down.is_multiple_of(v) {
            return Err("its components' sampling factors are no multiples of one another".into());
        }
        let factors = [across / h, down / v];
        if frame.side == 1 {
            // As in libjpeg.
            return Ok(Self::Repeat(factors));
        }
        // libjpeg's filters need three columns. For fewer it repeats samples.
        let is_narrow = component.width <= 2;
        Ok(match factors {
            [2, 1] if !is_narrow => Self::Across,
            [1, 2] => Self::Down,
            [2, 2] if !is_narrow => Self::Both,
            factors => Self::Repeat(factors),
        })
    }

    /// Writes row `y` of the image. `row` must have room for two samples more than the enlarged row of the
    /// component.
    #[inline(always)]
    fn row(self, samples: &Samples, y: usize, sums: &mut Vec<u16>, row: &mut [u8]) {
        // The component's row nearer to this row of the image, and the other one.
        let near = samples.row(y / 2);
        let is_upper = y.is_multiple_of(2);
        let other = samples.row(if is_upper { (y / 2).saturating_sub(1) } else { y / 2 + 1 });
        match self {
            Self::Repeat([1, down]) => {
                let source = samples.row(y / down);
                row[..source.len()].copy_from_slice(source);
            }
            Self::Repeat([across, down]) => {
                for (group, &value) in row.chunks_mut(across).zip(samples.row(y / down)) {
                    group.fill(value);
                }
            }
            Self::Across => {
                sums.clear();
                sums.extend(samples.row(y).iter().map(|&value| u16::from(value)));
                double::<2>(sums, [1, 2], row);
            }
            Self::Down => {
                let bias = if is_upper { 1 } else { 2 };
                for ((value, &near), &other) in row.iter_mut().zip(near).zip(other) {
                    *value = ((u16::from(near) * 3 + u16::from(other) + bias) >> 2) as u8;
                }
            }
            Self::Both => {
                sums.clear();
                let pairs = near.iter().zip(other);
                sums.extend(pairs.map(|(&near, &other)| u16::from(near) * 3 + u16::from(other)));
                double::<4>(sums, [8, 7], row);
            }
        }
    }
}

/// Doubles a row. Each value becomes two: three parts of itself and one part of its left or right neighbour,
/// divided by `2^SHIFT`. Before the division, `bias` is added to the left and to the right result.
#[inline(always)]
fn double<const SHIFT: u16>(values: &[u16], bias: [u16; 2], row: &mut [u8]) {
    let pair = |before: u16, value: u16, after: u16| {
        [
            ((value * 3 + before + bias[0]) >> SHIFT) as u8,
            ((value * 3 + after + bias[1]) >> SHIFT) as u8,
        ]
    };
    let (Some(&[first, second]), Some(&[before_last, last])) =
        (values.first_chunk(), values.last_chunk())
    else {
        return;
    };
    let pairs = &mut row.as_chunks_mut::<2>().0[..values.len()];
    pairs[0] = pair(first, first, second);
    for (place, window) in pairs[1..].iter_mut().zip(values.windows(3)) {
        *place = pair(window[0], window[1], window[2]);
    }
    pairs[values.len() - 1] = pair(before_last, last, last);
}

/// Converts the samples of a window to RGB: the part of the image that it is for.
pub(super) fn to_rgb(
    frame: &Frame,
    window: &Window,
    colors: Colors,
    samples: &[Samples],
) -> Result<Vec<u8>, Reason> {
    let growths: Result<Vec<Growth>, Reason> =
        frame.components.iter().map(|component| Growth::of(component, frame)).collect();
    let growths = &growths?;
    let [_, _, height, width] = window.part;
    let mut pixels = vec![0; width * height * 3];
    pulp::Arch::new().dispatch(Rows { window, colors, samples, growths, pixels: &mut pixels });
    Ok(pixels)
}

/// The rows of an image, compiled for the instructions of the machine.
struct Rows<'a> {
    window: &'a Window,
    colors: Colors,
    samples: &'a [Samples],
    growths: &'a [Growth],
    pixels: &'a mut [u8],
}

impl pulp::WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let [top, left, _, width] = self.window.part;
        let mut sums = Vec::new();
        let mut rows: [Vec<u8>; 4] = std::array::from_fn(|_| vec![0; self.window.frame.width + 8]);
        for (y, line) in self.pixels.chunks_exact_mut(width * 3).enumerate() {
            for ((growth, samples), row) in self.growths.iter().zip(self.samples).zip(&mut rows) {
                growth.row(samples, top + y, &mut sums, row);
            }
            let [first, second, third, fourth] =
                rows.each_mut().map(|row| &mut row[left..left + width]);
            if matches!(self.colors, Colors::YCbCr | Colors::Ycck) {
                for ((a, b), c) in first.iter_mut().zip(second.iter_mut()).zip(third.iter_mut()) {
                    [*a, *b, *c] = from_ycc([*a, *b, *c]);
                }
            }
            let places = line.as_chunks_mut::<3>().0;
            match self.colors {
                Colors::Grey => {
                    places.iter_mut().zip(first).for_each(|(place, grey)| *place = [*grey; 3]);
                }
                Colors::Rgb | Colors::YCbCr => {
                    for x in 0..width {
                        places[x] = [first[x], second[x], third[x]];
                    }
                }
                Colors::Cmyk => {
                    for x in 0..width {
                        places[x] = from_inks([first[x], second[x], third[x]], fourth[x]);
                    }
                }
                Colors::Ycck => {
                    for x in 0..width {
                        // The values are the complements of the inks. Adobe stores inks inverted, and
                        // `from_inks` expects them so.
                        let inks = [first[x], second[x], third[x]].map(|value| 255 - value);
                        places[x] = from_inks(inks, fourth[x]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
pub(in crate::image) fn from_ycc([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let [y, cb, cr] = [i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128];
    [
        y + ((91881 * cr + HALF) >> 16),
        y + ((-22554 * cb - 46802 * cr + HALF) >> 16),
        y + ((116_130 * cb + HALF) >> 16),
    ]
    .map(|value| value.clamp(0, 255) as u8)
}

/// Converts inks as Adobe stores them (255 for no ink) to RGB, as Pillow does.
pub(in crate::image) fn from_inks(inks: [u8; 3], black: u8) -> [u8; 3] {
    inks.map(|ink| {
        let product = u32::from(255 - ink) * u32::from(black) + 128;
        black.saturating_sub(((product + (product >> 8)) >> 8) as u8)
    })
}
