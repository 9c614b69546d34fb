//! A transform that applies one of several others.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use super::checks::check;
use super::nested::Nested;
use super::transform::by_cow;
use super::{ComposeDescription, Description, PixelSteps, Transform, TransformEntry};
use crate::error::Result;
use crate::image::Image;
use crate::random::{self, Generator};

const NAME: &str = "random_choice";

pub(super) fn entry() -> TransformEntry {
    let summary = "applies one transform of a list, chosen at random";
    TransformEntry::nested(NAME, summary, |settings: Settings, transforms| {
        let transforms = Nested::build(&settings.transforms, transforms)?;
        Ok(RandomChoice { transforms, p: settings.p })
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    transforms: ComposeDescription,
    p: Option<Vec<f64>>,
}

/// Applies one of its transforms, chosen at random.
///
/// In a recipe: `{ op = "random_choice", transforms = [{ op = "random_invert" }, { op = "gaussian_noise" }] }`, and `p =
/// [3, 1]` for the shares of each.
///
/// ```
/// use candle_vision_data::transforms::{GaussianBlur, RandomChoice, RandomSolarize};
///
/// let either =
///     RandomChoice::new().with(GaussianBlur::new(5)).with(RandomSolarize::new(128.0)).p([3.0, 1.0]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RandomChoice {
    transforms: Nested,
    p: Option<Vec<f64>>,
}

impl RandomChoice {
    /// No transforms yet. It needs at least one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transform.
    pub fn with(mut self, transform: impl Transform) -> Self {
        self.transforms.push(Arc::new(transform));
        self
    }

    /// Sets the share of each transform. They need not add up to 1. By default all have the same.
    pub fn p(self, p: impl Into<Vec<f64>>) -> Self {
        Self { p: Some(p.into()), ..self }
    }

    fn draw_place(&self, rng: &mut Generator) -> usize {
        match &self.p {
            Some(shares) => random::weighted(rng, shares).unwrap_or(0),
            None => random::below(rng, self.transforms.len()),
        }
    }
}

impl Transform for RandomChoice {
    fn apply(&self, image: Image, rng: &mut Generator) -> Result<Image> {
        by_cow(self, image, rng)
    }

    fn apply_cow<'a>(&self, image: Cow<'a, Image>, rng: &mut Generator) -> Result<Cow<'a, Image>> {
        let place = self.draw_place(rng);
        self.transforms.apply(place, image, rng)
    }

    fn draw(&self, steps: &mut PixelSteps, rng: &mut Generator) -> Result<bool> {
        let chosen = self.draw_place(rng);
        // Whether it can be drawn must not depend on the draws, so all are drawn.
        let before = steps.clone();
        for place in 0..self.transforms.len() {
            let mut drawn = before.clone();
            match self.transforms.draw(place, &mut drawn, rng) {
                Ok(false) => return Ok(false),
                Err(error) if place == chosen => return Err(error),
                Ok(true) if place == chosen => *steps = drawn,
                Ok(true) | Err(_) => {}
            }
        }
        Ok(true)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn describe(&self) -> Description {
        let description = Description::named(NAME).with("transforms", self.transforms.describe());
        match &self.p {
            Some(p) => description.with("p", p.clone()),
            None => description,
        }
    }

    fn is_geometric(&self) -> bool {
        self.transforms.is_geometric()
    }

    fn geometry(&self) -> Option<Arc<dyn Transform>> {
        let transforms = self.transforms.geometry()?;
        Some(Arc::new(Self { transforms, p: self.p.clone() }))
    }

    fn output_size(&self, before: Option<(usize, usize)>) -> Option<(usize, usize)> {
        self.transforms.output_size(before)
    }

    fn validate(&self) -> Result<()> {
        if let Some(shares) = &self.p {
            let is_each = shares.len() == self.transforms.len();
            check(NAME, is_each, "`p` must have one number for each transform")?;
            let are_shares = shares.iter().all(|share| *share >= 0.0 && share.is_finite());
            let sum: f64 = shares.iter().sum();
            check(NAME, are_shares && sum > 0.0, "`p` must be shares from 0 on, not all 0")?;
        }
        self.transforms.validate(NAME)
    }
}
