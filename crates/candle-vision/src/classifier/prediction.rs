//! What a classifier says of an image.

use crate::{Error, Result};

/// The probabilities of the classes for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The classes from the most probable to the least, with their numbers.
    ranking: Vec<(usize, String, f32)>,
    multi_label: bool,
}

impl Prediction {
    pub(super) fn new(
        probabilities: Vec<f32>,
        classes: &[String],
        multi_label: bool,
    ) -> Result<Self> {
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
        Ok(Self { ranking, multi_label })
    }

    /// Whether the image may have several of the classes, or none. Then the probabilities do not add up to 1.
    pub fn is_multi_label(&self) -> bool {
        self.multi_label
    }

    /// The labels of the image, the most probable first: the classes over 0.5 if it may have several, or else the most probable
    /// class.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let count = match self.multi_label {
            true => self.ranking.iter().take_while(|(.., probability)| *probability > 0.5).count(),
            false => 1,
        };
        self.ranking.iter().take(count).map(|(_, name, _)| name.as_str())
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
