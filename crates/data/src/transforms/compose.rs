//! A list of transforms: checked, described and applied.

use std::borrow::Cow;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::tensor::{self, ValueTable};
use super::{Array, Interpolation, Padding, Size, Transform, color, crop, functional, resize};
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::random;

/// Mean of ImageNet's training pictures: red, green, blue in `0.0..=1.0`.
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's training pictures.
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Transforms, one after the other: any on pictures, then `to_tensor`, then any `normalize`.
///
/// # Example
/// ```
/// use candle_vision_data::Picture;
/// use candle_vision_data::transforms::Compose;
/// use rand_chacha::ChaCha8Rng;
/// use rand_chacha::rand_core::SeedableRng;
///
/// let compose = Compose::imagenet_eval();
/// let photo = Picture::new(300, 400, 3, vec![127; 300 * 400 * 3])?;
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
    /// If there is not exactly one `to_tensor`, a picture transform stands behind it or a
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

    /// Height and width of the result where they do not depend on the picture.
    pub fn output_size(&self) -> Option<(usize, usize)> {
        self.0.iter().fold(None, |size, step| step.output_size(size))
    }

    /// Channels of the result for pictures with `channels`.
    pub fn output_channels(&self, channels: usize) -> usize {
        self.0.iter().fold(channels, |channels, step| match step {
            Transform::Grayscale { channels } => *channels,
            _ => channels,
        })
    }

    /// Transforms one picture; `rng` is used by the random transforms alone.
    ///
    /// # Errors
    /// As [`Compose::validate`] finds, or if the picture is too small for a crop or has another
    /// number of channels than `normalize`.
    pub fn apply(&self, picture: &Picture, rng: &mut ChaCha8Rng) -> Result<Array> {
        let mut values = Vec::new();
        let shape = self.append(picture, rng, &mut values)?;
        Ok(Array::new(shape, values))
    }

    /// The picture as it stands before `to_tensor`: what the network is shown, for the eye.
    ///
    /// # Errors
    /// As [`Compose::apply`].
    pub fn apply_to_picture(&self, picture: &Picture, rng: &mut ChaCha8Rng) -> Result<Picture> {
        let at = self.to_tensor_position()?;
        Ok(self.picture_steps(&self.0[..at], picture, rng)?.into_owned())
    }

    /// The same without colour changes and normalisation, to move a mask as its picture moves.
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
        picture: &Picture,
        rng: &mut ChaCha8Rng,
        values: &mut Vec<f32>,
    ) -> Result<[usize; 3]> {
        let at = self.to_tensor_position()?;
        let picture = self.picture_steps(&self.0[..at], picture, rng)?;
        ValueTable::new(&self.0[at..], picture.channels())?.append(&picture, values);
        Ok([picture.height(), picture.width(), picture.channels()])
    }

    /// As [`Compose::append`] up to the 8-bit pixels before `to_tensor`; the rest is
    /// [`Compose::scale_and_shift`].
    pub(crate) fn append_pixels(
        &self,
        picture: &Picture,
        rng: &mut ChaCha8Rng,
        pixels: &mut Vec<u8>,
    ) -> Result<[usize; 3]> {
        let picture = self.picture_steps(&self.0[..self.to_tensor_position()?], picture, rng)?;
        let [height, width, channels] = [picture.height(), picture.width(), picture.channels()];
        // Whatever will not fit is an error of this picture, not of its batch.
        self.scale_and_shift(channels)?;
        pixels.extend_from_slice(picture.pixels());
        Ok([height, width, channels])
    }

    /// What `to_tensor` and any `normalize` are to 8-bit pixels: `scale * pixel + shift`, each channel
    /// with its own. The results differ from those of [`Compose::apply`] in their last bits.
    pub(crate) fn scale_and_shift(&self, channels: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        tensor::scale_and_shift(&self.0, channels)
    }

    fn picture_steps<'a>(
        &self,
        steps: &[Transform],
        picture: &'a Picture,
        rng: &mut ChaCha8Rng,
    ) -> Result<Cow<'a, Picture>> {
        let mut picture = Cow::Borrowed(picture);
        let mut steps = steps.iter().peekable();
        while let Some(step) = steps.next() {
            // A long strip would be scaled to hundreds of megabytes of which the crop takes the middle.
            picture = match (step, steps.peek()) {
                (
                    Transform::Resize { size, interpolation },
                    Some(Transform::CenterCrop { size: middle }),
                ) if is_too_large(&picture, *size) => {
                    steps.next();
                    let (height, width) =
                        resize::resized_size(picture.height(), picture.width(), *size);
                    let (rows, columns) = middle.square();
                    let sizes = ([height, width], [rows, columns]);
                    Cow::Owned(resize::resized_center(&picture, sizes.0, sizes.1, *interpolation)?)
                }
                _ => step.apply(picture, rng)?,
            };
        }
        Ok(picture)
    }

    fn to_tensor_position(&self) -> Result<usize> {
        let position = self.0.iter().position(|step| *step == Transform::ToTensor);
        position.ok_or_else(|| {
            Error::transform("to_tensor", "is missing; add it after the picture transforms")
        })
    }
}

