//! What a transform does to one image, with all random numbers drawn.

use std::borrow::Cow;

use super::{Interpolation, PaddingMode, functional};
use crate::error::{Error, Result};
use crate::image::Image;

/// One change of an 8-bit image in which nothing is random any more.
///
/// [`Transform::draw`](super::Transform::draw) gives a transform as such steps. [`PixelStep::apply`] does them on the
/// host, with the arithmetic of [`functional`]. A GPU can do the same to images in its memory.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum PixelStep {
    /// A part of the image, which may reach over its edges. So it crops and pads.
    Window {
        /// Row of the part's upper left corner. It is negative above the image.
        top: isize,
        /// Column of that corner. It is negative left of the image.
        left: isize,
        /// Height of the part in pixels.
        height: usize,
        /// Width of the part in pixels.
        width: usize,
        /// The content of pixels outside the image.
        mode: PaddingMode,
        /// Their colour in mode [`PaddingMode::Constant`]. Grey images take the first value.
        fill: [u8; 3],
    },
    /// Mirrors left to right.
    HorizontalFlip,
    /// Mirrors top to bottom.
    VerticalFlip,
    /// Takes each pixel from another place. The size does not change.
    Affine {
        /// `[a, b, c, d, e, f]`: column x and row y of the result come from `ax + by + c` and `dx + ey + f`, where
        /// pixel centres lie at halves.
        matrix: [f64; 6],
        /// [`Interpolation::Nearest`] or [`Interpolation::Bilinear`].
        interpolation: Interpolation,
        /// The colour of pixels from outside the image. Grey images take the first value.
        fill: [u8; 3],
    },
    /// [`functional::adjust_brightness`] with this factor.
    Brightness(f32),
    /// [`functional::adjust_contrast`] with this factor.
    Contrast(f32),
    /// [`functional::adjust_saturation`] with this factor.
    Saturation(f32),
    /// Adds this to all hues, of which a full circle has 256.
    Hue(u8),
    /// Grey with this number of channels: 1, or 3 equal ones.
    Grayscale {
        /// Number of channels.
        channels: usize,
    },
    /// Covers a rectangle, which must lie inside the image, with one colour.
    Fill {
        /// Its first row.
        top: usize,
        /// Its first column.
        left: usize,
        /// Its height in pixels.
        height: usize,
        /// Its width in pixels.
        width: usize,
        /// The colour. Grey images take the first value.
        color: [u8; 3],
    },
}

impl PixelStep {
    /// The shape of the result, for an image of this shape, both `[height, width, channels]`.
    ///
    /// # Errors
    /// If the step does not suit such an image.
    pub fn output_shape(&self, shape: [usize; 3]) -> Result<[usize; 3]> {
        let [rows, columns, channels] = shape;
        match *self {
            Self::Window { top, left, height, width, mode, .. } => {
                functional::check_window(shape, [top, left], [height, width], mode)?;
                Ok([height, width, channels])
            }
            Self::Affine { interpolation, .. }
                if !matches!(interpolation, Interpolation::Nearest | Interpolation::Bilinear) =>
            {
                Err(Error::transform("rotate", "knows `nearest` and `bilinear` only"))
            }
            Self::Affine { matrix, .. } if !matrix.iter().all(|number| number.is_finite()) => {
                Err(Error::transform("rotate", format!("by {matrix:?} is not possible")))
            }
            Self::Grayscale { channels } if !matches!(channels, 1 | 3) => {
                Err(Error::transform("grayscale", "`channels` must be 1 or 3"))
            }
            Self::Grayscale { channels } => Ok([rows, columns, channels]),
            Self::Fill { top, left, height, width, .. } => {
                functional::check_inside([rows, columns], [top, left], [height, width])?;
                Ok(shape)
            }
            _ => Ok(shape),
        }
    }

    /// Changes an image.
    ///
    /// # Errors
    /// As [`PixelStep::output_shape`].
    pub fn apply<'a>(&self, image: Cow<'a, Image>) -> Result<Cow<'a, Image>> {
        self.output_shape([image.height(), image.width(), image.channels()])?;
        let changed = match *self {
            Self::Window { top, left, height, width, mode, fill } => {
                functional::window(&image, [top, left], [height, width], fill, mode)?
            }
            Self::HorizontalFlip => {
                let mut image = image.into_owned();
                functional::hflip_in_place(&mut image);
                image
            }
            Self::VerticalFlip => functional::vflip(&image),
            Self::Affine { matrix, interpolation, fill } => {
                let size = [image.height(), image.width()];
                functional::affine_by_matrix(&image, size, matrix, interpolation, fill)
            }
            Self::Brightness(factor) => functional::adjust_brightness(&image, factor.into()),
            Self::Contrast(factor) => functional::adjust_contrast(&image, factor.into()),
            Self::Saturation(factor) => functional::adjust_saturation(&image, factor.into()),
            Self::Hue(shift) => functional::shift_hue(&image, shift),
            Self::Grayscale { channels } => functional::grayscale(&image, channels),
            Self::Fill { top, left, height, width, color } => {
                let mut image = image.into_owned();
                functional::cover(&mut image, [top, left], [height, width], color);
                image
            }
        };
        Ok(Cow::Owned(changed))
    }
}

