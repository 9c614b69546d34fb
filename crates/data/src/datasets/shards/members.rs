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

    /// The label in the content of its file, or what is wrong with it.
    pub(super) fn label(&self, text: &LabelText) -> Result<Label, String> {
        match text {
            LabelText::Plain(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
                match text.trim() {
                    "" => Err("is empty".to_owned()),
                    text => Ok(Label::of_text(text)),
                }
            }
            LabelText::Json(bytes) => {
                let value: Value = serde_json::from_slice(bytes)
                    .map_err(|error| format!("is no JSON ({error})"))?;
                let field = value.get(&self.key).and_then(Label::of_json);
                field.ok_or_else(|| format!("has no name or number `{}` in its JSON", self.key))
            }
        }
    }
}
