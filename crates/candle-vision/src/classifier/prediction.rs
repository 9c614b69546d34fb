//! What a classifier says of an image.

use crate::{Error, Result};

/// The probabilities of the classes for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The classes from the most probable to the least, with their numbers.
    ranking: Vec<(usize, String, f32)>,
}

impl Prediction {
    pub(super) fn new(probabilities: Vec<f32>, classes: &[String]) -> Result<Self> {
        if let Some(value) = probabilities.iter().find(|value| !value.is_finite()) {
            return Err(Error::NotFinite { value: f64::from(*value) });
        }
        let name = |class: usize| classes.get(class).cloned().unwrap_or_else(|| class.to_string());
        let mut ranking: Vec<(usize, String, f32)> = probabilities
            .into_iter()
            .enumerate()
            .map(|(class, probability)| (class, name(class), probability))
            .collect();
        // The sort is stable: of equally probable classes the lower number comes first.
        ranking.sort_by(|a, b| b.2.total_cmp(&a.2));
        Ok(Self { ranking })
    }

    /// The name of the most probable class.
    pub fn class(&self) -> &str {
        self.ranking.first().map_or("", |(_, name, _)| name)
    }

    /// The number of the most probable class.
    pub fn index(&self) -> usize {
        self.ranking.first().map_or(0, |(class, ..)| *class)
    }

    /// The probability of the most probable class, a fraction.
    pub fn probability(&self) -> f32 {
        self.ranking.first().map_or(0.0, |(.., probability)| *probability)
    }

    /// The `k` most probable classes with their probabilities, the most probable first.
    pub fn top(&self, k: usize) -> impl Iterator<Item = (&str, f32)> {
        self.ranking.iter().take(k).map(|(_, name, probability)| (name.as_str(), *probability))
    }

    /// The probability of the class with this number, a fraction.
    pub fn of(&self, class: usize) -> Option<f32> {
        self.ranking.iter().find(|(index, ..)| *index == class).map(|(.., p)| *p)
    }
}
