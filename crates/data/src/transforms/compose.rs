//! A list of transforms: checked, described and applied.

use std::borrow::Cow;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::tensor::{self, ValueTable};
use super::{Array, Interpolation, Padding, Size, Transform, color, crop, functional, resize};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::random;

/// Mean of ImageNet's training images: red, green, blue in `0.0..=1.0`.
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's training images.
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Transforms, one after the other: any on images, then `to_tensor`, then any `normalize`.
///
/// # Example
/// ```
/// use candle_vision_data::Image;
/// use candle_vision_data::transforms::Compose;
/// use rand_chacha::ChaCha8Rng;
/// use rand_chacha::rand_core::SeedableRng;
///
/// let compose = Compose::imagenet_eval();
/// let photo = Image::new(300, 400, 3, vec![127; 300 * 400 * 3])?;
/// let array = compose.apply(&photo, &mut ChaCha8Rng::seed_from_u64(0))?;
/// assert_eq!(array.shape(), [224, 224, 3]);
/// # Ok::<(), candle_vision_data::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Compose(pub Vec<Transform>);

impl Compose {
    /// These transforms, checked.
    ///
    /// # Errors
    /// As [`Compose::validate`].
    pub fn new(steps: Vec<Transform>) -> Result<Self> {
        let compose = Self(steps);
        compose.validate()?;
        Ok(compose)
    }

    /// What ImageNet networks are evaluated with: shorter side to 256, the middle 224 x 224,
    /// ImageNet's mean and standard deviation.
    pub fn imagenet_eval() -> Self {
        Self(vec![
            Transform::Resize { size: Size::One(256), interpolation: Interpolation::Bilinear },
            Transform::CenterCrop { size: Size::One(224) },
            Transform::ToTensor,
            imagenet_normalize(),
        ])
    }

    /// What ImageNet networks are trained with: a random resized crop of 224 x 224, a random
    /// flip, ImageNet's mean and standard deviation.
    pub fn imagenet_train() -> Self {
        Self(vec![
            Transform::RandomResizedCrop {
                size: Size::One(224),
                scale: super::default_scale(),
                ratio: super::default_ratio(),
                interpolation: Interpolation::Bilinear,
            },
            Transform::RandomHorizontalFlip { p: super::default_flip() },
            Transform::ToTensor,
            imagenet_normalize(),
        ])
    }

    /// Checks order and arguments.
    ///
    /// # Errors
    /// If there is not exactly one `to_tensor`, an image transform stands behind it or a
    /// `normalize` before it, or an argument is out of its range.
    pub fn validate(&self) -> Result<()> {
        let at = self.to_tensor_position()?;
        for step in &self.0[..at] {
            if matches!(step, Transform::Normalize { .. }) {
                return Err(Error::transform(step.op(), "must stand after `to_tensor`"));
            }
        }
        for step in &self.0[at + 1..] {
            match step {
                Transform::Normalize { .. } => {}
                Transform::ToTensor => {
                    return Err(Error::transform(step.op(), "stands twice; keep one"));
                }
                step => return Err(Error::transform(step.op(), "must stand before `to_tensor`")),
            }
        }
        self.0.iter().try_for_each(Transform::validate)
    }

    /// Whether any transform draws random numbers.
    pub fn is_random(&self) -> bool {
        self.0.iter().any(Transform::is_random)
    }

    /// Height and width of the result where they do not depend on the image.
    pub fn output_size(&self) -> Option<(usize, usize)> {
        self.0.iter().fold(None, |size, step| step.output_size(size))
    }

    /// Channels of the result for images with `channels`.
    pub fn output_channels(&self, channels: usize) -> usize {
        self.0.iter().fold(channels, |channels, step| match step {
            Transform::Grayscale { channels } => *channels,
            _ => channels,
        })
    }

    /// Transforms one image; `rng` is used by the random transforms alone.
    ///
    /// # Errors
    /// As [`Compose::validate`] finds, or if the image is too small for a crop or has another
    /// number of channels than `normalize`.
    pub fn apply(&self, image: &Image, rng: &mut ChaCha8Rng) -> Result<Array> {
        let mut values = Vec::new();
        let shape = self.append(image, rng, &mut values)?;
        Ok(Array::new(shape, values))
    }

