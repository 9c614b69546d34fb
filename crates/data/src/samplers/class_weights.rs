//! Weights of classes: given, or such that rare classes count as much as frequent ones.

use serde::{Deserialize, Serialize};

use super::invalid;
use crate::error::Result;

/// Weights of classes. In a recipe it is `"balanced"` or a list of numbers.
///
/// ```
/// use candle_vision_data::samplers::ClassWeights;
///
/// let balanced: ClassWeights = serde_json::from_str("\"balanced\"")?;
/// assert_eq!(balanced.of(&[30, 10]), [20.0 / 30.0, 2.0]);
/// let given: ClassWeights = serde_json::from_str("[1.0, 2.5]")?;
/// assert_eq!(given.of(&[30, 10]), [1.0, 2.5]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum ClassWeights {
    /// By [`balanced_weights`].
    Balanced,
    /// One weight for each class.
    List(Vec<f64>),
}

/// The form in a recipe.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "it must be \"balanced\" or a list of numbers, one for each class")]
enum Written {
    Name(String),
    List(Vec<f64>),
}

const BALANCED: &str = "balanced";

impl TryFrom<Written> for ClassWeights {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::List(weights) => Ok(Self::List(weights)),
            Written::Name(name) if name == BALANCED => Ok(Self::Balanced),
            Written::Name(name) => {
                Err(format!("`{name}` are no weights of classes; give \"{BALANCED}\" or a list"))
            }
        }
    }
}

impl From<ClassWeights> for Written {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::Balanced => Self::Name(BALANCED.to_owned()),
            ClassWeights::List(weights) => Self::List(weights),
        }
    }
}

impl ClassWeights {
    /// The weight of each class, for classes of so many samples.
    pub fn of(&self, counts: &[usize]) -> Vec<f64> {
        match self {
            Self::Balanced => balanced_weights(counts),
            Self::List(weights) => weights.clone(),
        }
    }

    /// Checks that there is one weight for each class, that none is negative, and that not all are 0.
    pub(super) fn check(&self, classes: usize) -> Result<()> {
        let Self::List(weights) = self else { return Ok(()) };
        let is_weight = |weight: &f64| *weight >= 0.0 && weight.is_finite();
        let is_valid = weights.len() == classes
            && weights.iter().all(is_weight)
            && weights.iter().any(|weight| *weight > 0.0);
        if is_valid {
            return Ok(());
        }
        Err(invalid(format!(
            "has the weights {weights:?}; give {classes} numbers, one for each class, none negative and not all 0"
        )))
    }
}

/// The weight of each class with which all classes count the same: `samples / (classes * count)`, as scikit-learn's
/// `class_weight="balanced"`. `classes` is the number of classes that have samples. A class without samples has
/// weight 1.
///
/// ```
/// let weights = candle_vision_data::samplers::balanced_weights(&[90, 10]);
/// assert_eq!(weights, [100.0 / 180.0, 5.0]);
/// ```
pub fn balanced_weights(counts: &[usize]) -> Vec<f64> {
    let samples: usize = counts.iter().sum();
    let classes = counts.iter().filter(|count| **count > 0).count();
    let weight = |&count: &usize| match count {
        0 => 1.0,
        _ => samples as f64 / (classes as f64 * count as f64),
    };
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_without_samples_has_a_weight_and_no_share() {
        assert_eq!(balanced_weights(&[4, 0, 12]), [2.0, 1.0, 16.0 / 24.0]);
        assert_eq!(balanced_weights(&[]), [0.0; 0]);
    }

    #[test]
    fn other_words_are_errors_that_say_what_is_possible() {
        let error = serde_json::from_str::<ClassWeights>("\"even\"").unwrap_err().to_string();
        assert!(error.contains("`even`") && error.contains("\"balanced\" or a list"), "{error}");
        let error = serde_json::from_str::<ClassWeights>("true").unwrap_err().to_string();
        assert!(error.contains("\"balanced\" or a list"), "{error}");
    }
}
