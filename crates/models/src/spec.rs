//! What it takes to build a network again.

use candle_core::{Error, Result};
use candle_vision_registry::Description;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Networks;

/// Input size of a network that says nothing else: that of ImageNet's networks.
const USUAL_INPUT: [usize; 3] = [3, 224, 224];

/// Names a network and its sizes; stored in every checkpoint.
///
/// ```
/// use candle_vision_models::ModelSpec;
///
/// let spec = ModelSpec::new("resnet18", 10).input([3, 64, 64]);
/// assert_eq!((spec.architecture.as_str(), spec.num_classes), ("resnet18", 10));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelSpec {
    /// The name of a network in a table of [`Networks`].
    pub architecture: String,
    /// Number of classes: the width of the logits.
    pub num_classes: usize,
    /// `[channels, height, width]` of one input image. Convolutional networks with global
    /// pooling take other sizes as well.
    pub input: [usize; 3],
    /// Probability that dropout drops an element, where the network has dropout; its published
    /// value if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Whether an image may have several of the classes, or none. Then each class has a probability of its own, the sigmoid of
    /// its logit; otherwise the softmax shares it out among the classes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multi_label: bool,
    /// Options of a network of one's own, by name. The networks of this crate have none.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
}

impl ModelSpec {
    /// The network called `architecture` at the input size it was published for. For a network that is not
    /// of this crate, that is `[3, 224, 224]`; [`Networks::spec`] knows the size of registered ones.
    pub fn new(architecture: &str, num_classes: usize) -> Self {
        let published = Networks::built_in().get(architecture).map(|entry| entry.published_input());
        Self::of(architecture, num_classes, published.unwrap_or(USUAL_INPUT))
    }

    /// The same with an input size that is known: the rows of the table of networks need specs before there is a table.
    pub(crate) fn of(architecture: &str, num_classes: usize, input: [usize; 3]) -> Self {
        let architecture = architecture.to_owned();
        Self {
            architecture,
            num_classes,
            input,
            dropout: None,
            multi_label: false,
            settings: Map::new(),
        }
    }

    /// The same network for images of `[channels, height, width]`.
    pub fn input(mut self, input: [usize; 3]) -> Self {
        self.input = input;
        self
    }

    /// The same network with another probability of dropout, a fraction in `0.0..1.0`.
    pub fn dropout(mut self, probability: f64) -> Self {
        self.dropout = Some(probability);
        self
    }

    /// The same network for images that may have several of the classes, or none.
    pub fn multi_label(mut self, multi_label: bool) -> Self {
        self.multi_label = multi_label;
        self
    }

    /// The probability of one class, by the logits of an image.
    ///
    /// ```
    /// use candle_vision_models::ModelSpec;
    ///
    /// let spec = ModelSpec::new("resnet18", 2);
    /// assert_eq!(spec.probability(&[0.0, 0.0], 1), 0.5);
    /// assert!(spec.multi_label(true).probability(&[9.0, 9.0], 1) > 0.99);
    /// ```
    ///
    /// # Panics
    /// If `class` is not below the number of logits.
    pub fn probability(&self, logits: &[f32], class: usize) -> f64 {
        // The logit is subtracted from the others first. For a likely class this keeps every exponential finite. For an unlikely
        // class the sum may become infinite, and the probability is 0, as it should be.
        let own = f64::from(logits[class]);
        let others = |logit: &f32| (f64::from(*logit) - own).exp();
        match self.multi_label {
            true => 1.0 / (1.0 + (-own).exp()),
            false => 1.0 / logits.iter().map(others).sum::<f64>(),
        }
    }

    /// The same network with one more option of its own.
    ///
    /// ```
    /// use candle_vision_models::ModelSpec;
    ///
    /// let spec = ModelSpec::new("my_net", 10).setting("width", 1.5);
    /// #[derive(serde::Deserialize)]
    /// struct Options { width: f64 }
    /// assert_eq!(spec.parse_settings::<Options>()?.width, 1.5);
    /// # Ok::<(), candle_vision_models::candle_core::Error>(())
    /// ```
    pub fn setting(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// The settings as the struct of the network that they belong to.
    ///
    /// # Errors
    /// If a setting is missing, of another type, or unknown to a struct with `deny_unknown_fields`.
    pub fn parse_settings<T: DeserializeOwned>(&self) -> Result<T> {
        self.description().settings().map_err(Error::wrap)
    }

    /// For a network without settings: that none is given.
    pub(crate) fn require_no_settings(&self) -> Result<()> {
        self.description().no_settings().map_err(Error::wrap)
    }

    fn description(&self) -> Description {
        Description { name: self.architecture.clone(), settings: self.settings.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::ModelSpec;

    /// As checkpoints before this field have it.
    #[test]
    fn a_spec_without_settings_is_read_and_written_as_ever() {
        let old = r#"{"architecture":"gap_cnn","num_classes":2,"input":[3,32,32]}"#;
        let spec: ModelSpec = serde_json::from_str(old).unwrap();
        assert_eq!(spec, ModelSpec::new("gap_cnn", 2).input([3, 32, 32]));
        assert_eq!(serde_json::to_string(&spec).unwrap(), old);
        let own = spec.setting("width", 3);
        let json = serde_json::to_string(&own).unwrap();
        assert!(json.ends_with(r#""settings":{"width":3}}"#), "{json}");
        assert_eq!(serde_json::from_str::<ModelSpec>(&json).unwrap(), own);
    }
}