    /// The image as it stands before `to_tensor`: what the network is shown, for the eye.
    ///
    /// # Errors
    /// As [`Compose::apply`].
    pub fn apply_to_image(&self, image: &Image, rng: &mut ChaCha8Rng) -> Result<Image> {
        let at = self.to_tensor_position()?;
        Ok(self.image_steps(&self.0[..at], image, rng)?.into_owned())
    }

    /// The same without colour changes and normalisation, to move a mask as its image moves.
    /// It draws the same random numbers only if the list has no random colour change.
    pub fn geometry(&self) -> Self {
        let is_geometry = |step: &&Transform| {
            use Transform::{ColorJitter, Grayscale, Normalize};
            !matches!(step, ColorJitter { .. } | Grayscale { .. } | Normalize { .. })
        };
        Self(self.0.iter().filter(is_geometry).cloned().collect())
    }

    /// As [`Compose::apply`], but appends to `values`; returns `[height, width, channels]`.
    pub(crate) fn append(
        &self,
        image: &Image,
        rng: &mut ChaCha8Rng,
        values: &mut Vec<f32>,
    ) -> Result<[usize; 3]> {
        let at = self.to_tensor_position()?;
        let image = self.image_steps(&self.0[..at], image, rng)?;
        ValueTable::new(&self.0[at..], image.channels())?.append(&image, values);
        Ok([image.height(), image.width(), image.channels()])
    }

    /// As [`Compose::append`] up to the 8-bit pixels before `to_tensor`; the rest is
    /// [`Compose::scale_and_shift`].
    pub(crate) fn append_pixels(
        &self,
        image: &Image,
        rng: &mut ChaCha8Rng,
        pixels: &mut Vec<u8>,
    ) -> Result<[usize; 3]> {
        let image = self.image_steps(&self.0[..self.to_tensor_position()?], image, rng)?;
        let [height, width, channels] = [image.height(), image.width(), image.channels()];
        // Whatever will not fit is an error of this image, not of its batch.
        self.scale_and_shift(channels)?;
        pixels.extend_from_slice(image.pixels());
        Ok([height, width, channels])
    }

    /// What `to_tensor` and any `normalize` are to 8-bit pixels: `scale * pixel + shift`, each channel
    /// with its own. The results differ from those of [`Compose::apply`] in their last bits.
    pub(crate) fn scale_and_shift(&self, channels: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        tensor::scale_and_shift(&self.0, channels)
    }

    fn image_steps<'a>(
        &self,
        steps: &[Transform],
        image: &'a Image,
        rng: &mut ChaCha8Rng,
    ) -> Result<Cow<'a, Image>> {
        let mut image = Cow::Borrowed(image);
        let mut steps = steps.iter().peekable();
        while let Some(step) = steps.next() {
            // A long strip would be scaled to hundreds of megabytes of which the crop takes the middle.
            image = match (step, steps.peek()) {
                (
                    Transform::Resize { size, interpolation },
                    Some(Transform::CenterCrop { size: middle }),
                ) if is_too_large(&image, *size) => {
                    steps.next();
                    let (height, width) =
                        resize::resized_size(image.height(), image.width(), *size);
                    let (rows, columns) = middle.square();
                    let sizes = ([height, width], [rows, columns]);
                    Cow::Owned(resize::resized_center(&image, sizes.0, sizes.1, *interpolation)?)
                }
                _ => step.apply(image, rng)?,
            };
        }
        Ok(image)
    }

    fn to_tensor_position(&self) -> Result<usize> {
        let position = self.0.iter().position(|step| *step == Transform::ToTensor);
        position.ok_or_else(|| {
            Error::transform("to_tensor", "is missing; add it after the image transforms")
        })
    }
}

fn is_too_large(image: &Image, size: Size) -> bool {
    let (height, width) = resize::resized_size(image.height(), image.width(), size);
    !resize::fits(height, width)
}

