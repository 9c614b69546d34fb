//! Which files of a sample are its image and its label.

use serde_json::Value;

use super::tar_index::{LabelText, Role, is_image};
use crate::datasets::image_table::labelling::Label;

/// The endings of the files of a sample.
pub(super) struct Members {
    image: Option<String>,
    label: Option<String>,
    key: String,
}

impl Members {
    /// `image` and `label` are endings. By default the image is the first file that is one, and the label is in `cls`,
    /// `cls.txt`, `label` or `json`. `key` is the field of the label in JSON.
    pub(super) fn new(image: Option<&str>, label: Option<&str>, key: &str) -> Self {
        let lower = |text: &str| text.trim_start_matches('.').to_lowercase();
        Self { image: image.map(lower), label: label.map(lower), key: key.to_owned() }
    }

    pub(super) fn role(&self, extension: &str) -> Role {
        const LABELS: [&str; 4] = ["cls", "cls.txt", "label", "json"];
        let rank = match &self.label {
            Some(label) => (label == extension).then_some(0),
            None => LABELS.iter().position(|label| *label == extension),
        };
        if let Some(rank) = rank {
            return Role::Label(rank);
        }
        let is_image = self.image.as_ref().map_or_else(|| is_image(extension), |i| i == extension);
        if is_image { Role::Image } else { Role::Other }
    }

    /// The labels in the content of their file, or what is wrong with it.
    pub(super) fn labels(&self, text: &LabelText) -> Result<Labelled, String> {
        match text {
            LabelText::Plain(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
                match text.trim() {
                    "" => Err("is empty".to_owned()),
                    text => Ok(Labelled::One(Label::of_text(text))),
                }
            }
            LabelText::Json(bytes) => {
                let value: Value = serde_json::from_slice(bytes)
                    .map_err(|error| format!("is no JSON ({error})"))?;
                let key = &self.key;
                let field = value.get(key).or(Some(&value).filter(|value| value.is_array()));
                if let Some(Value::Array(list)) = field {
                    let wrong = || {
                        format!(
                            "has a list `{key}` with an entry that is neither a name nor a whole number from 0"
                        )
                    };
                    let labels = list.iter().map(|label| Label::of_json(label).ok_or_else(wrong));
                    return Ok(Labelled::List(labels.collect::<Result<_, _>>()?));
                }
                let label = field.and_then(Label::of_json).map(Labelled::One);
                label.ok_or_else(|| {
                    format!("has no name, number or list of them in `{key}` of its JSON")
                })
            }
        }
    }
}

/// What a sample's file of labels says.
pub(super) enum Labelled {
    One(Label),
    /// Several labels or none.
    List(Vec<Label>),
}
