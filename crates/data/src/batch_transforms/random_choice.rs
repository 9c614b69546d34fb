//! One of several batch transforms, at random.

use std::sync::Arc;

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};

use super::{
    BatchTransform, BatchTransformEntry, BatchTransforms, BatchValues, describe, describe_all,
};
use crate::error::{Error, Result};
use crate::random::{self, Generator};
use crate::transforms::ComposeDescription;

const NAME: &str = "random_choice";

pub(super) fn entry() -> BatchTransformEntry {
    BatchTransformEntry::nested(
        NAME,
        "one of several batch transforms, with probabilities `p`",
        build,
    )
}

/// Applies one of several batch transforms to each batch, drawn with given probabilities, as torchvision's
/// `RandomChoice`.
///
/// In a recipe, as torchvision's references train:
/// `batch_transforms = [{ op = "random_choice", transforms = [{ op = "mixup", alpha = 0.2 }, { op = "cutmix" }] }]`.
///
/// ```
/// use candle_vision_data::batch_transforms::{CutMix, MixUp, RandomChoice};
///
/// let mostly_cut = RandomChoice::new().with(MixUp::new(0.2), 1.0).with(CutMix::new(1.0), 3.0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RandomChoice {
    transforms: Vec<Arc<dyn BatchTransform>>,
    weights: Vec<f64>,
}

/// The settings in a recipe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    transforms: ComposeDescription,
    /// Equal probabilities if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<Vec<f64>>,
}

impl RandomChoice {
    /// A choice among no transforms yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transform. Its probability is its weight, divided by the sum of all weights.
    pub fn with(mut self, transform: impl BatchTransform, weight: f64) -> Self {
        self.transforms.push(Arc::new(transform));
        self.weights.push(weight);
        self
    }

    /// The transform that is drawn.
    fn draw(&self, rng: &mut Generator) -> Option<&Arc<dyn BatchTransform>> {
        self.transforms.get(random::weighted(rng, &self.weights)?)
    }
}

fn build(description: &Description, table: &BatchTransforms) -> Result<Arc<dyn BatchTransform>> {
    let Settings { transforms, p } = description.settings()?;
    let transforms = table.build_all(&transforms)?;
    let weights = p.unwrap_or_else(|| vec![1.0; transforms.len()]);
    Ok(Arc::new(RandomChoice { transforms, weights }))
}

impl BatchTransform for RandomChoice {
    fn apply(&self, batch: BatchValues, rng: &mut Generator) -> Result<BatchValues> {
        match self.draw(rng) {
            Some(transform) => transform.apply(batch, rng),
            None => Ok(batch),
        }
    }

    fn describe(&self) -> Description {
        let transforms = describe_all(&self.transforms);
        describe(NAME, &Settings { transforms, p: Some(self.weights.clone()) })
    }

    fn validate(&self) -> Result<()> {
        let (transforms, weights) = (self.transforms.len(), self.weights.len());
        let is_weight = |weight: &f64| *weight >= 0.0 && weight.is_finite();
        let reason = if transforms == 0 {
            "`transforms` is empty; name at least one, such as { op = \"mixup\" }".to_owned()
        } else if transforms != weights {
            format!("`p` has {weights} numbers for {transforms} transforms; give one for each")
        } else if !self.weights.iter().all(is_weight) || self.weights.iter().all(|w| *w == 0.0) {
            format!(
                "`p` is {:?}; give numbers that are not negative, and one above 0",
                self.weights
            )
        } else {
            return self.transforms.iter().try_for_each(|transform| transform.validate());
        };
        Err(Error::transform(NAME, reason))
    }
}