/// The steps that were drawn for one image, and the shape that they lead to.
///
/// ```
/// use candle_vision_data::random;
/// use candle_vision_data::transforms::{PixelSteps, RandomCrop, Transform};
///
/// let mut steps = PixelSteps::new([32, 32, 3]);
/// let is_possible = RandomCrop::new(24).padding(4).draw(&mut steps, &mut random::generator(0))?;
/// assert!(is_possible);
/// assert_eq!((steps.shape(), steps.as_slice().len()), ([24, 24, 3], 1));
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PixelSteps {
    shape: [usize; 3],
    steps: Vec<PixelStep>,
}

impl PixelSteps {
    /// No steps yet, for an image of shape `[height, width, channels]`.
    pub fn new(shape: [usize; 3]) -> Self {
        Self { shape, steps: Vec::new() }
    }

    /// Adds a step.
    ///
    /// # Errors
    /// If it does not suit what the steps before it make.
    pub fn push(&mut self, step: PixelStep) -> Result<()> {
        self.shape = step.output_shape(self.shape)?;
        self.steps.push(step);
        Ok(())
    }

    /// The shape after all steps, `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The steps, in order.
    pub fn as_slice(&self) -> &[PixelStep] {
        &self.steps
    }

    /// Does all steps to an image.
    ///
    /// # Errors
    /// If a step does not suit the image.
    pub fn apply<'a>(&self, image: Cow<'a, Image>) -> Result<Cow<'a, Image>> {
        self.steps.iter().try_fold(image, |image, step| step.apply(image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image::new(4, 3, 3, (0..36).collect()).expect("36 bytes")
    }

    fn applied(step: PixelStep) -> Result<Image> {
        step.apply(Cow::Owned(image())).map(Cow::into_owned)
    }

    fn window(top: isize, left: isize, height: usize, width: usize) -> PixelStep {
        PixelStep::Window { top, left, height, width, mode: PaddingMode::Reflect, fill: [0; 3] }
    }

    #[test]
    fn a_window_is_a_crop_of_the_padded_image() -> Result<()> {
        let modes = [
            PaddingMode::Constant,
            PaddingMode::Edge,
            PaddingMode::Reflect,
            PaddingMode::Symmetric,
        ];
        for mode in modes {
            let padded = functional::pad(&image(), [2; 4], 7, mode)?;
            for (top, left) in [(-2, -2), (-1, 1), (0, 0), (2, 3)] {
                let step = PixelStep::Window { top, left, height: 3, width: 3, mode, fill: [7; 3] };
                let [y, x] = [top, left].map(|place: isize| (place + 2) as usize);
                assert_eq!(applied(step)?, functional::crop(&padded, y, x, 3, 3)?, "{step:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_rectangle_is_covered() -> Result<()> {
        let (top, left, height, width) = (1, 2, 2, 1);
        let fill = PixelStep::Fill { top, left, height, width, color: [7, 8, 9] };
        let covered = applied(fill)?;
        assert_eq!((covered.pixel(2, 1), covered.pixel(2, 2)), (&[7, 8, 9][..], &[7, 8, 9][..]));
        let changed = covered.pixels().iter().zip(image().pixels()).filter(|(a, b)| a != b).count();
        assert_eq!(changed, 6);
        let grey = Image::new(1, 1, 1, vec![0])?;
        let fill = PixelStep::Fill { top: 0, left: 0, height: 1, width: 1, color: [5, 0, 0] };
        assert_eq!(fill.apply(Cow::Owned(grey))?.pixels(), [5]);
        Ok(())
    }

    #[test]
    fn steps_that_do_not_fit_are_errors() {
        let nan = PixelStep::Affine {
            matrix: [f64::NAN; 6],
            interpolation: Interpolation::Nearest,
            fill: [0; 3],
        };
        let cubic = PixelStep::Affine {
            matrix: [0.0; 6],
            interpolation: Interpolation::Bicubic,
            fill: [0; 3],
        };
        let outside = PixelStep::Fill { top: 0, left: 3, height: 1, width: 2, color: [0; 3] };
        let wrong = [
            window(-3, 0, 2, 2),
            window(0, 5, 2, 3),
            window(0, 0, 0, 2),
            window(0, 0, 1 << 20, 1 << 20),
            PixelStep::Grayscale { channels: 2 },
            nan,
            cubic,
            outside,
        ];
        for step in wrong {
            assert!(step.output_shape([3, 4, 3]).is_err() && applied(step).is_err(), "{step:?}");
        }
        let mut steps = PixelSteps::new([3, 4, 3]);
        assert!(steps.push(window(-2, 1, 4, 5)).is_ok() && steps.push(outside).is_ok());
        assert!(steps.push(window(0, 0, 2, 2)).is_ok() && steps.push(outside).is_err());
        assert_eq!((steps.shape(), steps.as_slice().len()), ([2, 2, 3], 3));
    }
}
