//! A transform that applies others with a probability.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use super::checks::check_probability;
use super::nested::Nested;
use super::transform::by_cow;
use super::{ComposeDescription, Description, PixelSteps, Transform, TransformEntry};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_apply";

pub(super) fn entry() -> TransformEntry {
    let summary = "applies a list of transforms with probability p";
    TransformEntry::nested(NAME, summary, |settings: Settings, transforms| {
        Ok(RandomApply {
            transforms: Nested::build(&settings.transforms, transforms)?,
            p: settings.p,
        })
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    transforms: ComposeDescription,
    #[serde(default = "half")]
    p: f64,
}

fn half() -> f64 {
    0.5
}

/// Applies all its transforms, one after the other, with probability `p`.
///
/// In a recipe: `{ op = "random_apply", p = 0.8, transforms = [{ op = "color_jitter", brightness = 0.4 }] }`.
///
/// ```
/// use candle_vision_data::transforms::{ColorJitter, RandomApply};
///
/// let jitter = RandomApply::new(0.8).with(ColorJitter::new().brightness(0.4));
/// ```
#[derive(Clone, Debug)]
pub struct RandomApply {
    transforms: Nested,
    p: f64,
}

impl RandomApply {
    /// With this probability, in `0.0..=1.0`. It needs at least one transform.
    pub fn new(p: f64) -> Self {
        Self { transforms: Nested::default(), p }
    }

    /// Adds a transform.
    pub fn with(mut self, transform: impl Transform) -> Self {
        self.transforms.push(Arc::new(transform));
        self
    }
}

impl Transform for RandomApply {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        if !random::chance(rng, self.p) {
            return Ok(image);
        }
        (0..self.transforms.len())
            .try_fold(image, |image, place| self.transforms.apply(place, image, rng))
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let is_applied = random::chance(rng, self.p);
        // Whether it can be drawn must not depend on the draws, so all are drawn.
        let mut drawn = steps.clone();
        for place in 0..self.transforms.len() {
            match self.transforms.draw(place, &mut drawn, rng) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(_) if !is_applied => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        if is_applied {
            *steps = drawn;
        }
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        Description::named(NAME).with("transforms", self.transforms.describe()).with("p", self.p)
    }

    fn is_geometric(&self) -> bool {
        self.transforms.is_geometric()
    }

    fn geometry(&self) -> Option<Arc<dyn Transform>> {
        let transforms = self.transforms.geometry()?;
        Some(Arc::new(Self { transforms, p: self.p }))
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        self.transforms.output_size(before)
    }

    fn validate(&self) -> Result<()> {
        check_probability(NAME, self.p)?;
        self.transforms.validate(NAME)
    }
}