fn is_too_large(picture: &Picture, size: Size) -> bool {
    let (height, width) = resize::resized_size(picture.height(), picture.width(), size);
    !resize::fits(height, width)
}

fn imagenet_normalize() -> Transform {
    Transform::Normalize { mean: IMAGENET_MEAN.to_vec(), std: IMAGENET_STD.to_vec() }
}

impl Transform {
    /// Does one picture step; those that change nothing hand the picture on without a copy.
    fn apply<'a>(
        &self,
        picture: Cow<'a, Picture>,
        rng: &mut ChaCha8Rng,
    ) -> Result<Cow<'a, Picture>> {
        let changed = match self {
            Self::Resize { size, interpolation } => {
                let (height, width) =
                    resize::resized_size(picture.height(), picture.width(), *size);
                if (picture.height(), picture.width()) == (height, width) {
                    return Ok(picture);
                }
                functional::resize(&picture, height, width, *interpolation)?
            }
            Self::CenterCrop { size } => {
                let (height, width) = size.square();
                functional::center_crop(&picture, height, width)?
            }
            Self::RandomCrop { size, padding, pad_if_needed, fill, padding_mode } => {
                let (height, width) = size.square();
                let mut padded = pad_unless_zero(picture, padding.sides(), *fill, *padding_mode)?;
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
                let part = resize::random_part(&picture, *scale, *ratio, rng);
                functional::resized_crop(&picture, part, height, width, *interpolation)?
            }
            Self::RandomHorizontalFlip { p } => {
                if !random::chance(rng, *p) {
                    return Ok(picture);
                }
                let mut flipped = picture.into_owned();
                crop::hflip_in_place(&mut flipped);
                flipped
            }
            Self::RandomVerticalFlip { p } => {
                if !random::chance(rng, *p) {
                    return Ok(picture);
                }
                functional::vflip(&picture)
            }
            Self::RandomRotation { degrees, interpolation, fill } => {
                let [least, most] = degrees.range();
                let degrees = random::between(rng, least, most);
                functional::rotate(&picture, degrees, *interpolation, *fill)?
            }
            Self::ColorJitter { brightness, contrast, saturation, hue } => {
                let factors = [brightness, contrast, saturation].map(|jitter| jitter.factors());
                let ranges = [factors[0], factors[1], factors[2], hue.turns()];
                let drawn = color::random_jitter(ranges, rng);
                return Ok(drawn.into_iter().fold(picture, |picture, (adjust, strength)| {
                    Cow::Owned(adjust(&picture, strength))
                }));
            }
            Self::Grayscale { channels } => functional::grayscale(&picture, *channels),
            Self::Pad { padding, fill, padding_mode } => {
                return pad_unless_zero(picture, padding.sides(), *fill, *padding_mode);
            }
            Self::ToTensor | Self::Normalize { .. } => return Ok(picture),
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
    picture: Cow<'a, Picture>,
    sides: [usize; 4],
    fill: u8,
    mode: super::PaddingMode,
) -> Result<Cow<'a, Picture>> {
    if sides == Padding::default().sides() {
        return Ok(picture);
    }
    functional::pad(&picture, sides, fill, mode).map(Cow::Owned)
}
