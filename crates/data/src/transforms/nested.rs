//! Transforms within a transform.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::{ComposeDescription, Normalize, PixelSteps, ToTensor, Transform, Transforms};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::random::{self, Generator};

/// The transforms of a transform, each with a generator of its own, which its place in the list determines.
#[derive(Clone, Default)]
pub(super) struct Nested {
    transforms: Vec<Arc<dyn Transform>>,
    /// Whether they change a mask: then only those that move pixels do something.
    is_for_masks: bool,
}

impl Nested {
    /// Makes the transforms that a recipe lists.
    pub(super) fn build(list: &ComposeDescription, transforms: &Transforms) -> Result<Self> {
        let steps = list.steps().iter();
        let built = steps.map(|step| transforms.get(&step.name)?.build_among(step, transforms));
        Ok(Self { transforms: built.collect::<Result<_>>()?, is_for_masks: false })
    }

    pub(super) fn push(&mut self, transform: Arc<dyn Transform>) {
        self.transforms.push(transform);
    }

    pub(super) fn len(&self) -> usize {
        self.transforms.len()
    }

    /// The list in the form that recipes store.
    pub(super) fn describe(&self) -> Value {
        let list: ComposeDescription =
            self.transforms.iter().map(|transform| transform.describe()).collect();
        // A list of tables without floats that are not finite can always be written.
        serde_json::to_value(list).unwrap_or_default()
    }

    /// Changes the image by transform `place`.
    pub(super) fn apply<'a>(
        &self,
        place: usize,
        image: Cow<'a, Image>,
        rng: &Generator,
    ) -> Result<Cow<'a, Image>> {
        let transform = &self.transforms[place];
        let mut own = random::at_position(rng, place);
        if !self.is_for_masks {
            return transform.apply_cow(image, &mut own);
        }
        match (transform.is_geometric(), transform.geometry()) {
            (false, _) => Ok(image),
            (true, Some(part)) => part.apply_cow(image, &mut own),
            (true, None) => transform.apply_cow(image, &mut own),
        }
    }

    /// Draws what transform `place` does. See [`Transform::draw`].
    pub(super) fn draw(
        &self,
        place: usize,
        steps: &mut PixelSteps,
        rng: &Generator,
    ) -> Result<bool> {
        self.transforms[place].draw(steps, &mut random::at_position(rng, place))
    }

    /// The list for masks. `None` if no transform changes colours.
    pub(super) fn geometry(&self) -> Option<Self> {
        let is_whole = |step: &Arc<dyn Transform>| step.is_geometric() && step.geometry().is_none();
        (!self.transforms.iter().all(is_whole)).then(|| Self { is_for_masks: true, ..self.clone() })
    }

    pub(super) fn is_geometric(&self) -> bool {
        self.transforms.iter().any(|transform| transform.is_geometric())
    }

    /// Height and width after one of the transforms, or after none: `None` if that makes a difference.
    pub(super) fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        let mut sizes = self.transforms.iter().map(|transform| transform.output_size(before));
        sizes.all(|size| size == before).then_some(before).flatten()
    }

    pub(super) fn validate(&self, op: &'static str) -> Result<()> {
        if self.transforms.is_empty() {
            return Err(Error::transform(op, "`transforms` is empty"));
        }
        for transform in &self.transforms {
            let any: &dyn Any = transform.as_ref();
            let name = || transform.describe().name;
            if any.is::<ToTensor>() || any.is::<Normalize>() {
                let reason = format!("`{}` must stand in the outer list", name());
                return Err(Error::transform(op, reason));
            }
            if transform.output_channels(3) != 3 {
                let reason = format!("`{}` must keep the three channels", name());
                return Err(Error::transform(op, reason));
            }
            transform.validate()?;
        }
        Ok(())
    }
}

impl fmt::Debug for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.transforms).finish()
    }
}
