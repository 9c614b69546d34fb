//! Changes of 8-bit images with Pillow's arithmetic, and the numbers that become of their pixels.
//!
//! It is the plain form of what a GPU does to images in its memory, written to be read and compared with. Values between
//! two steps have 8 bits, and every operation is rounded as in Pillow. So both forms give the same bits.

mod color;
mod place;

use rayon::prelude::*;

use super::error::{Error, Result};
use super::parallel::for_each_of;
pub use place::fixed_point;

/// One change of an image. Rows come before columns.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PixelStep {
    /// A part of `size` whose upper left corner is at `corner`. It may reach over the edges.
    Window {
        /// Row and column of the corner.
        corner: [i32; 2],
        /// Height and width.
        size: [usize; 2],
        /// The content of pixels outside the image.
        edge: Edge,
    },
    /// Mirrors left to right.
    HorizontalFlip,
    /// Mirrors top to bottom.
    VerticalFlip,
    /// Takes column x and row y from `ax + by + c` and `dx + ey + f`, where pixel centres lie at halves.
    Affine {
        /// `[a, b, c, d, e, f]`.
        matrix: [f64; 6],
        /// Whether pixels are interpolated between four. If not, the nearest is taken.
        is_bilinear: bool,
        /// The colour of pixels from outside the image. Grey images take the first value.
        fill: [u8; 3],
    },
    /// A blend of black and the image with this factor.
    Brightness(f32),
    /// A blend of the mean grey and the image with this factor.
    Contrast(f32),
    /// A blend of the grey image and the image with this factor. It does nothing to one channel.
    Saturation(f32),
    /// Adds this to all hues, of which a full circle has 256. It does nothing to one channel.
    Hue(u8),
    /// Grey in so many channels: 1, or 3 equal ones.
    Grayscale {
        /// Number of channels.
        channels: usize,
    },
    /// Covers a rectangle, which lies inside the image, with one colour.
    Fill {
        /// Row and column of its upper left corner.
        corner: [usize; 2],
        /// Height and width.
        size: [usize; 2],
        /// The colour. One channel takes the first value.
        color: [u8; 3],
    },
}

/// The content of pixels outside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edge {
    /// This colour. Grey images take the first value.
    Constant([u8; 3]),
    /// The nearest pixel of the image.
    Nearest,
    /// The image mirrored at its edge, without repeating the edge pixel.
    Reflect,
    /// The image mirrored at its edge. The edge pixel is repeated.
    Symmetric,
}

impl PixelStep {
    /// The shape of the result, for an image of this shape, both `[height, width, channels]`. No side is 0.
    ///
    /// # Errors
    /// If the step does not fit such an image.
    pub fn output_shape(&self, shape: [usize; 3]) -> Result<[usize; 3]> {
        let [height, width, channels] = shape;
        let (fits, output) = match *self {
            Self::Window { corner, size, edge } => {
                let fits =
                    |axis: usize| place::reaches(corner[axis], size[axis], shape[axis], edge);
                (fits(0) && fits(1), [size[0], size[1], channels])
            }
            Self::Affine { matrix, .. } => (matrix.iter().all(|number| number.is_finite()), shape),
            Self::Grayscale { channels } => (matches!(channels, 1 | 3), [height, width, channels]),
            Self::Fill { corner, size, .. } => {
                let end = |axis: usize| corner[axis].checked_add(size[axis]);
                let fits = |axis: usize| end(axis).is_some_and(|end| end <= shape[axis]);
                (fits(0) && fits(1), shape)
            }
            _ => (true, shape),
        };
        if fits && matches!(channels, 1 | 3) && !output.contains(&0) {
            return Ok(output);
        }
        Err(Error::new(format!("{self:?} does not fit an image of shape {shape:?}")))
    }

