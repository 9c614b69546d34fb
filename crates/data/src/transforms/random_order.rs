//! A transform that applies others in random order.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use super::nested::Nested;
use super::transform::by_cow;
use super::{ComposeDescription, Description, PixelSteps, Transform, TransformEntry};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_order";

pub(super) fn entry() -> TransformEntry {
    let summary = "applies a list of transforms in random order";
    TransformEntry::nested(NAME, summary, |settings: Settings, transforms| {
        Ok(RandomOrder { transforms: Nested::build(&settings.transforms, transforms)? })
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    transforms: ComposeDescription,
}

/// Applies all its transforms, in random order.
///
/// In a recipe: `{ op = "random_order", transforms = [{ op = "random_invert" }, { op = "gaussian_noise" }] }`.
///
/// ```
/// use candle_vision_data::transforms::{GaussianNoise, RandomInvert, RandomOrder};
///
/// let both = RandomOrder::new().with(RandomInvert::new(0.5)).with(GaussianNoise::new(0.1));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RandomOrder {
    transforms: Nested,
}

impl RandomOrder {
    /// No transforms yet. It needs at least one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transform.
    pub fn with(mut self, transform: impl Transform) -> Self {
        self.transforms.push(Arc::new(transform));
        self
    }

    fn draw_order(&self, rng: &mut Generator) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.transforms.len()).collect();
        random::shuffle(rng, &mut order);
        order
    }
}

impl Transform for RandomOrder {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let order = self.draw_order(rng);
        order.into_iter().try_fold(image, |image, place| self.transforms.apply(place, image, rng))
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        for place in self.draw_order(rng) {
            if !self.transforms.draw(place, steps, rng)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        Description::named(NAME).with("transforms", self.transforms.describe())
    }

    fn is_geometric(&self) -> bool {
        self.transforms.is_geometric()
    }

    fn geometry(&self) -> Option<Arc<dyn Transform>> {
        Some(Arc::new(Self { transforms: self.transforms.geometry()? }))
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        self.transforms.output_size(before)
    }

    fn validate(&self) -> Result<()> {
        self.transforms.validate(NAME)
    }
}
