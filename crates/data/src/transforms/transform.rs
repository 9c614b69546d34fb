//! What a transform is.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;

use candle_vision_registry::Description;
use serde::Serialize;

use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

/// One step of a [`Compose`](super::Compose): changes an image.
///
/// Only [`Transform::apply`] is required. [The module](super) shows a transform of one's own.
///
/// # Random transforms
/// Draw from `rng` alone, and say so with [`Transform::is_random`]. The generator that a transform gets
/// is a function of the loader's seed, the epoch, the sample's index and the transform's position in its
/// list. So a run repeats bit for bit, with any number of workers.
pub trait Transform: Any + Debug + Send + Sync {
    /// Changes one image. `rng` is for random transforms.
    ///
    /// # Errors
    /// If the image does not suit the transform, such as one that is too small for a crop.
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image>;

    /// The same for an image that others may hold too, such as the loader's cache. Override it if the
    /// transform can do without a copy of its input, because it makes a new image or changes nothing.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        self.apply(image.into_owned(), rng).map(Cow::Owned)
    }

    /// Whether it draws from its generator. `false` if not overridden: then
    /// [`Compose::eval`](super::Compose::eval) and checkpoints take it for deterministic.
    fn is_random(&self) -> bool {
        false
    }

    /// Which generator it draws from, if it is random.
    fn stream(&self) -> Stream {
        Stream::Position
    }

    /// Its name and settings, every default filled in, as recipes and checkpoints keep them.
    ///
    /// The default gives the name of the type and its `Debug` text. That is enough to notice, when a run
    /// is resumed, that a transform is another one. A transform that recipes and checkpoints are to
    /// build again returns the name of its entry and its settings: [`describe`] makes that one line.
    fn describe(&self) -> Description {
        let path = std::any::type_name::<Self>();
        let name = path.split('<').next().and_then(|path| path.rsplit("::").next());
        Description::named(name.unwrap_or(path)).with("debug", format!("{self:?}"))
    }

    /// Whether a mask must go through it as its image does. `true` if not overridden, because a mask
    /// that did not move with its image would be wrong without a sign of it. Say `false` for a transform
    /// that changes colours only.
    fn is_geometric(&self) -> bool {
        true
    }

    /// Height and width of the result, for images of size `before`, as far as they are known; `None` is
    /// the honest default.
    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        let _ = before;
        None
    }

    /// Channels of the result, for images with `before` channels; as many if not overridden.
    fn output_channels(&self, before: usize) -> usize {
        before
    }

    /// Checks the settings. A [`DataLoader`](crate::DataLoader) asks before it begins.
    ///
    /// # Errors
    /// If one is out of its range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// Which generator a random transform draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stream {
    /// One of its own for each sample, named by the transform's position in the list. What other
    /// transforms draw has no influence.
    Position,
    /// The sample's, which all such transforms share one after the other. The oldest transforms of this
    /// crate do, and must go on: published results and checkpoints depend on the bits. A change to one
    /// such transform changes what those behind it draw, so new transforms use
    /// [`Stream::Position`].
    Sample,
}

/// The description of a transform with the fields of `settings`, as a rule the transform itself.
///
/// Settings without named fields are kept as their `Debug` text.
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

/// [`Transform::apply`] of a transform whose [`Transform::apply_cow`] does the work.
pub(super) fn by_cow(
    transform: &impl Transform,
    image: Image,
    rng: &mut Generator,
) -> Result<Image> {
    transform.apply_cow(Cow::Owned(image), rng).map(Cow::into_owned)
}
