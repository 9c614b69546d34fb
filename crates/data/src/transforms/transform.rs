//! The trait of transforms.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use candle_vision_registry::Description;
use serde::Serialize;

use super::PixelSteps;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::random::Generator;

/// One step of a [`Compose`](super::Compose), which changes an image.
///
/// Only [`Transform::apply`] is required. [The module](super) shows a transform of your own.
///
/// # Random transforms
/// A random transform must draw only from `rng`, and return `true` from [`Transform::is_random`]. Its generator
/// depends only on the loader's seed, the epoch, the sample's index and the transform's position in its list.
/// So a run repeats bit for bit, with any number of workers.
pub trait Transform: Any + Debug + Send + Sync {
    /// Changes one image. Random transforms draw from `rng`.
    ///
    /// # Errors
    /// If the image does not suit the transform, for instance if it is too small for a crop.
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image>;

    /// As [`Transform::apply`], for an image that may be shared, for instance with the loader's cache. Override
    /// it if the transform does not need a copy of its input, because it makes a new image or changes nothing.
    ///
    /// # Errors
    /// Those of [`Transform::apply`].
    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        self.apply(image.into_owned(), rng).map(Cow::Owned)
    }

    /// Draws what [`Transform::apply`] does to an image of the shape of `steps`, as steps that a GPU can do to images
    /// in its memory. It must draw the same numbers from `rng`, and the steps must have the same result.
    ///
    /// Returns whether this is possible. The default is `false`: then batches with this transform are made by the
    /// host. The answer may depend on the shape, but not on the draws. A transform whose `apply` is made of its steps
    /// has its draws in one place; those of this crate do it so.
    ///
    /// # Errors
    /// Those of [`Transform::apply`].
    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let _ = (steps, rng);
        Ok(false)
    }

    /// The transform as one that uses only a part of its image. Then a loader reads only this part, if the transform comes
    /// first. The default is `None`.
    fn as_cropping(&self) -> Option<&dyn Cropping> {
        None
    }

    /// Whether it draws from its generator. The default is `false`. Then
    /// [`Compose::eval`](super::Compose::eval) and checkpoints treat it as deterministic.
    fn is_random(&self) -> bool {
        false
    }

    /// The generator that it draws from, if it is random.
    fn stream(&self) -> Stream {
        Stream::Position
    }

    /// Its name and settings, with every default filled in, as recipes and checkpoints store them.
    ///
    /// The default is the name of the type and its `Debug` text. This is enough to notice, when a run is
    /// resumed, that the transform has changed. Recipes and checkpoints can build a transform again only if
    /// this returns the name of its entry and its settings. [`describe`] does this in one line.
    fn describe(&self) -> Description {
        let path = std::any::type_name::<Self>();
        let name = path.split('<').next().and_then(|path| path.rsplit("::").next());
        Description::named(name.unwrap_or(path)).with("debug", format!("{self:?}"))
    }

    /// Whether a mask must go through it together with its image. The default is `true`, because a mask that
    /// silently did not move with its image would be wrong. Return `false` for a transform that changes only
    /// colours.
    fn is_geometric(&self) -> bool {
        true
    }

    /// The part of it that moves pixels, for a geometric transform that changes colours too. It must draw the same
    /// numbers. The default is `None`: the whole transform.
    fn geometry(&self) -> Option<Arc<dyn Transform>> {
        None
    }

    /// Height and width of the result, for images of size `before`, as far as they are known. The default is
    /// `None`, which is always correct.
    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        let _ = before;
        None
    }

    /// Number of channels of the result, for images with `before` channels. The default is `before`.
    fn output_channels(&self, before: usize) -> usize {
        before
    }

    /// Checks the settings. A [`DataLoader`](crate::DataLoader) calls this before it starts.
    ///
    /// # Errors
    /// If a setting is out of range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// A transform that uses only a part of its image: [`Transform::apply`] is [`Cropping::finish`] of the part that
/// [`Cropping::part`] chooses.
pub trait Cropping {
    /// Chooses the part `[top, left, height, width]` of an image of `[height, width]`. It makes all draws from `rng`.
    fn part(&self, size: [usize; 2], rng: &mut Generator) -> [usize; 4];

    /// The result for this part.
    ///
    /// # Errors
    /// Those of [`Transform::apply`].
    fn finish(&self, part: Image) -> Result<Image>;
}

/// The generator that a random transform draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stream {
    /// Its own generator for each sample, determined by the transform's position in the list. The draws of
    /// other transforms have no influence.
    Position,
    /// The generator of the sample, which all such transforms share one after the other. The oldest transforms
    /// of this crate use it and must keep it, because published results and checkpoints depend on the bits. A
    /// change to one such transform changes the draws of those after it. So new transforms use
    /// [`Stream::Position`].
    Sample,
}

/// The description of a transform. `settings` has the settings as its fields; usually it is the transform
/// itself.
///
/// Settings without named fields are stored as their `Debug` text.
///
/// ```
/// use candle_vision_data::transforms::{RandomCrop, Transform, describe};
///
/// let crop = RandomCrop::new(32).padding(4);
/// assert_eq!(describe("random_crop", &crop), crop.describe());
/// assert_eq!(crop.describe().settings["padding"], 4);
/// ```
pub fn describe(name: &str, settings: &(impl Serialize + Debug + ?Sized)) -> Description {
    let described = Description::new(name, &settings);
    described.unwrap_or_else(|_| Description::named(name).with("debug", format!("{settings:?}")))
}

/// Implements [`Transform::apply`] with [`Transform::apply_cow`].
pub(super) fn by_cow(
    transform: &impl Transform,
    image: Image,
    rng: &mut Generator,
) -> Result<Image> {
    transform.apply_cow(Cow::Owned(image), rng).map(Cow::into_owned)
}

/// Changes an image by the steps that a transform draws. With it [`Transform::apply_cow`] and [`Transform::apply`] are
/// one line for a transform that can always be drawn.
///
/// # Errors
/// Those of [`Transform::draw`], or if the transform cannot be drawn.
pub fn apply_drawn<'a>(
    transform: &impl Transform,
    image: Cow<'a, Image>,
    rng: &mut Generator,
) -> Result<Cow<'a, Image>> {
    let mut steps = PixelSteps::new([image.height(), image.width(), image.channels()]);
    if !transform.draw(&mut steps, rng)? {
        return Err(Error::transform(transform.describe().name, "cannot be drawn"));
    }
    steps.apply(image)
}