    fn applied(&self, from: &Pixels) -> Pixels {
        match *self {
            Self::Window { corner, size, edge } => place::window(from, corner, size, edge),
            Self::HorizontalFlip => {
                let last = from.shape[1] - 1;
                from.moved([from.shape[0], from.shape[1]], [0; 3], |y, x| Some([y, last - x]))
            }
            Self::VerticalFlip => {
                let last = from.shape[0] - 1;
                from.moved([from.shape[0], from.shape[1]], [0; 3], |y, x| Some([last - y, x]))
            }
            Self::Affine { matrix, is_bilinear: false, fill } => {
                place::affine_nearest(from, matrix, fill)
            }
            Self::Affine { matrix, is_bilinear: true, fill } => {
                place::affine_bilinear(from, matrix, fill)
            }
            Self::Brightness(factor) => from.mapped(|value| color::blend(0, value, factor)),
            Self::Contrast(factor) => {
                let grey = color::mean_grey(from);
                from.mapped(|value| color::blend(grey, value, factor))
            }
            Self::Saturation(factor) => from.recolored(|pixel| {
                let grey = color::luma(&pixel);
                pixel.map(|value| color::blend(grey, value, factor))
            }),
            Self::Hue(shift) => from.recolored(|pixel| color::with_hue_shifted(pixel, shift)),
            Self::Grayscale { channels } => {
                let pixels = from.values.chunks_exact(from.shape[2]);
                let values = pixels.flat_map(|pixel| vec![color::luma(pixel); channels]).collect();
                Pixels { shape: [from.shape[0], from.shape[1], channels], values }
            }
            Self::Fill { corner, size, color } => {
                let mut covered = from.clone();
                let channels = from.shape[2];
                for y in corner[0]..corner[0] + size[0] {
                    for x in corner[1]..corner[1] + size[1] {
                        covered.pixel_mut([y, x]).copy_from_slice(&color[..channels]);
                    }
                }
                covered
            }
        }
    }
}

/// An image.
#[derive(Debug, Clone)]
struct Pixels {
    /// `[height, width, channels]`.
    shape: [usize; 3],
    values: Vec<u8>,
}

impl Pixels {
    fn pixel(&self, [y, x]: [usize; 2]) -> &[u8] {
        let [_, width, channels] = self.shape;
        &self.values[(y * width + x) * channels..][..channels]
    }

    fn pixel_mut(&mut self, [y, x]: [usize; 2]) -> &mut [u8] {
        let [_, width, channels] = self.shape;
        &mut self.values[(y * width + x) * channels..][..channels]
    }

    /// An image of `size` whose pixels come from where `source` says for row and column, or have the colour `fill`.
    fn moved(
        &self,
        size: [usize; 2],
        fill: [u8; 3],
        mut source: impl FnMut(usize, usize) -> Option<[usize; 2]>,
    ) -> Self {
        let channels = self.shape[2];
        let values = fill[..channels].repeat(size[0] * size[1]);
        let mut moved = Self { shape: [size[0], size[1], channels], values };
        for y in 0..size[0] {
            for x in 0..size[1] {
                if let Some(place) = source(y, x) {
                    moved.pixel_mut([y, x]).copy_from_slice(self.pixel(place));
                }
            }
        }
        moved
    }

    fn mapped(&self, f: impl Fn(u8) -> u8) -> Self {
        Self { shape: self.shape, values: self.values.iter().map(|&value| f(value)).collect() }
    }

    /// The image with other colours, if it has colours.
    fn recolored(&self, f: impl Fn([u8; 3]) -> [u8; 3]) -> Self {
        let mut recolored = self.clone();
        if self.shape[2] == 3 {
            recolored.values.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = f(*pixel));
        }
        recolored
    }
}

/// Does steps to an image of shape `[height, width, channels]`. Returns its pixels and its shape then.
///
/// # Errors
/// If a step does not fit what the steps before it make.
pub fn changed(
    image: &[u8],
    shape: [usize; 3],
    steps: &[PixelStep],
) -> Result<(Vec<u8>, [usize; 3])> {
    let mut pixels = Pixels { shape, values: image[..shape.iter().product()].to_vec() };
    for step in steps {
        step.output_shape(pixels.shape)?;
        pixels = step.applied(&pixels);
    }
    Ok((pixels.values, pixels.shape))
}

/// The numbers `pixel * scale + shift`, rounded once, with a scale and a shift for each channel. `changed(i)` gives the
/// pixels of image `i`, `len` of them.
pub fn numbers<P: AsRef<[u8]>>(
    images: usize,
    len: usize,
    [scale, shift]: [&[f32]; 2],
    changed: impl Fn(usize) -> P + Sync,
) -> Vec<f32> {
    let mut numbers = vec![0.0; images * len];
    let rows = numbers.par_chunks_mut(len.max(1)).enumerate();
    for_each_of(images * len, rows, |(i, row)| {
        let channels = scale.iter().zip(shift).cycle();
        for ((number, &pixel), (scale, shift)) in
            row.iter_mut().zip(changed(i).as_ref()).zip(channels)
        {
            *number = f32::from(pixel).mul_add(*scale, *shift);
        }
    });
    numbers
}
