//! What random transforms that keep the size of an image have in common.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use serde::Serialize;

use super::transform::by_cow;
use super::{Description, Transform, describe};
use crate::error::Result;
use crate::image::Image;
use crate::random::Generator;

/// A random transform that keeps the size of its image and works on the host only. This is all that it has to say; the rest of
/// [`Transform`] follows.
pub(super) trait SameSize: Any + Debug + Serialize + Send + Sync {
    /// Its name in recipes.
    const NAME: &'static str;

    /// Whether it moves pixels ([`Transform::is_geometric`]).
    const MOVES_PIXELS: bool;

    /// As [`Transform::apply_cow`].
    fn change<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>>;

    /// As [`Transform::validate`].
    fn check(&self) -> Result<()>;

    /// As [`Transform::geometry`].
    fn for_masks(&self) -> Option<Arc<dyn Transform>> {
        None
    }
}

impl<T: SameSize> Transform for T {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        self.change(image, rng)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        describe(T::NAME, self)
    }

    fn is_geometric(&self) -> bool {
        T::MOVES_PIXELS
    }

    fn geometry(&self) -> Option<Arc<dyn Transform>> {
        self.for_masks()
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        before
    }

    fn validate(&self) -> Result<()> {
        self.check()
    }
}
