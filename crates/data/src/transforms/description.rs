//! Lists of transforms in the form that recipes and checkpoints store.

use candle_vision_registry::Description;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Compose, Transforms};
use crate::error::Result;

/// A list of transforms in the form that recipes and checkpoints store: one table with the key `op` for each
/// transform.
///
/// The list contains names of transforms, not the transforms themselves. So it can be read without knowing the
/// transforms that another program registered. [`ComposeDescription::build`] makes the transforms.
///
/// ```
/// use candle_vision_data::transforms::{Compose, ComposeDescription, Transforms};
///
/// let text = r#"[{ "op": "resize", "size": 256 }, { "op": "center_crop", "size": 224 },
///     { "op": "to_tensor" },
///     { "op": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225] }]"#;
/// let description: ComposeDescription = serde_json::from_str(text)?;
/// assert_eq!(description.build(&Transforms::standard())?, Compose::imagenet_eval());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Op>", into = "Vec<Op>")]
pub struct ComposeDescription(Vec<Description>);

/// A description under the key that recipes use for transforms.
#[derive(Serialize, Deserialize)]
struct Op {
    op: String,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

impl From<Vec<Op>> for ComposeDescription {
    fn from(ops: Vec<Op>) -> Self {
        ops.into_iter().map(|Op { op, settings }| Description { name: op, settings }).collect()
    }
}

impl From<ComposeDescription> for Vec<Op> {
    fn from(description: ComposeDescription) -> Self {
        let steps = description.0.into_iter();
        steps.map(|Description { name, settings }| Op { op: name, settings }).collect()
    }
}

impl FromIterator<Description> for ComposeDescription {
    fn from_iter<I: IntoIterator<Item = Description>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl From<&Compose> for ComposeDescription {
    fn from(compose: &Compose) -> Self {
        compose.describe()
    }
}

impl ComposeDescription {
    /// The descriptions of the transforms, in order.
    pub fn steps(&self) -> &[Description] {
        &self.0
    }

    /// Makes the transforms.
    ///
    /// # Errors
    /// If `transforms` has no entry of a name (the message suggests near names), if a setting is missing,
    /// unknown or wrong, or as [`Compose::validate`].
    pub fn build(&self, transforms: &Transforms) -> Result<Compose> {
        let build = |step: &Description| transforms.get(&step.name)?.build_among(step, transforms);
        let compose = self.0.iter().map(build).collect::<Result<Compose>>()?;
        compose.validate()?;
        Ok(compose)
    }

    /// The list with every default filled in, for the transforms that `transforms` knows. Unknown or wrong
    /// entries stay as they are.
    pub fn filled(&self, transforms: &Transforms) -> Self {
        let filled = |step: &Description| {
            let built = transforms
                .get(&step.name)
                .ok()
                .and_then(|entry| entry.build_among(step, transforms).ok());
            built.map_or_else(|| step.clone(), |transform| transform.describe())
        };
        self.0.iter().map(filled).collect()
    }

    /// Whether two lists mean the same. A missing setting counts as its default, for the transforms that
    /// `transforms` knows.
    pub fn is_same(&self, other: &Self, transforms: &Transforms) -> bool {
        self.filled(transforms) == other.filled(transforms)
    }
}