fn imagenet_normalize() -> Transform {
    Transform::Normalize { mean: IMAGENET_MEAN.to_vec(), std: IMAGENET_STD.to_vec() }
}

impl Transform {
    /// Does one image step; those that change nothing hand the image on without a copy.
    fn apply<'a>(&self, image: Cow<'a, Image>, rng: &mut ChaCha8Rng) -> Result<Cow<'a, Image>> {
        let changed = match self {
            Self::Resize { size, interpolation } => {
                let (height, width) = resize::resized_size(image.height(), image.width(), *size);
                if (image.height(), image.width()) == (height, width) {
                    return Ok(image);
                }
                functional::resize(&image, height, width, *interpolation)?
            }
            Self::CenterCrop { size } => {
                let (height, width) = size.square();
                functional::center_crop(&image, height, width)?
            }
            Self::RandomCrop { size, padding, pad_if_needed, fill, padding_mode } => {
                let (height, width) = size.square();
                let mut padded = pad_unless_zero(image, padding.sides(), *fill, *padding_mode)?;
                if *pad_if_needed {
                    let columns = width.saturating_sub(padded.width());
                    let rows = height.saturating_sub(padded.height());
                    let sides = [columns, rows, columns, rows];
                    padded = pad_unless_zero(padded, sides, *fill, *padding_mode)?;
                }
                let (top, left) = crop::random_corner(&padded, height, width, rng)?;
                functional::crop(&padded, top, left, height, width)?
            }
            Self::RandomResizedCrop { size, scale, ratio, interpolation } => {
                let (height, width) = size.square();
                let part = resize::random_part(&image, *scale, *ratio, rng);
                functional::resized_crop(&image, part, height, width, *interpolation)?
            }
            Self::RandomHorizontalFlip { p } => {
                if !random::chance(rng, *p) {
                    return Ok(image);
                }
                let mut flipped = image.into_owned();
                crop::hflip_in_place(&mut flipped);
                flipped
            }
            Self::RandomVerticalFlip { p } => {
                if !random::chance(rng, *p) {
                    return Ok(image);
                }
                functional::vflip(&image)
            }
            Self::RandomRotation { degrees, interpolation, fill } => {
                let [least, most] = degrees.range();
                let degrees = random::between(rng, least, most);
                functional::rotate(&image, degrees, *interpolation, *fill)?
            }
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                let factors = [brightness, contrast, saturation].map(|jitter| jitter.factors());
                let ranges = [factors[0], factors[1], factors[2], hue.turns()];
                let drawn = color::random_jitter(ranges, rng);
                return Ok(drawn.into_iter().fold(image, |image, (adjust, strength)| {
                    Cow::Owned(adjust(&image, strength))
                }));
            }
            Self::Grayscale { channels } => functional::grayscale(&image, *channels),
            Self::Pad { padding, fill, padding_mode } => {
                return pad_unless_zero(image, padding.sides(), *fill, *padding_mode);
            }
            Self::ToTensor | Self::Normalize { .. } => return Ok(image),
        };
        Ok(Cow::Owned(changed))
    }

    /// Height and width after this step, given those before it where they are known.
    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        match self {
            Self::Resize { size: Size::One(short), .. } => {
                before.map(|(height, width)| resize::resized_size(height, width, Size::One(*short)))
            }
            Self::Resize { size, .. }
            | Self::CenterCrop { size }
            | Self::RandomCrop { size, .. }
            | Self::RandomResizedCrop { size, .. } => Some(size.square()),
            Self::Pad { padding, .. } => {
                let [left, top, right, bottom] = padding.sides();
                before.map(|(height, width)| (height + top + bottom, width + left + right))
            }
            _ => before,
        }
    }
}

fn pad_unless_zero<'a>(
    image: Cow<'a, Image>,
    sides: [usize; 4],
    fill: u8,
    mode: super::PaddingMode,
) -> Result<Cow<'a, Image>> {
    if sides == Padding::default().sides() {
        return Ok(image);
    }
    functional::pad(&image, sides, fill, mode).map(Cow::Owned)
}
